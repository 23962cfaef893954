"""Co-divide: two networks divide the data for each other and learn from both sides by MixMatch.

What DivideMix (Li, Socher and Hoi, ICLR 2020, sections 3.1 and 3.2) and ScanMix, which takes it over, share. Both
divisions are made before either network learns. The learner makes targets in train mode, one forward a view, the peer in
eval mode. An epoch is one pass over the labeled side; unlabeled batches start again when used up.
Shapes: n = training set, t = its samples that are divided, l and u = labeled and unlabeled side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluating
from noisyctl.parts.mixing import mix_pair
from noisyctl.parts.mixmatch import labeled_side, make_targets, mixmatch, mixmatch_loss, two_sides, unit_range
from noisyctl.parts.mixture import scaled_clean_probability
from noisyctl.parts.schedules import linear
from noisyctl.parts.targets import average_probs, one_hot
from noisyctl.task import EpochRecord, MethodParams, Task, param

View = Callable[[Tensor, Generator], Tensor]


class CoDivideParams(MethodParams):
    """What a method that co-divides has in params.yaml. The values are DivideMix's."""

    epochs: int = param(291, "after warm-up", source="DivideMix code: 301 in all, CIFAR-10", ge=0)
    batch_size: int = param(64, "labeled images a step, and as many unlabeled", source="DivideMix code", ge=2)
    learning_rate: float = param(0.02, "before the decay", source="DivideMix 4.1", gt=0)
    decay_epoch: int = param(150, "counted with warm-up", source="DivideMix 4.1", ge=0)
    decay_factor: float = param(0.1, "of the learning rate", source="DivideMix 4.1", gt=0)
    weight_decay: float = param(5e-4, "", source="DivideMix 4.1", ge=0)
    clean_threshold: float = param(0.5, "[tau]", source="DivideMix 4.1; 0.6 at 90 %", ge=0, lt=1)
    averaged_losses: int = param(1, "epochs that are averaged", source="DivideMix code; 5 at 90 %", ge=1)
    temperature: float = param(0.5, "of the sharpening [T]", source="DivideMix 4.1", gt=0)
    mixing_alpha: float = param(4.0, "of the Beta of mixing weights [alpha]", source="DivideMix 4.1", gt=0)
    unlabeled_weight: float = param(25.0, "after the ramp [lambda_u]", source="DivideMix Table 7", ge=0)
    ramp_epochs: int = param(16, "of the unlabeled weight", source="DivideMix code", ge=0)
    prior_weight: float = param(1.0, "of the prior penalty [lambda_r]", source="DivideMix 4.1", ge=0)
    unlabeled: Literal["learned", "mixed_in"] = param(
        "learned", "mixed_in: only partners of labeled rows", source="DivideMix code: mixed_in beyond CIFAR"
    )


@dataclass(frozen=True)
class Division:
    """What both networks think of the samples at `index` at the start of an epoch; 0 for the others."""

    index: Int[Tensor, " t"]
    losses: Float[Tensor, "2 n"]
    probs: Float[Tensor, "n c"]  # mean of both
    predictions: Int[Tensor, "2 n"]
    clean: Float[Tensor, "2 n"]
    selected: Bool[Tensor, "2 t"]
    history: Float[Tensor, "epochs 2 t"]  # scaled losses of the last epochs, this one last

    def for_peer_of(self, network: int) -> tuple[Int[Tensor, " l"], Int[Tensor, " u"], Float[Tensor, " n"]]:
        """Labeled and unlabeled side and P(clean), as `network`, 0 or 1, found them: what the other one learns on."""
        return (*two_sides(self.index, self.selected[network]), self.clean[network])

    def record(self, task: Task, last: dict[str, Tensor], **scalars: float) -> EpochRecord:
        """For the trace: both networks' view of the data, their common prediction and their co-refined labels.

        Samples that are not divided keep their values of the `last` trace.
        """
        index = self.index
        record = EpochRecord(task, labeled_rate=float(self.selected.float().mean()), **scalars)
        record.vectors |= last
        for i in (0, 1):
            own = {"losses": self.losses[i, index], "clean_probability": self.clean[i, index]}
            record.add(index, network=i, selected=self.selected[i], **own)
        given = one_hot(task.noisy_labels[index], task.num_classes)
        refined = mix_pair(given, self.probs[index], self.clean[:, index].mean(dim=0))
        record.add(index, predictions=self.probs[index], pseudo_labels=refined.argmax(dim=1))
        return record


