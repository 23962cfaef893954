"""Co-divide: two networks divide the data for each other and learn from both sides by MixMatch.

This is what DivideMix (Li, Socher and Hoi, ICLR 2020, sections 3.1 and 3.2) and ScanMix, which builds on it, have in
common. An epoch begins with `co_divide`: both networks compute the losses of all samples, and each divides the samples
into a labeled side (the label is probably right) and an unlabeled side. Both divisions are made before either network is
trained.

Then each network in turn is the learner, and trains with `steps` on the division that the other one, its peer, has made.
The learner produces targets in train mode, with one forward pass for each view; the peer produces them in eval mode. An
epoch is one pass over the labeled side. Unlabeled batches start again when they are used up.

Shapes: n = training set, t = the samples that are divided, l = labeled side, u = unlabeled side.
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
    """The params that DivideMix and ScanMix share. The values are DivideMix's."""

    epochs: int = param(291, "epochs after warm-up", source="DivideMix code: 301 in all, CIFAR-10", ge=0)
    batch_size: int = param(
        64, "labeled images in a batch; it has as many unlabeled ones", source="DivideMix code", ge=2
    )
    learning_rate: float = param(0.02, "learning rate before it falls", source="DivideMix 4.1", gt=0)
    decay_epoch: int = param(
        150,
        "epoch at which the learning rate falls, counted from the start of warm-up",
        source="DivideMix 4.1",
        ge=0,
    )
    decay_factor: float = param(0.1, "factor by which the learning rate falls", source="DivideMix 4.1", gt=0)
    weight_decay: float = param(
        5e-4, "weight decay (L2 penalty) of the optimizer", source="DivideMix 4.1", ge=0
    )
    clean_threshold: float = param(
        0.5, "P(clean) above which a sample is labeled [tau]", source="DivideMix 4.1; 0.6 at 90 %", ge=0, lt=1
    )
    averaged_losses: int = param(
        1,
        "number of epochs whose losses are averaged before the division",
        source="DivideMix code; 5 at 90 %",
        ge=1,
    )
    temperature: float = param(0.5, "temperature that sharpens the targets [T]", source="DivideMix 4.1", gt=0)
    mixing_alpha: float = param(
        4.0, "parameter of the Beta distribution of mixing weights [alpha]", source="DivideMix 4.1", gt=0
    )
    unlabeled_weight: float = param(
        25.0, "weight of the unlabeled rows' loss after its ramp [lambda_u]", source="DivideMix Table 7", ge=0
    )
    ramp_epochs: int = param(
        16,
        "epochs after warm-up in which the weight of the unlabeled rows' loss rises from 0",
        source="DivideMix code",
        ge=0,
    )
    prior_weight: float = param(
        1.0,
        "weight of the penalty on classes that are never predicted [lambda_r]",
        source="DivideMix 4.1",
        ge=0,
    )
    unlabeled: Literal["learned", "mixed_in"] = param(
        "learned",
        "use of unlabeled rows; mixed_in: only as mixing partners of labeled rows",
        source="DivideMix code: mixed_in beyond CIFAR",
    )


@dataclass(frozen=True)
class Divisions:
    """The two divisions of the samples at `index`, one by each network, made at the start of an epoch.

    The values of samples that are not divided are 0.
    """

    index: Int[Tensor, " t"]
    losses: Float[Tensor, "2 n"]
    probs: Float[Tensor, "n c"]  # the mean of both networks
    predictions: Int[Tensor, "2 n"]
    clean: Float[Tensor, "2 n"]
    selected: Bool[Tensor, "2 t"]
    history: Float[Tensor, "epochs 2 t"]  # scaled losses of the last epochs; this epoch's are the last

    def for_peer_of(self, network: int) -> tuple[Int[Tensor, " l"], Int[Tensor, " u"], Float[Tensor, " n"]]:
        """The division that `network` (0 or 1) has made, for the other network to learn on.

        Returns the positions of the labeled side, those of the unlabeled side, and P(clean) of all samples.
        """
        return (*two_sides(self.index, self.selected[network]), self.clean[network])

    def record(self, task: Task, last: dict[str, Tensor], **scalars: float) -> EpochRecord:
        """The epoch's record for the trace.

        It holds the losses, P(clean) and labeled side of each network, their common prediction and their co-refined
        labels. Samples that are not divided keep the values that they have in `last`, the last trace.
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
    """SGD with momentum for each module (section 4.1)."""
    rate, decay = params.learning_rate, params.weight_decay
    return [torch.optim.SGD(m.parameters(), lr=rate, momentum=0.9, weight_decay=decay) for m in modules]


def no_history(task: Task) -> Float[Tensor, "0 2 t"]:
    """The history of losses before the first epoch: empty."""
    return torch.zeros(0, 2, len(task.train_index), device=task.device)


def co_divide(
    networks: list[nn.Module],
    history: Tensor,
    task: Task,
    params: CoDivideParams,
    index: Int[Tensor, " t"],
    rng: Generator,
) -> Divisions:
    """Divide the samples at `index` by the losses of each network (section 3.1).

    Two Gaussians on a network's losses give P(clean); the labeled side is where it is above the threshold.
    """
    losses, probs, predictions = opinions(networks, task, index)
    scaled = unit_range(losses[:, index])[None]
    if params.averaged_losses > 1:
        scaled = torch.cat([history, scaled])[-params.averaged_losses :]
    clean = torch.zeros_like(losses)
    clean[:, index] = torch.stack([scaled_clean_probability(row, rng) for row in scaled.mean(dim=0)])
    sides = [labeled_side(row, params.clean_threshold, params.batch_size) for row in clean[:, index]]
    return Divisions(index, losses, probs, predictions, clean, torch.stack(sides), scaled)


def opinions(
    networks: list[nn.Module], task: Task, index: Int[Tensor, " t"]
) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "n c"], Int[Tensor, "2 n"]]:
    """Losses with the given labels, mean prediction, and predicted classes of both networks.

    They are made on plain views in eval mode. Each block of images is loaded once and shown to both networks.
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
    """The losses of an epoch's steps on the division of the peer.

    Each loss is computed when it is asked for, so the caller takes an optimizer step before it asks for the next one.
    """
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
    """lambda_u at a (fractional) epoch that is counted from the end of warm-up."""
    return linear(epoch, 0, params.ramp_epochs, 0.0, params.unlabeled_weight)
