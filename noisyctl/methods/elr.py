"""ELR: a penalty that keeps predictions near what the network believed early on.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020. Steps:

  [1] targets: running average of the predictions of each sample      (Eq. 9), updated before use
  [2] loss: cross-entropy + lambda mean log(1 - <target, prediction>) (Eq. 6)
Differs from the paper: a cosine schedule instead of the paper's steps (`ours`).
Differs from the authors' code: nothing known in the loss; it clamps predictions to [1e-4, 1 - 1e-4], as here.
Shapes: b = batch, c = classes.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.early_learning import clamped_softmax, early_learning_penalty
from noisyctl.parts.schedules import cosine
from noisyctl.parts.targets import running_average
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.elr` in params.yaml."""

    epochs: int = param(
        120, "after warm-up", source="official code: CIFAR-10 asymmetric 120, symmetric 150", ge=0
    )
    batch_size: int = param(128, "images a step", source="ELR appendix", ge=2)
    learning_rate: float = param(0.02, "at the start of the cosine", source="ELR appendix", gt=0)
    weight_decay: float = param(
        1e-3, "L2 penalty on all weights of the optimizer", source="ELR appendix", ge=0
    )
    target_momentum: float = param(
        0.7, "weight of the old target [beta]", source="official code: CIFAR-10 symmetric", ge=0, lt=1
    )
    penalty_weight: float = param(3.0, "[lambda]", source="official code: CIFAR-10 symmetric", ge=0)


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    targets: Tensor  # [n c]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    network = networks[0]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    return State(network, optimizer, torch.zeros(task.num_samples, task.num_classes, device=task.device))


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits = state.network(task.weak(index, rng))
        probs = clamped_softmax(logits)
        own = (probs / probs.sum(dim=1, keepdim=True)).detach()
        state.targets[index] = running_average(state.targets[index], own, params.target_momentum)  # [1]
        losses = cross_entropy(logits, task.noisy_labels[index], reduction="none")
        penalty = early_learning_penalty(probs, state.targets[index])
        task.step((losses + params.penalty_weight * penalty).mean(), state.optimizer)  # [2]
        record.add(index, losses=losses, predictions=logits, pseudo_labels=state.targets[index].argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)
