"""A small label-free task on digits, and runs of it that can be compared."""

from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from noisyctl.nn.inference import evaluating, outputs
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.parts.neighbors import knn_classify, nearest
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training.checkpoint import pack
from noisyctl.training.loop import fit
from noisyctl.training.scratch import Scratch
from noisyctl.views import ImageViews

CPU = torch.device("cpu")
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=4,
    channels=1,
    size=(8, 8),
    num_outputs=16,
    head="projection",
)


class ToyViews(ImageViews):
    """The digits' views, SimCLR's in the place of MoCo's, weak ones in the place of strong ones."""

    def moco(self, images, rng):
        return self.simclr(images, rng)

    def strong(self, images, rng):
        return self.weak(images, rng)


class Pixels:
    """Views that leave the images alone."""

    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float()

    def weak(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return self.plain(images)

    simclr = moco = strong = weak


def digits(n: int, skip: int = 0) -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    images = torch.as_tensor(bunch.images[skip : skip + n] * 15.9).to(torch.uint8)[..., None]
    return images, torch.as_tensor(bunch.target[skip : skip + n])


def digits_task(n: int) -> Task:
    images = digits(n)[0]
    neighbors = nearest(images.flatten(1).float(), 5)
    return Task(images, ToyViews("digits", (0.3,), (0.4,)), 10, CPU, neighbors=neighbors)


def numbered(n: int, **known: Any) -> Task:
    """Images whose single pixel is their position."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return Task(images, Pixels(), 10, CPU, **known)


def run(method: Any, task: Task, params: Any, folder: Path, epochs: int | None = None) -> Any:
    """The state after so many epochs, or all of them."""
    return fit(
        method,
        [build(SPEC, stream(0, "init"))],
        task,
        params,
        name="test",
        epochs=params.epochs if epochs is None else epochs,
        seed=0,
        scratch=Scratch(folder, "mark"),
    ).state


def equal(state1: Any, state2: Any) -> bool:
    (tensors1, tree1), (tensors2, tree2) = pack(state1), pack(state2)
    same = tensors1.keys() == tensors2.keys() and tree1 == tree2
    return same and all(torch.equal(value, tensors2[name]) for name, value in tensors1.items())


def knn_accuracy(features: Any, task: Task) -> float:
    """Of views of 300 further digits, by 10 neighbors among the task's: random features tell plain digits, not views."""
    known = digits(task.num_samples)[1]
    images, labels = digits(300, skip=task.num_samples)
    with evaluating(features):
        database = outputs(features, task.images, task.views.plain)
        queries = features(task.views.simclr(images, stream(0, "queries")))
    return float((knn_classify(queries, database, known, 10, 10) == labels).float().mean())
