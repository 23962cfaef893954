"""SMP: the prototypes of each class correct the labels, which are learned beside the given ones.

Han, Luo and Wang, "Deep Self-Learning From Noisy Labels", ICCV 2019. Algorithm 1, with epoch M counted from 1 and from
the start of warm-up:

  [1] M < start_epoch: cross-entropy with the given labels                                     (Eq. 3)
  [2] from there on, before every epoch: features of m samples a class -> its prototypes       (Eq. 5, 6, 7)
      (computed when the epoch before has ended, and once more after the last: what an epoch leaves in the trace, labels
      and prototypes, is of the network as that epoch left it)
  [3] corrected label of every training image: the class of the largest mean cosine            (Eq. 8, 9)
  [4] (1 - alpha) cross-entropy with the given + alpha cross-entropy with the corrected labels (Eq. 4)

Left open by the paper and chosen here: the start epoch; S_c by either reading of "ranked top 40%", an element of S with
its diagonal; where fewer than p samples are apart the densest others follow, as in the paper's first attempt; features of
plain views in eval mode; a class without samples has no prototypes and no label is corrected to it.
Verified labels (the paper's second setting) only choose prototypes: among the samples verified as the class, or given it
where none is. With `verified_role: finetune` (its third) they are cross-entropy's labels in the last epochs.
Table 2 is `pseudo_labels` of the first epoch that changes labels, and of the last. Table 3 is `samples_per_class` [m] of
320, 640, 1280, 2560; its "Initial" is the test accuracy of the first prototypes (`test_predictions_of_prototypes`). Table 4
is `selection: kmeans, density_peaks, densest_apart`; Fig. 4 `num_prototypes` [p] and `correction_weight` [alpha]. Their rows
"+ 25k verify" add verified labels.
Differs from the paper: the learning rate falls by epochs after warm-up; with a warm-up of 0 epochs it is the paper's.
Differs from the authors' code: none was published.
Shapes: n = training set, b = batch, d = features, k = classes that have prototypes.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.errors import ParamsError
from noisyctl.nn.inference import BATCH, evaluating
from noisyctl.parts import prototypes
from noisyctl.parts.schedules import step_decay
from noisyctl.parts.verified import verified_labels
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1, verified=True)


class Params(MethodParams):
    """`methods.smp` in params.yaml."""

    epochs: int = param(15, "after warm-up", source="SMP 4: Clothing1M; Food-101N: 30", ge=0)
    start_epoch: int = param(5, "of [2], from 1 and with warm-up", source="ours: not printed", ge=1)
    samples_per_class: int = param(1280, "at most, to choose prototypes from [m]", source="SMP 4", ge=1)
    num_prototypes: int = param(8, "of a class [p]", source="SMP 4", ge=1)
    selection: Literal["densest_apart", "density_peaks", "kmeans"] = param(
        "densest_apart", "how prototypes are chosen", source="SMP 3.3; the others: Table 4"
    )
    density_rank: Literal["40th", "60th"] = param(
        "40th", "percentile of the similarities that is near [S_c]", source="SMP 3.3; 60th: the other reading"
    )
    closeness_limit: float = param(0.95, "of a prototype to a denser sample [eta]", source="SMP 3.3")
    correction_weight: float = param(0.5, "of the corrected labels [alpha]", source="SMP 4.2", ge=0, le=1)
    batch_size: int = param(128, "images a step", source="SMP 4", ge=2)
    learning_rate: float = param(0.002, "at the start", source="SMP 4", gt=0)
    decay_period: int = param(5, "epochs to a tenth of it", source="SMP 4: Clothing1M; Food-101N: 10", ge=1)
    weight_decay: float = param(5e-3, "L2 penalty on all weights of the optimizer", source="SMP 4", ge=0)
    verified_role: Literal["prototypes", "finetune"] = param(
        "prototypes", "use of verified labels", source="SMP 4.1: second setting; finetune: third"
    )
    finetune_epochs: int = param(5, "of the last ones, for finetune", source="ours: not printed", ge=1)
    finetune_rate: float = param(2e-4, "learning rate, for finetune", source="ours: not printed", gt=0)


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    classes: Tensor  # [k], those that have prototypes; none before the first correction
    directions: Tensor  # [k d]
    corrected: Tensor  # [n], the labels of the next epoch
    num_classes: int
    last: dict[str, Tensor]  # the last trace: an epoch of finetune sees few of the samples


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    if params.verified_role == "finetune" and (verified_labels(task) >= 0).sum() < 2:
        raise ParamsError(
            "methods.smp.verified_role is 'finetune', which takes two verified training samples or more; "
            "give --verified, or choose 'prototypes'"
        )
    network = networks[0]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    given = task.noisy_labels.clone()
    state = State(network, optimizer, given[:0], torch.empty(0, 0), given, task.num_classes, last={})
    if task.warmup_epochs + 1 >= params.start_epoch:
        correct(state, task, params, rng)
    return state


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    milestones = range(params.decay_period, params.epochs, params.decay_period)
    rate = step_decay(epoch, milestones, params.learning_rate, 0.1)
    among, given, weight = task.train_index, task.noisy_labels, 0.0  # [1]
    finetuning = params.verified_role == "finetune" and epoch >= params.epochs - params.finetune_epochs
    if finetuning:
        rate, given = params.finetune_rate, verified_labels(task)
        among = (given >= 0).nonzero()[:, 0]
        state.corrected = torch.where(given >= 0, given, state.corrected)
    elif task.warmup_epochs + epoch + 1 >= params.start_epoch:
        weight = params.correction_weight
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate, correction_weight=weight)
    record.vectors |= state.last
    state.network.train()
    for index in task.batches(params.batch_size, rng, among=among):
        logits = state.network(task.weak(index, rng))
        losses = joint_cross_entropy(logits, given[index], state.corrected[index], weight)
        task.step(losses.mean(), state.optimizer)  # [4]
        record.add(index, losses=losses, predictions=logits)
    if not finetuning and task.warmup_epochs + epoch + 2 >= params.start_epoch:
        correct(state, task, params, rng)
    record.vectors["pseudo_labels"] = state.corrected
    state.last = record.vectors
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def predict_further(state: State, images: Tensor) -> dict[str, Float[Tensor, "b c"]]:
    """The mean cosine with each class's prototypes, -2 for a class without; NaN before the first correction."""
    found = torch.full((len(images), state.num_classes), torch.nan, device=images.device)
    if len(state.classes):
        seen = state.network.get_submodule("features")(images).float()
        found[:] = -2.0
        found[:, state.classes] = prototypes.class_similarity(seen, state.directions)
    return {"prototypes": found}


