"""Two-Stage: keep only the labels that are probably right, then learn semi-supervised from all images.

Ding et al., "A Semi-Supervised Two-Stage Approach to Learning from Noisy Labels", WACV 2018. Steps:

  [1] stage 1: cross-entropy on all given labels, classes balanced by oversampling           (3.1, 3.3)
  [2] selection: prediction = label, and P(c|x) >= .9 or among the first 10% of the class    (3.1)
  [3] where the user has verified labels, a binary classifier of each class selects instead  (3.1)
  [4] the validation samples are selected by the same rules                                  (3.1, 4.2)
  [5] stage 2, from the weights of [1]: batches of labeled and unlabeled halves              (3.2)
  [6] mean -log z[y] of the labeled + alpha mean |z - z'|^2 of all   (Eq. 2); z' is a second pass (pi) or the average of
      past outputs (temporal: Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017)
  [7] learning rate x .5 after 10 epochs without a better accuracy on the validation samples (4.2)

The paper leaves open, and ours are: Params with the source "ours"; optimizer and [7] start anew with stage 2; z is the first
pass, and gradients reach both; noise, and dropout of residual units, in stage 2 only; [3] is logistic regression on the
features of [1], its verified samples train with their verified labels, and a class without any keeps [2].
Where no label is left, z' alone teaches; where all are, labeled fill both halves; where [4] has none, all validate.
Table 1 is `keep_rate: 0.05, 0.1, 0.2, 0.5`: the least share of a class that is kept.
Differs from the paper: no early stop, since the trace keeps every epoch. The averages of the images drawn move, not of all.
Differs from the authors' code: none was published.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import log_softmax, nll_loss
from torch.optim import SGD, Adagrad, Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from noisyctl.nn.inference import BATCH, evaluate_train, evaluating
from noisyctl.parts.sampling import oversampled
from noisyctl.parts.schedules import gaussian_ramp
from noisyctl.parts.targets import running_average
from noisyctl.parts.verified import judge
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, rank_in_class, state

NEEDS = Needs(networks=1, verified=True)
ROUNDING = 1e-6  # of .1 times a count
OPTIMIZERS: dict[str, Any] = {"sgd": partial(SGD, momentum=0.9), "adagrad": Adagrad, "adam": Adam}


class Params(MethodParams):
    """`methods.two_stage` in params.yaml."""

    epochs: int = param(240, "of both stages", source="4.2: CIFAR-10 120; ours: of each stage", ge=0)
    stage1_epochs: int = param(120, "of these, stage 1", source="4.2: CIFAR-10; MNIST 40", ge=0)
    validation_rate: float = param(0.1, "share of samples that validate", source="4.2", gt=0, lt=1)
    batch_size: int = param(128, "images a step [N]", source="ours: as Patrini et al.", ge=2)
    optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "sgd", "momentum .9", source="4.2: CIFAR-10; MNIST adagrad; 4.3: Clothing1M adam"
    )
    learning_rate: float = param(0.1, "at the start of a stage", source="4.2; 4.3: 3e-4", gt=0)
    floor_rate: float = param(1e-7, "least learning rate", source="4.2", ge=0)
    plateau_epochs: int = param(10, "without improvement, then half the rate", source="4.2", ge=1)
    weight_decay: float = param(2e-4, "", source="ours: gradient of Patrini et al.'s L2 of 1e-4", ge=0)
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
    epoch_over: Literal["all", "labeled"] = param(
        "all", "what an epoch of stage 2 sees once", source="ours: Laine and Aila; 4.3: labeled"
    )
    input_noise: float = param(0.15, "deviation, of normalized images", source="ours: Laine and Aila", ge=0)
    dropout: float = param(0.2, "of the network's dropouts", source="ours: Patrini et al.", ge=0, lt=1)


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    plateau: dict[str, Any]  # of ReduceLROnPlateau; empty at the start of a stage
    labels: Tensor  # [n]: the given ones; from stage 2 on the verified ones where there are
    selected: Tensor  # [n]: whose labels count, in stage 1 all
    log_probs: Tensor  # [n c]: of each sample's last pass
    ensemble: Tensor  # [n c]: running average of probabilities, from 0


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    optimizer, labels = make_optimizer(networks[0], params), task.noisy_labels.clone()
    zeros = torch.zeros(task.num_samples, task.num_classes, device=task.device)
    everything = torch.ones_like(labels, dtype=torch.bool)
    return State(networks[0], optimizer, {}, labels, everything, log_probs=zeros, ensemble=zeros.clone())


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    if epoch == params.stage1_epochs:
        begin_stage2(state, task, params)
    weight = ramped_weight(epoch - params.stage1_epochs, params)
    rate = state.optimizer.param_groups[0]["lr"]
    state.network.train()
    if epoch < params.stage1_epochs:
        train_supervised(state, task, params, rng)
    else:
        train_semi_supervised(state, task, params, weight, rng)
    accuracy = validate(state, task, params)
    record = EpochRecord(task, learning_rate=rate, consistency_weight=weight, validation_accuracy=accuracy)
    losses = nll_loss(state.log_probs, task.noisy_labels, reduction="none")
    predictions, index = state.log_probs.argmax(dim=1), torch.arange(task.num_samples, device=task.device)
    record.add(index, losses=losses, clean_probability=(-losses).exp(), selected=state.selected)
    record.add(index, predictions=predictions, pseudo_labels=predictions)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def train_supervised(state: State, task: Task, params: Params, rng: Generator) -> None:
    among = oversampled(task.train_index, state.labels, task.num_classes, rng)
    for index in task.batches(params.batch_size, rng, among=among):
        log_probs = log_softmax(state.network(task.weak(index, rng)), dim=1)
        task.step(nll_loss(log_probs, state.labels[index]), state.optimizer)  # [1]
        state.log_probs[index] = log_probs.detach().float()


def begin_stage2(state: State, task: Task, params: Params) -> None:
    logits, features = evaluate_train(state.network, task)
    state.log_probs = log_softmax(logits, dim=1)
    for index in (task.train_index, task.validation_index):  # [2] [4]
        probs = state.log_probs[index].exp()
        state.selected[index] = select(probs, task.noisy_labels[index], params)
    if task.verified is not None:  # [3]
        trains = ~torch.isin(task.verified[0], task.validation_index)
        judging = task.verified[0][trains], task.verified[1][trains]  # those held out may only validate
        judged, affirmed = judge(features, task.noisy_labels, judging)
        state.selected = torch.where(judged, affirmed, state.selected)
        state.labels[task.verified[0]], state.selected[task.verified[0]] = task.verified[1], True
    state.optimizer, state.plateau = make_optimizer(state.network, params), {}


def train_semi_supervised(state: State, task: Task, params: Params, weight: float, rng: Generator) -> None:
    for module in state.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = params.dropout
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


def ramped_weight(epoch: int, params: Params) -> float:
    """In an epoch of stage 2: alpha exp(-5 (1 - t)^2) rising, exp(-12.5 t^2) falling; 0 in stage 1."""
    down = params.ramp_down_epochs
    fallen = max(1 - (params.epochs - params.stage1_epochs - epoch) / down, 0) if down else 0
    rising = gaussian_ramp(epoch, params.ramp_up_epochs) if epoch >= 0 else 0.0
    return params.consistency_weight * rising * math.exp(-12.5 * fallen**2)


def validate(state: State, task: Task, params: Params) -> float:
    """Accuracy on the selected validation samples, and what it does to the learning rate."""
    index = task.validation_index
    with evaluating(state.network):
        logits = torch.cat([state.network(task.plain(part)).float() for part in index.split(BATCH)])
    state.log_probs[index] = log_softmax(logits, dim=1)
    trusted = index[state.selected[index]] if state.selected[index].any() else index
    accuracy = float((state.log_probs[trusted].argmax(dim=1) == state.labels[trusted]).double().mean())
    patience, floor = params.plateau_epochs - 1, params.floor_rate  # torch waits for one epoch more
    plateau = ReduceLROnPlateau(state.optimizer, "max", 0.5, patience, threshold=0, min_lr=floor, eps=0)
    if state.plateau:
        plateau.load_state_dict(state.plateau)
    plateau.step(accuracy)  # [7]
    state.plateau = plateau.state_dict()
    return accuracy


def make_optimizer(network: nn.Module, params: Params) -> torch.optim.Optimizer:
    make, rate = OPTIMIZERS[params.optimizer], params.learning_rate
    return make(network.parameters(), lr=rate, weight_decay=params.weight_decay)
