"""Two-Stage: keep only the labels that are probably right, then learn semi-supervised from all images.

The first stage trains a network on all given labels. Then a label is kept only if the network predicts it, and predicts it
either with confidence or with more confidence than for most other images of the class; the other images lose their label.
The second stage goes on from the same network, with labeled and unlabeled images, and also trains it to give an image
similar predictions under random perturbations (consistency).

Ding et al., "A Semi-Supervised Two-Stage Approach to Learning from Noisy Labels", WACV 2018. Steps:

  [1] stage 1: cross-entropy on all given labels, with classes balanced by oversampling              (3.1, 3.3)
  [2] selection: a label is kept where it is the prediction, and P(c|x) >= .9 or the image is among the 10% of its
      class with the largest P(c|x)                                                                  (3.1)
  [3] where the user has verified labels, a binary classifier for each class selects instead         (3.1)
  [4] the validation samples are selected by the same rules                                          (3.1, 4.2)
  [5] stage 2, from the weights of [1] that validate best: half of each batch is labeled, half is not   (3.2)
  [6] loss: mean -log z[y] of the labeled + alpha mean |z - z'|^2 of all images  (Eq. 2). z' is a second pass (pi) or the
      average of past outputs (temporal: Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017)
  [7] the learning rate is halved after 10 epochs without a better accuracy on the validation samples   (4.2)
  [8] no more learning after 20 such epochs, where the paper stops early                             (4.3)

The paper leaves open, and chosen here are:

  - All params with the source "ours".
  - In [6], z is the first pass, and gradients pass through both passes of pi.
  - Input noise, and the rate `dropout` of the network's dropout layers, act in stage 2 only.
  - [3] is a logistic regression on the features of [1]. Verified samples train with their verified labels. A class
    without a verified sample keeps [2].
  - A validation sample is never a verified one.
  - By default stage 2 is Laine and Aila's, from whom the paper borrows it: Adam, whose learning rate rises with the
    weight of the consistency from 0 and falls at the end. A fresh optimizer that starts at the first learning rate of
    stage 1 would erase what stage 1 has learned.

Table 1 is `keep_rate: 0.05, 0.1, 0.2, 0.5`, the least share of a class that is kept; with 1, all labels that the network
predicts are kept. The improved baseline of Table 3 is stage 1, in the epoch that predicts the selected validation samples
best.

Differs from the paper:
  - After an early stop the remaining epochs run without learning.
  - The average of past outputs is updated only for the images that an epoch draws.
Differs from the authors' code:
  - None was published.
Edge cases:
  - No label is kept: the loss is the consistency alone.
  - All labels are kept: labeled images fill both halves of a batch.
  - No validation sample is selected by [4]: all of them validate.
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
ROUNDING = 1e-6  # tolerance when a share of a count is rounded: .1 times a count is not exact in floats


class Params(MethodParams):
    """`methods.two_stage` in params.yaml."""

    epochs: int = param(
        240, "epochs of both stages together", source="4.2: CIFAR-10 120; ours: of each stage", ge=0
    )
    stage1_epochs: int = param(120, "epochs of stage 1", source="4.2: CIFAR-10; MNIST 40", ge=0)
    validation_rate: float = param(
        0.1,
        "share of the training samples that are held out; their noisy labels validate",
        source="4.2",
        gt=0,
        lt=1,
    )
    batch_size: int = param(
        128,
        "images in a batch; in stage 2 half of them are labeled [N]",
        source="ours: as Patrini et al.",
        ge=2,
    )
    epoch_batches: int = param(
        0,
        "batches in an epoch of stage 1, of samples drawn anew from all classes equally; 0: all samples",
        source="ours; 4.3: sub-epochs",
        ge=0,
    )
    optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "sgd",
        "optimizer of stage 1; sgd has momentum 0.9",
        source="4.2: CIFAR-10; MNIST adagrad; 4.3: Clothing1M adam",
    )
    learning_rate: float = param(0.1, "learning rate at the start of stage 1", source="4.2; 4.3: 3e-4", gt=0)
    stage2_optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "adam", "optimizer of stage 2, which starts anew", source="ours: Laine and Aila; 4.3: adam"
    )
    stage2_rate: float = param(
        0.003, "highest learning rate of stage 2", source="ours: Laine and Aila; 4.3: 3e-4", gt=0
    )
    stage2_schedule: Literal["ramps", "plateau"] = param(
        "ramps",
        "learning rate of stage 2; ramps: rises and falls with alpha, and Adam's beta1 falls from 0.9 to 0.5;"
        " plateau: [7]",
        source="ours: Laine and Aila; 4.3: plateau",
    )
    floor_rate: float = param(1e-7, "least learning rate on a plateau [7]", source="4.2", ge=0)
    plateau_epochs: int = param(
        10,
        "epochs without a better validation accuracy after which the learning rate is halved",
        source="4.2",
        ge=1,
    )
    patience_epochs: int = param(
        0,
        "epochs without a better validation accuracy that end the learning of a stage [8]; 0: never",
        source="4.2: 0; 4.3: 20",
        ge=0,
    )
    weight_decay: float = param(
        2e-4,
        "weight decay (L2 penalty) of the optimizer",
        source="ours: gradient of Patrini et al.'s L2 of 1e-4",
        ge=0,
    )
    handed_over: Literal["best", "last"] = param(
        "best",
        "weights of stage 1 that select samples and start stage 2: those of the best validation accuracy, or "
        "the last",
        source="ours",
    )
    confidence: float = param(
        0.9, "probability P(c|x) from which on a label is kept", source="3.1", ge=0, le=1
    )
    keep_rate: float = param(0.1, "least share of each class whose labels are kept", source="3.1", ge=0, le=1)
    keep_base: Literal["given", "consistent"] = param(
        "given",
        "images that this share is taken of; consistent: only those whose prediction is their label",
        source="ours: 3.1 is open",
    )
    keep_rounding: Literal["up", "down"] = param(
        "up", "rounding of the number of images that are kept at least", source="ours: 3.1 'if less than 10%'"
    )
    consistency: Literal["temporal", "pi"] = param(
        "temporal",
        "the second output z' in [6]: a second pass (pi), or the average of past outputs (temporal)",
        source="3.2; 4.3: pi",
    )
    consistency_weight: float = param(
        3.0,
        "weight of the consistency [alpha]; with ramps, its highest value",
        source="ours: Laine and Aila's 30, a mean of 10 classes; 4.3: 100",
        ge=0,
    )
    ramp_up_epochs: int = param(
        32,
        "first epochs of stage 2 in which alpha rises; 0: none",
        source="ours: their 80 of 300; 4.3: 0",
        ge=0,
    )
    ramp_down_epochs: int = param(
        20,
        "last epochs of stage 2 in which alpha falls; 0: none",
        source="ours: their 50 of 300; 4.3: 0",
        ge=0,
    )
    ensemble_momentum: float = param(
        0.6, "weight of the old average of past outputs", source="Laine and Aila", ge=0, lt=1
    )
    epoch_over: Literal["all", "labeled", "images"] = param(
        "all",
        "what an epoch of stage 2 sees once; images: as many images as the training set has, half of them "
        "labeled",
        source="ours: Laine and Aila; 4.3: labeled",
    )
    input_noise: float = param(
        0.15,
        "standard deviation of the Gaussian noise that stage 2 adds to normalized images",
        source="ours: Laine and Aila",
        ge=0,
    )
    dropout: float = param(
        0.2, "rate of the network's dropout layers in stage 2", source="ours: Patrini et al.", ge=0, lt=1
    )


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    plateau: dict[str, Any]  # the state of ReduceLROnPlateau; empty at the start of a stage
    best: dict[str, Tensor]  # the weights of stage 1 with the best validation accuracy; empty in stage 2
    best_accuracy: float
    waited: int  # epochs of the stage since the best accuracy
    labels: Tensor  # [n]: the given labels; in stage 2 the verified ones where there are any
    selected: Tensor  # [n]: samples whose labels count; in stage 1 all of them
    log_probs: Tensor  # [n c]: the output of each sample's last pass
    ensemble: Tensor  # [n c]: running average of probabilities, which starts at 0


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
    """One epoch of stage 1 [1]."""
    if params.epoch_batches:
        among = task.balanced(params.epoch_batches * params.batch_size, rng)
    else:
        among = oversampled(task.train_index, state.labels, task.num_classes, rng)
    for index in task.batches(params.batch_size, rng, among=among):
        log_probs = log_softmax(state.network(task.weak(index, rng)), dim=1)
        task.step(nll_loss(log_probs, state.labels[index]), state.optimizer)  # [1]
        state.log_probs[index] = log_probs.detach().float()


def hand_over(state: State, task: Task, params: Params) -> None:
    """The end of stage 1: select samples with its best weights (or its last ones).

    These weights are kept in `state.best` for stage 2. The network itself keeps its last weights until stage 2 begins.
    """
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
    """Start stage 2: the weights that stage 1 hands over, a new optimizer, and a new search for the best epoch."""
    if state.best:  # [5]
        state.network.load_state_dict(state.best)
    else:  # there was no stage 1: the network of the warm-up selects
        hand_over(state, task, params.model_copy(update={"handed_over": "last"}))
    state.optimizer, state.plateau = make_optimizer(state.network, params, 2), {}
    state.best, state.best_accuracy, state.waited = {}, -1.0, 0


def train_semi_supervised(state: State, task: Task, params: Params, weight: float, rng: Generator) -> None:
    """One epoch of stage 2 [5] [6]."""
    set_dropout(state.network, params.dropout)  # set in every epoch, since a checkpoint does not hold it
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
    """Log-probabilities of weak views with Gaussian noise on the normalized pixels."""
    images = task.weak(index, rng)
    noise = torch.randn(images.shape, generator=rng, device=images.device)
    return log_softmax(state.network(images + params.input_noise * noise), dim=1)


def halves(state: State, task: Task, params: Params, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of half batches: labeled positions, with balanced classes, and unlabeled ones.

    `epoch_over` says which of them an epoch passes over once. The other starts again in a new order whenever it is
    used up.
    """
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
    """Mask of the samples whose given label is kept [2].

    Where several samples of a class have the same probability, those at the first positions come first.
    """
    own = probs.gather(1, given[:, None])[:, 0]
    consistent = probs.argmax(dim=1) == given
    counts = given.bincount(minlength=probs.shape[1])
    base = counts if params.keep_base == "given" else given[consistent].bincount(minlength=probs.shape[1])
    share = params.keep_rate * base.double()
    least = (share - ROUNDING).ceil() if params.keep_rounding == "up" else (share + ROUNDING).floor()
    order = own.where(consistent, -1.0).argsort(descending=True, stable=True)
    rank = torch.empty_like(given)  # the rank of a sample in its class, by descending P(c|x)
    rank[order] = rank_in_class(given[order])
    return consistent & ((own >= params.confidence) | (rank < least[given]))


