"""Warm-up: cross-entropy on all noisy labels, before a method starts.

With a `penalty_weight` the mean negative entropy is added (Li et al., "DivideMix", ICLR 2020, section 3.1). With
`train: head` only the head learns, on a backbone in train mode (ScanMix's code). With `epoch_batches` each network sees a
class-balanced part of the samples, drawn anew in every epoch (DivideMix's code on Clothing1M); the others' trace is 0.
With a `period` the learning rate is MixNN's cosine from the first epoch on (MixNN VI-A), which the method's epochs carry on.
"""

from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.parts.losses import negative_entropy
from noisyctl.parts.schedules import cosine_warm_restarts
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=2, warmup=False)


class Params(Base):
    """A block of `warmups:`."""

    backbone: str = param("resnet18", "network", source="ours: the papers' depth")
    width: int | None = param(None, "channels of the first stage; none: the paper's", ge=1)
    head: Literal["linear", "mlp", "batch_norm"] = param(
        "linear",
        "last layers",
        source="DivideMix; mlp: Jo-SRC code; batch_norm: Patrini code, unhinged and sigmoid",
    )
    start: Literal["random", "encoder", "clusters", "weights", "run"] = param(
        "random",
        "where weights come from",
        source="DivideMix; encoder: ScanMix 3.2; clusters: ScanMix code; weights: Clothing1M in every paper; "
        "run: Two-Stage 4.3, fine-tuning",
    )
    weights: str | None = param(
        None,
        "where start is weights: a file of ImageNet weights (.pth, .safetensors), or download",
        path=True,
    )
    networks: int = param(2, "networks with starts and orders of their own", source="DivideMix", ge=1, le=2)
    epochs: int = param(10, "epochs", source="DivideMix, MixNN: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="DivideMix, MixNN", ge=2)
    epoch_batches: int = param(
        0, "class-balanced, drawn every epoch; 0: all samples", source="DivideMix code: Clothing1M 2000", ge=0
    )
    learning_rate: float = param(
        0.02, "constant, or at each restart of the cosine", source="DivideMix, MixNN", gt=0
    )
    period: int = param(
        0, "epochs between restarts of a cosine; 0: a constant rate", source="DivideMix; MixNN VI-A: 10", ge=0
    )
    floor_rate: float = param(
        0.0, "at the end of each period; not read for a constant rate", source="MixNN VI-A: 0.001", ge=0
    )
    weight_decay: float = param(5e-4, "L2 penalty on all weights of the optimizer", source="DivideMix", ge=0)
    views: Literal["weak", "strong", "plain"] = param(
        "weak", "augmentation", source="DivideMix; strong: ScanMix code; plain: MixNN code"
    )
    penalty_weight: float = param(
        0.0,
        "of the confidence penalty, the negative entropy",
        source="DivideMix 3.1: 1 for asymmetric noise",
        ge=0,
    )
    train: Literal["all", "head"] = param(
        "all", "what learns; batch statistics move in both", source="paper; head: ScanMix code"
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module | None
    optimizers: list[torch.optim.Optimizer]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    for network in networks:
        network.get_submodule("features").requires_grad_(params.train == "all")
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(
            [p for p in network.parameters() if p.requires_grad],
            lr=params.learning_rate,
            momentum=0.9,
            weight_decay=params.weight_decay,
        )
        for network in networks
    ]
    return State(networks[0], networks[1] if len(networks) > 1 else None, optimizers)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = params.learning_rate
    if params.period:
        rate = cosine_warm_restarts(epoch, params.period, params.learning_rate, params.floor_rate)
    record = EpochRecord(task, learning_rate=rate)
    view = {"weak": task.weak, "strong": task.strong, "plain": lambda index, rng: task.plain(index)}[
        params.views
    ]
    pairs = zip([n for n in (state.network1, state.network2) if n is not None], state.optimizers, strict=True)
    for number, (network, optimizer) in enumerate(pairs):
        task.set_learning_rate(optimizer, rate)
        network.train()
        among = task.balanced(params.epoch_batches * params.batch_size, rng)
        for index in task.batches(params.batch_size, rng, among=among):
            logits = network(view(index, rng))
            losses = cross_entropy(logits, task.noisy_labels[index], reduction="none")
            penalty = params.penalty_weight * negative_entropy(logits)
            task.step((losses + penalty).mean(), optimizer)
            record.add(index, network=number if state.network2 else None, losses=losses)
            if number == 0:
                record.add(index, predictions=logits)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)
