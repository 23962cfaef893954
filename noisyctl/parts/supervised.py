"""The supervised loop with a loss of its own: the whole method where a paper's contribution is a loss.

  weak views, the mean of a per-sample loss, SGD with momentum 0.9 and a cosine schedule

A method file keeps its citation, its Params with their sources, and its loss.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from noisyctl.parts.schedules import cosine
from noisyctl.task import EpochRecord, Task, state

LossesOf = Callable[[Tensor, Tensor], Tensor]  # logits [b c] and noisy labels [b] to one value a sample [b]


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


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Settings, rng: Generator) -> State:
    network = networks[0]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    return State(network, optimizer)


def run_epoch(
    state: State, task: Task, params: Settings, epoch: int, rng: Generator, *, losses_of: LossesOf
) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits = state.network(task.weak(index, rng))
        losses = losses_of(logits, task.noisy_labels[index])
        task.step(losses.mean(), state.optimizer)
        record.add(index, losses=losses, predictions=logits)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)
