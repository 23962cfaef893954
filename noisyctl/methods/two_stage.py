"""Two-Stage: keep only the labels that are probably right, then learn semi-supervised from all images.

Ding et al., "A Semi-Supervised Two-Stage Approach to Learning from Noisy Labels", WACV 2018. Steps:

  [1] stage 1: cross-entropy on all given labels, classes balanced by oversampling           (3.1, 3.3)
  [2] selection: prediction = label, and P(c|x) >= .9 or among the first 10% of the class    (3.1)
  [3] where the user has verified labels, a binary classifier of each class selects instead  (3.1)
  [4] the validation samples are selected by the same rules                                  (3.1, 4.2)
  [5] stage 2, from the weights of [1] that validate best: batches of labeled and unlabeled halves   (3.2)
  [6] mean -log z[y] of the labeled + alpha mean |z - z'|^2 of all   (Eq. 2); z' is a second pass (pi) or the average of
      past outputs (temporal: Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017)
  [7] learning rate x .5 after 10 epochs without a better accuracy on the validation samples (4.2)
  [8] no more learning after 20 such epochs, where the paper stops early                     (4.3)

The paper leaves open, and ours are: Params with the source "ours"; z is the first pass, gradients reach both; noise, and
the rate `dropout` of the network's dropouts, in stage 2 only; [3] is logistic regression on the features of [1], verified
samples train with their verified labels, and a class without any keeps [2]. A validation sample is never a verified one.
By default stage 2 is Laine and Aila's, from whom the paper borrows it: Adam, whose rate rises with the weight of the
consistency from 0 and falls at the end. A fresh optimizer at the first rate of stage 1 erases what stage 1 has learned.
Where no label is left, z' alone teaches; where all are, labeled fill both halves; where [4] has none, all validate.
Table 1 is `keep_rate: 0.05, 0.1, 0.2, 0.5`: the least share of a class that is kept; with 1 all consistent labels are kept.
Stage 1, in the epoch that predicts the selected validation samples best, is Table 3's improved baseline.
Differs from the paper: after an early stop the epochs go on without learning. Averages move for the images drawn only.
Differs from the authors' code: none was published.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from noisyctl.nn.backbones import require_dropout, set_dropout
from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.sampling import oversampled
from noisyctl.parts.schedules import gaussian_ramp
from noisyctl.parts.supervised import OPTIMIZERS, halved_on_plateau, logits_of
from noisyctl.parts.targets import running_average
from noisyctl.parts.verified import judge
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, rank_in_class, state

NEEDS = Needs(networks=1, verified=True)
ROUNDING = 1e-6  # of .1 times a count


class Params(MethodParams):
    """`methods.two_stage` in params.yaml."""

    epochs: int = param(240, "of both stages", source="4.2: CIFAR-10 120; ours: of each stage", ge=0)
    stage1_epochs: int = param(120, "of these, stage 1", source="4.2: CIFAR-10; MNIST 40", ge=0)
    validation_rate: float = param(0.1, "share of samples that validate", source="4.2", gt=0, lt=1)
    batch_size: int = param(128, "images a step [N]", source="ours: as Patrini et al.", ge=2)
    epoch_batches: int = param(
        0,
        "of stage 1, class-balanced, drawn every epoch; 0: all samples",
        source="ours; 4.3: sub-epochs",
        ge=0,
    )
    optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "sgd", "of stage 1; sgd has momentum .9", source="4.2: CIFAR-10; MNIST adagrad; 4.3: Clothing1M adam"
    )
    learning_rate: float = param(0.1, "at the start of stage 1", source="4.2; 4.3: 3e-4", gt=0)
    stage2_optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "adam", "of stage 2, which starts anew", source="ours: Laine and Aila; 4.3: adam"
    )
    stage2_rate: float = param(
        0.003, "highest rate of stage 2", source="ours: Laine and Aila; 4.3: 3e-4", gt=0
    )
    stage2_schedule: Literal["ramps", "plateau"] = param(
        "ramps",
        "of this rate; ramps: those of alpha, and Adam's beta1 falls with it from .9 to .5; plateau: [7]",
        source="ours: Laine and Aila; 4.3: plateau",
    )
    floor_rate: float = param(1e-7, "least rate of a plateau", source="4.2", ge=0)
    plateau_epochs: int = param(10, "without improvement, then half the rate", source="4.2", ge=1)
    patience_epochs: int = param(
        0, "without improvement end a stage [8]; 0: never", source="4.2: 0; 4.3: 20", ge=0
    )
    weight_decay: float = param(
        2e-4,
        "L2 penalty on all weights of the optimizer",
        source="ours: gradient of Patrini et al.'s L2 of 1e-4",
        ge=0,
    )
    handed_over: Literal["best", "last"] = param(
        "best",
        "weights of stage 1 that select and go on: of its best validation accuracy, or last",
        source="ours",
    )
    confidence: float = param(0.9, "P(c|x) that keeps a label", source="3.1", ge=0, le=1)
    keep_rate: float = param(0.1, "share of a class that is kept at least", source="3.1", ge=0, le=1)
    keep_base: Literal["given", "consistent"] = param(
        "given", "of the images labeled so, or labeled and predicted so", source="ours: 3.1 is open"
    )
    keep_rounding: Literal["up", "down"] = param("up", "of that share", source="ours: 3.1 'if less than 10%'")
    consistency: Literal["temporal", "pi"] = param("temporal", "z' of [6]", source="3.2; 4.3: pi")
    consistency_weight: float = param(
        3.0, "without ramps [alpha]", source="ours: Laine and Aila's 30, a mean of 10 classes; 4.3: 100", ge=0
    )
    ramp_up_epochs: int = param(32, "of stage 2; 0: none", source="ours: their 80 of 300; 4.3: 0", ge=0)
    ramp_down_epochs: int = param(20, "of stage 2; 0: none", source="ours: their 50 of 300; 4.3: 0", ge=0)
    ensemble_momentum: float = param(0.6, "of past outputs", source="Laine and Aila", ge=0, lt=1)
    epoch_over: Literal["all", "labeled", "images"] = param(
        "all",
        "what an epoch of stage 2 sees once; images: as many images as there are, half of them labeled",
        source="ours: Laine and Aila; 4.3: labeled",
    )
    input_noise: float = param(0.15, "deviation, of normalized images", source="ours: Laine and Aila", ge=0)
    dropout: float = param(
        0.2, "of the network's dropouts in stage 2", source="ours: Patrini et al.", ge=0, lt=1
    )


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    plateau: dict[str, Any]  # of ReduceLROnPlateau; empty at the start of a stage
    best: dict[str, Tensor]  # weights of the stage's best validation accuracy
    best_accuracy: float
    waited: int  # epochs of the stage since then
    labels: Tensor  # [n]: the given ones; from stage 2 on the verified ones where there are
    selected: Tensor  # [n]: whose labels count, in stage 1 all
    log_probs: Tensor  # [n c]: of each sample's last pass
    ensemble: Tensor  # [n c]: running average of probabilities, from 0


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    if params.dropout and params.epochs > params.stage1_epochs:
        require_dropout(networks[0], "dropout", params.dropout)
    optimizer, labels = make_optimizer(networks[0], params, 1), task.noisy_labels.clone()
    zeros = torch.zeros(task.num_samples, task.num_classes, device=task.device)
    everything = torch.ones_like(labels, dtype=torch.bool)
    ensemble = zeros.clone()
    return State(networks[0], optimizer, {}, {}, -1.0, 0, labels, everything, zeros, ensemble)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    stage, start2 = (1 if epoch < params.stage1_epochs else 2), params.stage1_epochs
    if epoch == start2:
        begin_stage2(state, task, params)
    weight = ramped_weight(epoch - start2, params)
    if stage == 2 and params.stage2_schedule == "ramps":
        set_ramped_rate(state.optimizer, epoch - start2, params)
    rate = state.optimizer.param_groups[0]["lr"]
    state.network.train()
    stopped = 0 < params.patience_epochs <= state.waited  # [8]
    if not stopped and stage == 1:
        train_supervised(state, task, params, rng)
    elif not stopped:
        train_semi_supervised(state, task, params, weight, rng)
    accuracy = validate(state, task, params, stage)
    if epoch == start2 - 1:
        hand_over(state, task, params)
    record = EpochRecord(
        task, learning_rate=rate, consistency_weight=weight, validation_accuracy=accuracy, stage=float(stage)
    )
    losses = nll_loss(state.log_probs, task.noisy_labels, reduction="none")
    predictions, index = state.log_probs.argmax(dim=1), torch.arange(task.num_samples, device=task.device)
    record.add(index, losses=losses, clean_probability=(-losses).exp(), selected=state.selected)
    record.add(index, predictions=predictions, pseudo_labels=predictions)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def train_supervised(state: State, task: Task, params: Params, rng: Generator) -> None:
    if params.epoch_batches:
        among = task.balanced(params.epoch_batches * params.batch_size, rng)
    else:
        among = oversampled(task.train_index, state.labels, task.num_classes, rng)
    for index in task.batches(params.batch_size, rng, among=among):
        log_probs = log_softmax(state.network(task.weak(index, rng)), dim=1)
        task.step(nll_loss(log_probs, state.labels[index]), state.optimizer)  # [1]
        state.log_probs[index] = log_probs.detach().float()


def hand_over(state: State, task: Task, params: Params) -> None:
    """The end of stage 1: what selects, and what is selected. The network itself goes on from here in stage 2 only."""
    last = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    if params.handed_over == "last":
        state.best = last
    state.network.load_state_dict(state.best)
    logits, features = evaluate_train(state.network, task)
    state.network.load_state_dict(last)
    state.log_probs = log_softmax(logits, dim=1)
    for index in (task.train_index, task.validation_index):  # [2] [4]
        probs = state.log_probs[index].exp()
        state.selected[index] = select(probs, task.noisy_labels[index], params)
    if task.verified is not None:  # [3]
        judged, affirmed = judge(features, task.noisy_labels, task.verified)
        state.selected = torch.where(judged, affirmed, state.selected)
        state.labels[task.verified[0]], state.selected[task.verified[0]] = task.verified[1], True


def begin_stage2(state: State, task: Task, params: Params) -> None:
    if state.best:  # [5]
        state.network.load_state_dict(state.best)
    else:  # no stage 1: the warm-up's network selects
        hand_over(state, task, params.model_copy(update={"handed_over": "last"}))
    state.optimizer, state.plateau = make_optimizer(state.network, params, 2), {}
    state.best, state.best_accuracy, state.waited = {}, -1.0, 0


def train_semi_supervised(state: State, task: Task, params: Params, weight: float, rng: Generator) -> None:
    set_dropout(state.network, params.dropout)  # every epoch: a checkpoint does not hold it
    drawn = torch.zeros_like(state.selected)
    for labeled, unlabeled in halves(state, task, params, rng):  # [5]
        index = torch.cat([labeled, unlabeled])
        log_probs = perturbed(state, task, params, index, rng)
        if params.consistency == "pi":
            targets = perturbed(state, task, params, index, rng).exp()
        else:
            targets = ensemble_targets(state.ensemble[index], log_probs.detach().exp())
        known = log_probs[: len(labeled)]
        supervised = nll_loss(known, state.labels[labeled], reduction="sum") / max(len(labeled), 1)
        distances = (log_probs.exp() - targets).square().sum(dim=1)
        task.step(supervised + weight * distances.mean(), state.optimizer)  # [6]
        state.log_probs[index], drawn[index] = log_probs.detach().float(), True
    new = running_average(state.ensemble, state.log_probs.exp(), params.ensemble_momentum)
    state.ensemble = torch.where(drawn[:, None], new, state.ensemble)


def perturbed(
    state: State, task: Task, params: Params, index: Int[Tensor, " b"], rng: Generator
) -> Float[Tensor, "b c"]:
    images = task.weak(index, rng)
    noise = torch.randn(images.shape, generator=rng, device=images.device)
    return log_softmax(state.network(images + params.input_noise * noise), dim=1)


def halves(state: State, task: Task, params: Params, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Halves of batches, the labeled ones balanced. What the epoch is not over begins anew as often as it ends."""
    half, chosen = params.batch_size // 2, state.selected[task.train_index]
    labeled = oversampled(task.train_index[chosen], state.labels, task.num_classes, rng)
    unlabeled = labeled if chosen.all() else task.train_index[~chosen]
    if params.epoch_over == "images":
        steps = range(math.ceil(len(task.train_index) / (2 * half)))
        ours, theirs = task.endless(half, rng, among=labeled), task.endless(half, rng, among=unlabeled)
        return (pair for _, *pair in zip(steps, ours, theirs, strict=False))  # type: ignore[misc]
    if params.epoch_over == "labeled" or len(labeled) >= len(unlabeled):
        ours, theirs = task.batches(half, rng, among=labeled), task.endless(half, rng, among=unlabeled)
    else:
        ours, theirs = task.endless(half, rng, among=labeled), task.batches(half, rng, among=unlabeled)
    return zip(ours, theirs, strict=False)


