"""Cross-entropy on the noisy labels as they are: what every method is compared with.

Steps:
  [1] weak views, mean cross-entropy with the given labels, SGD with a cosine schedule
Differs from the authors' code: no single source; the papers' tables use it with each paper's own schedule.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.schedules import cosine
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.cross_entropy` in params.yaml."""

    epochs: int = param(300, "after warm-up", source="MixNN VI-A", ge=0)
    batch_size: int = param(128, "images a step", source="MixNN VI-A", ge=2)
    learning_rate: float = param(0.02, "at the start of the cosine", source="MixNN VI-A", gt=0)
    weight_decay: float = param(1e-3, "", source="MixNN VI-A", ge=0)


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    network = networks[0]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    return State(network, optimizer)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits = state.network(task.weak(index, rng))
        losses = cross_entropy(logits, task.noisy_labels[index], reduction="none")
        task.step(losses.mean(), state.optimizer)  # [1]
        record.add(index, losses=losses, predictions=logits)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)