def correct(state: State, task: Task, params: Params, rng: Generator) -> None:
    """Prototypes of the network as it is [2], and the label that they give to every training image [3]."""
    state.classes, state.directions = class_directions(state.network, task, params, rng)
    state.corrected = corrected_labels(state.network, task, state.classes, state.directions)


def class_directions(
    network: nn.Module, task: Task, params: Params, rng: Generator
) -> tuple[Int[Tensor, " k"], Float[Tensor, "k d"]]:
    """The classes that have candidates, and the mean direction of each one's prototypes."""
    candidates = prototype_candidates(task, params)
    classes = candidates[candidates >= 0].unique()
    directions = []
    for c in classes:
        members = (candidates == c).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=rng, device=rng.device).to(members.device)
        found = features(network, task, members[order[: params.samples_per_class]])
        directions.append(prototypes.mean_direction(choose_prototypes(found, params, rng)))
    return classes, torch.stack(directions)


def choose_prototypes(found: Float[Tensor, "m d"], params: Params, rng: Generator) -> Float[Tensor, "p d"]:
    match params.selection:
        case "density_peaks":
            return prototypes.density_peaks(found, params.num_prototypes)
        case "kmeans":
            return prototypes.kmeans_centers(found, params.num_prototypes, rng)
    percent = {"40th": 40, "60th": 60}[params.density_rank]
    return prototypes.densest_apart(
        found, params.num_prototypes, percent=percent, limit=params.closeness_limit
    )


def prototype_candidates(task: Task, params: Params) -> Int[Tensor, " n"]:
    """The class that a sample may be a prototype of: its verified label, or the given one of a class without verified
    samples; -1 for none."""
    given, checked = task.noisy_labels.clone(), verified_labels(task)
    given[task.validation_index] = -1
    if params.verified_role == "finetune":
        return given
    return torch.where((checked >= 0) | torch.isin(given, checked), checked, given)


def corrected_labels(
    network: nn.Module, task: Task, classes: Int[Tensor, " k"], directions: Float[Tensor, "k d"]
) -> Int[Tensor, " n"]:
    """Eq. 8 and 9, for every training image."""
    found = [
        prototypes.class_similarity(features(network, task, index), directions).argmax(dim=1)
        for index in task.in_order(BATCH)
    ]
    return classes[torch.cat(found)]


def features(network: nn.Module, task: Task, index: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
    """Penultimate features of plain views, in eval mode."""
    with evaluating(network):
        call = network.get_submodule("features")
        return torch.cat([call(task.plain(part)).float() for part in index.split(BATCH)])


def joint_cross_entropy(
    logits: Float[Tensor, "b c"], given: Int[Tensor, " b"], corrected: Int[Tensor, " b"], weight: float
) -> Float[Tensor, " b"]:
    """Eq. 4 for each sample: `weight` on the corrected label."""
    of_given = cross_entropy(logits, given, reduction="none")
    return (1 - weight) * of_given + weight * cross_entropy(logits, corrected, reduction="none")