def select(probs: Float[Tensor, "m c"], given: Int[Tensor, " m"], params: Params) -> Bool[Tensor, " m"]:
    """Whose labels are kept; among equal probabilities the first positions."""
    own = probs.gather(1, given[:, None])[:, 0]
    consistent = probs.argmax(dim=1) == given
    counts = given.bincount(minlength=probs.shape[1])
    base = counts if params.keep_base == "given" else given[consistent].bincount(minlength=probs.shape[1])
    share = params.keep_rate * base.double()
    least = (share - ROUNDING).ceil() if params.keep_rounding == "up" else (share + ROUNDING).floor()
    order = own.where(consistent, -1.0).argsort(descending=True, stable=True)
    rank = torch.empty_like(given)  # in the class, by descending P(c|x)
    rank[order] = rank_in_class(given[order])
    return consistent & ((own >= params.confidence) | (rank < least[given]))


def ensemble_targets(ensemble: Float[Tensor, "b c"], own: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Z / (1 - alpha^t), which is the sum of Z; before the first update `own`, at no distance."""
    total = ensemble.sum(dim=1, keepdim=True)
    return torch.where(total > 0, ensemble / total.where(total > 0, 1.0), own)


def ramps(epoch: int, params: Params) -> tuple[float, float]:
    """In an epoch of stage 2: exp(-5 (1 - t)^2) rising, exp(-12.5 t^2) falling."""
    down = params.ramp_down_epochs
    fallen = max(1 - (params.epochs - params.stage1_epochs - epoch) / down, 0) if down else 0
    return gaussian_ramp(epoch, params.ramp_up_epochs), math.exp(-12.5 * fallen**2)


def ramped_weight(epoch: int, params: Params) -> float:
    """alpha in an epoch of stage 2; 0 in stage 1."""
    return params.consistency_weight * math.prod(ramps(epoch, params)) if epoch >= 0 else 0.0


def set_ramped_rate(optimizer: torch.optim.Optimizer, epoch: int, params: Params) -> None:
    """The rate of an epoch of stage 2, and beta1 = .5 + .4 times what has not fallen yet (Laine and Aila's code)."""
    up, down = ramps(epoch, params)
    for group in optimizer.param_groups:
        group["lr"] = params.stage2_rate * up * down
        if "betas" in group:
            group["betas"] = (0.5 + 0.4 * down, group["betas"][1])


def validate(state: State, task: Task, params: Params, stage: int) -> float:
    """Accuracy on the selected validation samples, and what follows from it: rate, best weights, early stop."""
    index = task.validation_index
    state.log_probs[index] = log_softmax(logits_of(state.network, task, index), dim=1)
    trusted = index[state.selected[index]] if state.selected[index].any() else index
    accuracy = float((state.log_probs[trusted].argmax(dim=1) == state.labels[trusted]).double().mean())
    state.waited += 1
    if accuracy > state.best_accuracy:
        state.best_accuracy, state.waited = accuracy, 0
        if stage == 1:
            state.best = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    if stage == 1 or params.stage2_schedule == "plateau":  # [7]; torch waits for one epoch more
        patience, floor = params.plateau_epochs - 1, params.floor_rate
        state.plateau = halved_on_plateau(state.optimizer, state.plateau, accuracy, patience, floor)
    return accuracy


def make_optimizer(network: nn.Module, params: Params, stage: int) -> torch.optim.Optimizer:
    name, rate = params.optimizer, params.learning_rate
    if stage == 2:
        name, rate = params.stage2_optimizer, params.stage2_rate
    return OPTIMIZERS[name](network.parameters(), lr=rate, weight_decay=params.weight_decay)