def optimizers_of(modules: Sequence[nn.Module], params: CoDivideParams) -> list[torch.optim.SGD]:
    """SGD with momentum for each (section 4.1)."""
    rate, decay = params.learning_rate, params.weight_decay
    return [torch.optim.SGD(m.parameters(), lr=rate, momentum=0.9, weight_decay=decay) for m in modules]


def no_history(task: Task) -> Float[Tensor, "0 2 t"]:
    """The history of losses before the first epoch."""
    return torch.zeros(0, 2, len(task.train_index), device=task.device)


def co_divide(
    networks: list[nn.Module],
    history: Tensor,
    task: Task,
    params: CoDivideParams,
    index: Int[Tensor, " t"],
    rng: Generator,
) -> Division:
    """Two Gaussians on each network's losses -> P(clean); labeled: above the threshold (section 3.1)."""
    losses, probs, predictions = opinions(networks, task, index)
    scaled = unit_range(losses[:, index])[None]
    if params.averaged_losses > 1:
        scaled = torch.cat([history, scaled])[-params.averaged_losses :]
    clean = torch.zeros_like(losses)
    clean[:, index] = torch.stack([scaled_clean_probability(row, rng) for row in scaled.mean(dim=0)])
    sides = [labeled_side(row, params.clean_threshold, params.batch_size) for row in clean[:, index]]
    return Division(index, losses, probs, predictions, clean, torch.stack(sides), scaled)


def opinions(
    networks: list[nn.Module], task: Task, index: Int[Tensor, " t"]
) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "n c"], Int[Tensor, "2 n"]]:
    """Losses with the given labels, mean prediction and predicted classes, on plain views in eval mode.

    Both networks see each block of images in turn, so that it is made once.
    """
    probs = torch.zeros(task.num_samples, task.num_classes, device=task.device)
    losses = torch.zeros(2, task.num_samples, device=task.device)
    predictions = torch.zeros_like(losses, dtype=torch.long)
    with evaluating(*networks):
        for part in task.in_order(among=index):
            images, labels = task.plain(part), task.noisy_labels[part]
            logits = [network(images).float() for network in networks]
            losses[:, part] = torch.stack([cross_entropy(z, labels, reduction="none") for z in logits])
            probs[part] = average_probs(*logits)
            predictions[:, part] = torch.stack(logits).argmax(dim=2)
    return losses, probs, predictions


def steps(
    learner: nn.Module,
    peer: nn.Module,
    division: tuple[Int[Tensor, " l"], Int[Tensor, " u"], Float[Tensor, " n"]],
    task: Task,
    params: CoDivideParams,
    epoch: int,
    rng: Generator,
    *,
    view: View,
    drop_last: bool = False,
) -> Iterator[Float[Tensor, ""]]:
    """The loss of each step of an epoch on the peer's division, computed when asked for: after the step before."""
    labeled, unlabeled, clean = division
    given, size = one_hot(task.noisy_labels, task.num_classes), params.batch_size
    others = task.endless(size, rng, among=unlabeled) if len(unlabeled) else repeat(unlabeled)
    batches = zip(task.batches(size, rng, among=labeled, drop_last=drop_last), others, strict=False)
    learner.train()
    peer.eval()
    for step, (index, other) in enumerate(batches):
        images = view(task.join(index, index, other, other), rng)
        targets = make_targets(
            learner, peer, images, given[index], clean[index], params.temperature
        )  # section 3.2
        images, targets = mixmatch(images, targets, params.mixing_alpha, rng)
        labeled_rows = 2 * len(index)
        rows = labeled_rows if params.unlabeled == "mixed_in" else len(images)
        weight = unlabeled_weight(epoch + step / (len(labeled) // size + 1), params)
        logits = learner(images[:rows])
        yield mixmatch_loss(logits, targets[:rows], labeled_rows, weight, params.prior_weight)


def unlabeled_weight(epoch: float, params: CoDivideParams) -> float:
    """lambda_u at an epoch and a fraction of it, counted from the end of warm-up."""
    return linear(epoch, 0, params.ramp_epochs, 0.0, params.unlabeled_weight)