def ensemble_targets(ensemble: Float[Tensor, "b c"], own: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """The average of past outputs, corrected for its start from 0: Z / (1 - alpha^t).

    The divisor equals the sum of Z over the classes. Before a sample's first update its target is `own`, at a
    distance of 0.
    """
    total = ensemble.sum(dim=1, keepdim=True)
    return torch.where(total > 0, ensemble / total.where(total > 0, 1.0), own)


def ramps(epoch: int, params: Params) -> tuple[float, float]:
    """Two factors in an epoch of stage 2: exp(-5 (1 - t)^2), rising at its start; exp(-12.5 t^2), falling at its end."""
    down = params.ramp_down_epochs
    fallen = max(1 - (params.epochs - params.stage1_epochs - epoch) / down, 0) if down else 0
    return gaussian_ramp(epoch, params.ramp_up_epochs), math.exp(-12.5 * fallen**2)


def ramped_weight(epoch: int, params: Params) -> float:
    """alpha, the weight of the consistency, in an epoch of stage 2; 0 in stage 1 (negative epochs)."""
    return params.consistency_weight * math.prod(ramps(epoch, params)) if epoch >= 0 else 0.0


def set_ramped_rate(optimizer: torch.optim.Optimizer, epoch: int, params: Params) -> None:
    """Set the learning rate of an epoch of stage 2, and Adam's beta1, which falls from .9 to .5 (Laine and Aila's code)."""
    up, down = ramps(epoch, params)
    for group in optimizer.param_groups:
        group["lr"] = params.stage2_rate * up * down
        if "betas" in group:
            group["betas"] = (0.5 + 0.4 * down, group["betas"][1])


def validate(state: State, task: Task, params: Params, stage: int) -> float:
    """Accuracy on the selected validation samples, after an epoch.

    Keeps what follows from it: the best weights of stage 1, the epochs since the best one, and the learning rate [7].
    """
    index = task.validation_index
    state.log_probs[index] = log_softmax(logits_of(state.network, task, index), dim=1)
    trusted = index[state.selected[index]] if state.selected[index].any() else index
    accuracy = float((state.log_probs[trusted].argmax(dim=1) == state.labels[trusted]).double().mean())
    state.waited += 1
    if accuracy > state.best_accuracy:
        state.best_accuracy, state.waited = accuracy, 0
        if stage == 1:
            state.best = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    if (
        stage == 1 or params.stage2_schedule == "plateau"
    ):  # [7]; torch's patience is one epoch longer than its number
        patience, floor = params.plateau_epochs - 1, params.floor_rate
        state.plateau = halved_on_plateau(state.optimizer, state.plateau, accuracy, patience, floor)
    return accuracy


def make_optimizer(network: nn.Module, params: Params, stage: int) -> torch.optim.Optimizer:
    """A new optimizer for stage 1 or 2, at its first learning rate."""
    name, rate = params.optimizer, params.learning_rate
    if stage == 2:
        name, rate = params.stage2_optimizer, params.stage2_rate
    return OPTIMIZERS[name](network.parameters(), lr=rate, weight_decay=params.weight_decay)
