"""Task: all that a method may see. It holds no clean labels, no noise rate and no test set."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from dataclasses import (
    dataclass as state,
)  # marks a method's State: all that survives an epoch, and what a checkpoint holds
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError, TrainingError
from noisyctl.params import MethodParams, Needs, param

__all__ = ["EpochRecord", "Method", "MethodParams", "Needs", "Task", "param", "state"]


@runtime_checkable
class Views(Protocol):
    """The views (augmentations) of a data set: each maps uint8 images [b h w ch] to float [b ch h w]."""

    def plain(self, images: Tensor) -> Tensor: ...
    def weak(self, images: Tensor, rng: Generator) -> Tensor: ...
    def strong(self, images: Tensor, rng: Generator) -> Tensor: ...
    def simclr(self, images: Tensor, rng: Generator) -> Tensor: ...
    def moco(self, images: Tensor, rng: Generator) -> Tensor: ...


@runtime_checkable
class Streamed(Protocol):
    """Images that stay in their files and are decoded when they are asked for.

    Inside the block of `prefetch(batches)`, the announced batches are decoded ahead. `join` makes one batch of
    several announced ones.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor, /) -> Tensor: ...
    def split(self, size: int) -> Iterator[Tensor]: ...
    def prefetch(self, batches: Sequence[Tensor]) -> AbstractContextManager[None]: ...
    def join(self, parts: Sequence[Tensor]) -> Tensor: ...


@dataclass
class Monitor:
    """Keeps the number of the first batch whose loss was not finite. It does so on the device, without waiting for it."""

    steps: int = 0
    first_bad: Tensor | None = None

    def observe(self, loss: Tensor) -> None:
        """Take note of the loss of one step."""
        step = torch.full((), self.steps, device=loss.device)
        bad = torch.where(torch.isfinite(loss.detach()), torch.full_like(step, -1), step)
        self.first_bad = (
            bad if self.first_bad is None else torch.where(self.first_bad >= 0, self.first_bad, bad)
        )
        self.steps += 1

    def check(self, epoch: int) -> None:
        """Call this after each epoch. Raises TrainingError, which names the epoch and the batch, after a bad loss."""
        bad = -1 if self.first_bad is None else int(self.first_bad)
        self.steps, self.first_bad = 0, None
        if bad >= 0:
            raise TrainingError(
                f"the loss is not finite in epoch {epoch}, batch {bad}; lower learning_rate. "
                "The last good checkpoint is kept"
            )


