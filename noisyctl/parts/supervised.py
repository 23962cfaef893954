"""The ordinary supervised loop with a loss of the method's own, for papers whose contribution is a loss.

In an epoch every training image is seen once in a weak view, and the mean of a per-sample loss is minimized by an
optimizer whose learning rate follows a schedule. Where samples are held out for validation, the mean loss and the
accuracy on their noisy labels are measured after every epoch.

A method file keeps its citation, its Params with their sources, and its loss. For the rows of a paper's table, optimizer
and schedule are set to those of the paper that ran the baseline.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adagrad, Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from noisyctl.errors import ParamsError
from noisyctl.nn.inference import BATCH, evaluating
from noisyctl.parts.schedules import cosine, step_decay
from noisyctl.task import EpochRecord, MethodParams, Task, param, state

LossesOf = Callable[[Tensor, Tensor], Tensor]  # logits [b c] and noisy labels [b] to one value per sample [b]
OPTIMIZERS: dict[str, Any] = {
    "sgd": partial(SGD, momentum=0.9),
    "adagrad": partial(Adagrad, fused=True),
    "adam": partial(Adam, fused=True),
}


class SupervisedParams(MethodParams):
    """The params that the loop reads beside the fields that every method sets itself."""

    optimizer: Literal["sgd", "adagrad", "adam"] = param(
        "sgd", "optimizer; sgd has momentum 0.9", source="Patrini code: CIFAR-10; MNIST adagrad"
    )
    schedule: Literal["cosine", "plateau", "steps"] = param(
        "cosine",
        "learning rate; plateau: halved after `plateau_epochs` without a better validation accuracy; steps: a"
        " tenth at each of `step_epochs`",
        source="ours: cosine; Two-Stage 4.2: plateau; Patrini code: steps on CIFAR-10",
    )
    plateau_epochs: int = param(
        10,
        "epochs without a better validation accuracy after which the learning rate is halved, with schedule "
        "plateau",
        source="Two-Stage 4.2",
        ge=1,
    )
    floor_rate: float = param(
        0.0, "least learning rate, with schedule plateau", source="Two-Stage 4.2: 1e-7", ge=0
    )
    step_epochs: list[int] = param(
        [41, 81],
        "epochs at which the learning rate falls to a tenth, with schedule steps",
        source="Patrini code: CIFAR-10",
    )
    decayed: Literal["all", "kernels"] = param(
        "all",
        "weights that weight decay acts on; kernels: neither biases nor batch norm",
        source="ours; Patrini code: kernels",
    )


@runtime_checkable
class Settings(Protocol):
    """What the loop reads of a method's Params."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def schedule(self) -> str: ...
    @property
    def plateau_epochs(self) -> int: ...
    @property
    def floor_rate(self) -> float: ...
    @property
    def step_epochs(self) -> list[int]: ...
    @property
    def decayed(self) -> str: ...


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    plateau: dict[str, Any]  # the state of ReduceLROnPlateau; empty at the start


def start(networks: list[nn.Module], task: Task, params: Settings, rng: Generator) -> State:
    """The state before the first epoch. Raises ParamsError if the schedule needs validation samples and there are none."""
    require_validation(task, params)
    return State(networks[0], make_optimizer(networks[0], params), {})


@runtime_checkable
class Rates(Protocol):
    """What `start_sgd` reads of a method's Params."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def start_sgd(networks: list[nn.Module], task: Task, params: Rates, rng: Generator) -> State:
    """The state of a method with a loop and a schedule of its own: one network, and SGD with momentum 0.9."""
    optimizer = OPTIMIZERS["sgd"](
        networks[0].parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    return State(networks[0], optimizer, {})


def require_validation(task: Task, params: Settings) -> None:
    """Raises ParamsError if the schedule follows the validation accuracy and no samples are held out."""
    if params.schedule == "plateau" and not len(task.validation_index):
        raise ParamsError(
            "schedule is 'plateau', which follows the accuracy on held-out noisy labels, and validation_rate is 0; "
            "set validation_rate, for example 0.1, or choose schedule cosine"
        )


def make_optimizer(network: nn.Module, params: Settings) -> torch.optim.Optimizer:
    """The optimizer, at its first learning rate. Kernels are the weights with more than one axis."""
    weights = list(network.parameters())
    groups: list[dict[str, Any]] = [{"params": weights}]
    if params.decayed == "kernels":
        groups = [
            {"params": [p for p in weights if p.ndim > 1]},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
    make = OPTIMIZERS[params.optimizer]
    return make(groups, lr=params.learning_rate, weight_decay=params.weight_decay)


def run_epoch(
    state: State, task: Task, params: Settings, epoch: int, rng: Generator, *, losses_of: LossesOf
) -> EpochRecord:
    """One epoch of training with `losses_of`, which maps logits [b c] and labels [b] to losses [b].

    The trace has the losses and predictions, the learning rate and, with held-out samples, validation_loss and
    validation_accuracy.
    """
    set_rate(state.optimizer, task, params, epoch)
    record = EpochRecord(task, learning_rate=state.optimizer.param_groups[0]["lr"])
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits = state.network(task.weak(index, rng))
        losses = losses_of(logits, task.noisy_labels[index])
        task.step(losses.mean(), state.optimizer)
        record.add(index, losses=losses, predictions=logits)
    if len(task.validation_index):
        index = task.validation_index
        logits = logits_of(state.network, task, index)
        right = logits.argmax(dim=1) == task.noisy_labels[index]
        record.scalars["validation_loss"] = float(losses_of(logits, task.noisy_labels[index]).mean())
        record.scalars["validation_accuracy"] = float(right.double().mean())
        follow(state, params, record.scalars["validation_accuracy"])
    return record


def set_rate(optimizer: torch.optim.Optimizer, task: Task, params: Settings, epoch: int) -> None:
    """Set the learning rate of an epoch; with schedule plateau it stays as `follow` has left it."""
    if params.schedule == "cosine":
        task.set_learning_rate(optimizer, cosine(epoch, params.epochs, params.learning_rate))
    elif params.schedule == "steps":
        task.set_learning_rate(optimizer, step_decay(epoch, params.step_epochs, params.learning_rate, 0.1))


def follow(state: State, params: Settings, accuracy: float) -> None:
    """With schedule plateau: halve the learning rate after `plateau_epochs` without a better accuracy.

    Other schedules are not affected.
    """
    if params.schedule == "plateau":
        patience = params.plateau_epochs - 1  # torch's patience is one epoch longer than its number
        state.plateau = halved_on_plateau(
            state.optimizer, state.plateau, accuracy, patience, params.floor_rate
        )


def halved_on_plateau(
    optimizer: torch.optim.Optimizer, before: dict[str, Any], accuracy: float, patience: int, floor: float
) -> dict[str, Any]:
    """Give ReduceLROnPlateau one more accuracy; returns the state that it needs for the next one.

    `before` is the state it returned last, or empty at the start.
    """
    plateau = ReduceLROnPlateau(optimizer, "max", 0.5, patience, threshold=0, min_lr=floor, eps=0)
    if before:
        plateau.load_state_dict(before)
    plateau.step(accuracy)
    return plateau.state_dict()


def logits_of(network: nn.Module, task: Task, index: Int[Tensor, " m"]) -> Float[Tensor, "m c"]:
    """The logits of some samples, on plain views, in float32 and in eval mode."""
    with evaluating(network):
        return torch.cat([network(task.plain(part)).float() for part in task.in_order(BATCH, among=index)])


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)
