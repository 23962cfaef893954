"""Warm-up: plain cross-entropy on all noisy labels, before a method starts."""

from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=2, warmup=False)


class Params(Base):
    """A block of `warmups:`."""

    backbone: Literal["small_cnn", "resnet18"] = param(
        "resnet18", "network", source="ours: the papers' depth"
    )
    width: int = param(64, "channels of the first stage", source="ResNet-18 as in the papers", ge=1)
    networks: int = param(2, "networks with independent starts", source="DivideMix", ge=1, le=2)
    epochs: int = param(10, "epochs", source="DivideMix, MixNN: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="DivideMix, MixNN", ge=2)
    learning_rate: float = param(0.02, "constant", source="DivideMix, MixNN", gt=0)
    weight_decay: float = param(5e-4, "", source="DivideMix", ge=0)
    train: Literal["all", "head"] = param(
        "all", "what learns", source="paper; ScanMix's code trains the head"
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module | None
    optimizers: list[torch.optim.Optimizer]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    learned = [(n.get_submodule("head") if params.train == "head" else n).parameters() for n in networks]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(p, lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay)
        for p in learned
    ]
    return State(networks[0], networks[1] if len(networks) > 1 else None, optimizers)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    record = EpochRecord(task, learning_rate=params.learning_rate)
    pairs = zip([n for n in (state.network1, state.network2) if n is not None], state.optimizers, strict=True)
    for number, (network, optimizer) in enumerate(pairs):
        network.train()
        for index in task.batches(params.batch_size, rng):
            logits = network(task.weak(index, rng))
            losses = cross_entropy(logits, task.noisy_labels[index], reduction="none")
            task.step(losses.mean(), optimizer)
            if number == 0:
                record.add(index, losses=losses, predictions=logits)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)