@dataclass(frozen=True)
class Task:
    """The images and noisy labels of the training set, on one device.

    `images` are uint8 [n h w ch]: a tensor, or files that are decoded ahead of their use. `held_out` are the
    positions of samples that are not trained on and whose noisy labels validate. `verified` are positions of samples,
    and the labels that the user has checked for them. `neighbors` [n k] and `similarity` [n k] are the mined
    neighbors, if a method needs them.
    """

    images: Tensor | Streamed | None
    views: Views | None
    num_classes: int
    device: torch.device
    labels: Tensor | None = None
    neighbors: Tensor | None = None
    similarity: Tensor | None = None
    warmup_epochs: int = 0
    held_out: Tensor | None = None
    verified: tuple[Tensor, Tensor] | None = None
    monitor: Monitor = field(default_factory=Monitor)

    def __post_init__(self) -> None:
        if self.verified is not None and self.held_out is not None:
            both = self.held_out[torch.isin(self.held_out, self.verified[0])].tolist()
            if both:
                raise ParamsError(
                    f"{len(both)} verified samples are also held out for validation, the first at position {both[0]}; "
                    "held-out samples validate with their noisy labels, verified ones train; hold out or verify others"
                )

    @property
    def noisy_labels(self) -> Int[Tensor, " n"]:
        """The noisy labels. Raises TrainingError in label-free work, which has none."""
        if self.labels is None:
            raise TrainingError("label-free work asked for labels")
        return self.labels

    @property
    def num_samples(self) -> int:
        """Number of samples in the training set, with the held-out ones."""
        return len(self.images) if self.images is not None else len(self.noisy_labels)

    @functools.cached_property
    def train_index(self) -> Int[Tensor, " t"]:
        """Positions of the samples that train: all but the held-out ones."""
        kept = torch.ones(self.num_samples, dtype=torch.bool, device=self.device)
        if self.held_out is not None:
            kept[self.held_out] = False
        return kept.nonzero()[:, 0]

    @property
    def validation_index(self) -> Int[Tensor, " v"]:
        """Positions of the held-out samples; empty without a validation rate."""
        return torch.arange(0, device=self.device) if self.held_out is None else self.held_out

    def plain(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b ch h w"]:
        """The images at `index` without augmentation."""
        images, views = self._seen()
        return views.plain(images[index])

    def weak(self, index: Int[Tensor, " b"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """A weak view of the images at `index`: random crops and flips."""
        images, views = self._seen()
        return views.weak(images[index], rng)

    def strong(self, index: Int[Tensor, " b"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """A strong view: random operations and a cut-out, drawn as in ScanMix's code."""
        images, views = self._seen()
        return views.strong(images[index], rng)

    def simclr(self, index: Int[Tensor, " b"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """A view as SimCLR draws it."""
        images, views = self._seen()
        return views.simclr(images[index], rng)

    def moco(self, index: Int[Tensor, " b"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """A view as MoCo v2 draws it."""
        images, views = self._seen()
        return views.moco(images[index], rng)

    def _shuffled(self, index: Int[Tensor, " m"], rng: Generator) -> Int[Tensor, " m"]:
        return index[torch.randperm(len(index), generator=rng, device=rng.device).to(self.device)]

    def _seen(self) -> tuple[Tensor | Streamed, Views]:
        if self.images is None or self.views is None:
            raise TrainingError(
                "this method trains on images, and the data set has only features; use knn_vote"
            )
        return self.images, self.views

    def balanced(self, size: int, rng: Generator) -> Int[Tensor, " m"]:
        """Positions of at most `size` training samples, the same number of every noisy class, drawn anew for an epoch.

        With size 0 they are all training samples. No sample is drawn twice; a class with fewer samples contributes all of
        them (as in DivideMix's code for Clothing1M).
        """
        if not size:
            return self.train_index
        order = self._shuffled(self.train_index, rng)
        share = math.ceil(size / self.num_classes)
        return order[rank_in_class(self.noisy_labels[order]) < share][:size]

    def batches(
        self,
        batch_size: int,
        rng: Generator,
        *,
        among: Int[Tensor, " m"] | None = None,
        drop_last: bool = False,
    ) -> Iterator[Int[Tensor, " b"]]:
        """The training samples, or those `among`, in a random order, in batches of positions.

        A last batch of a single sample is joined to the batch before it, because batch norm needs two.
        """
        batches = self._cut(among, batch_size, rng, drop_last)
        with self._announced(batches):
            yield from batches

    def batches_with(
        self,
        partners: Int[Tensor, "n *k"],
        batch_size: int,
        rng: Generator,
        *,
        among: Int[Tensor, " m"] | None = None,
        drop_last: bool = False,
    ) -> Iterator[tuple[Int[Tensor, " b"], Int[Tensor, "b *k"]]]:
        """The same batches, each with the rows of `partners` for its samples.

        The partners are positions of samples whose images the step sees as well, such as neighbors.
        """
        batches = self._cut(among, batch_size, rng, drop_last)
        pairs = [(index, partners[index]) for index in batches]
        with self._announced([part.ravel() for pair in pairs for part in pair]):
            yield from pairs

    def join(self, *parts: Int[Tensor, " _"]) -> Int[Tensor, " b"]:
        """Several batches as one, for the views of a step.

        Use it, not torch.cat: images that stay in files then know that these batches were announced.
        """
        return self.images.join(parts) if isinstance(self.images, Streamed) else torch.cat(parts)

    def _cut(
        self, among: Int[Tensor, " m"] | None, batch_size: int, rng: Generator, drop_last: bool
    ) -> list[Int[Tensor, " b"]]:
        batches = list(self._shuffled(self.train_index if among is None else among, rng).split(batch_size))
        if len(batches) > 1 and drop_last and len(batches[-1]) < batch_size:
            batches.pop()
        elif len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _announced(self, batches: Sequence[Tensor]) -> AbstractContextManager[None]:
        """While the loop over these batches lasts, images that stay in files are decoded ahead."""
        if isinstance(self.images, Streamed):
            return self.images.prefetch(batches)
        return contextlib.nullcontext()

    def endless(
        self, batch_size: int, rng: Generator, *, among: Int[Tensor, " m"]
    ) -> Iterator[Int[Tensor, " b"]]:
        """Batches of the samples `among` without end; every pass over them has a new random order.

        `among` must hold at least one sample.
        """
        while True:
            yield from self.batches(batch_size, rng, among=among)

    def in_order(
        self, batch_size: int = 1024, *, among: Int[Tensor, " m"] | None = None
    ) -> Iterator[Int[Tensor, " b"]]:
        """Batches of all samples, the held-out ones too, in order; or of the samples `among`, in their order."""
        everything = torch.arange(self.num_samples, device=self.device)
        batches = list((everything if among is None else among).split(batch_size))
        with self._announced(batches):
            yield from batches

    def step(self, loss: Float[Tensor, ""], *optimizers: torch.optim.Optimizer) -> None:
        """One step of the optimizers: zero_grad, backward, step.

        A loss that is not finite is noted; the runner learns of it at the end of the epoch. Autocast is switched off
        here, since gradients have the precision of their forward pass anyway.
        """
        self.monitor.observe(loss)
        with torch.autocast(loss.device.type, enabled=False):
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    @staticmethod
    def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
        """Set the learning rate of all parameter groups."""
        for group in optimizer.param_groups:
            group["lr"] = rate


def rank_in_class(labels: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """For each sample, how many samples before it have the same label."""
    order, counts = labels.argsort(stable=True), labels.bincount()
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels), device=labels.device)
    return rank - (counts.cumsum(dim=0) - counts)[labels]


class EpochRecord:
    """What an epoch leaves for the trace: scalars, and vectors with one value per training sample.

    The names must be the same in every epoch.
    """

    def __init__(self, task: Task, **scalars: float) -> None:
        self._task = task
        self.scalars: dict[str, float] = scalars
        self.vectors: dict[str, Tensor] = {}

    def add(self, index: Int[Tensor, " b"], *, network: int | None = None, **values: Tensor) -> None:
        """Store values of the samples at `index`.

        `predictions` may be logits [b c], of which the argmax is kept. With `network`, 0 or 1, the trace gets an axis for
        the network.
        """
        for name, value in values.items():
            value = value.detach()
            if name == "predictions" and value.ndim == 2:
                value = value.argmax(dim=1)
            if name not in self.vectors:
                shape = (self._task.num_samples,) if network is None else (2, self._task.num_samples)
                self.vectors[name] = torch.zeros(shape, dtype=value.dtype, device=self._task.device)
            (self.vectors[name] if network is None else self.vectors[name][network])[index] = value


@runtime_checkable
class Method(Protocol):
    """The names that a method's module must have; modules are checked against this."""

    NEEDS: Needs

    def start(self, networks: list[nn.Module], task: Task, params: Any, rng: Generator) -> Any: ...
    def run_epoch(self, state: Any, task: Task, params: Any, epoch: int, rng: Generator) -> EpochRecord: ...
    def predict(self, state: Any, images: Tensor) -> Tensor: ...


@runtime_checkable
class PredictsFurther(Protocol):
    """A method with classifiers beside `predict`, such as a second network.

    After every epoch their predictions on held-out images go to the trace, under the names that `predict_further`
    gives; the method never sees them. Logits that are not finite mean that there is no prediction.
    """

    def predict_further(self, state: Any, images: Tensor) -> dict[str, Tensor]: ...


Reporter = Callable[[int, int, Mapping[str, float]], None]
Modules = Sequence[nn.Module]
