"""SimCLR: pull two views of an image together, push all others apart.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020. Steps:

  [1] two views of each image                                     (Algorithm 1, lines 4-11)
  [2] cosine similarities of all 2b embeddings, divided by t      (Algorithm 1, line 12; Eq. 1)
  [3] cross-entropy of the other view against the 2b - 2 rest     (Eq. 1), mean over all 2b anchors, or over the b first
      views only (`anchors: first`, as ScanMix's code does)
Schedule: linear warm-up, then cosine (section 2.2); floor and rate as ScanMix's code has them by default.
Differs from the authors' code: SGD, not LARS, which is for batches of thousands.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.parts.schedules import warmup_cosine
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=1, warmup=False)


class Params(Base):
    """`simclr` in params.yaml."""

    backbone: str = param("resnet18", "network", source="ScanMix code")
    width: int | None = param(None, "channels of the first stage; none: the paper's", ge=1)
    embedding_size: int = param(
        128, "outputs of the projection head", source="SimCLR appendix B.9; ScanMix code", ge=2
    )
    epochs: int = param(500, "epochs", source="ScanMix 4.2", ge=0)
    warmup_epochs: int = param(
        0, "linear rise of the learning rate", source="ScanMix code has none; SimCLR 10", ge=0
    )
    batch_size: int = param(512, "images a step, two views each", source="ScanMix 4.2", ge=2)
    learning_rate: float = param(0.4, "peak", source="ScanMix 4.2", gt=0)
    floor_rate: float = param(4e-4, "at the end of the cosine", source="ScanMix code", ge=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="ScanMix 4.2", ge=0
    )
    temperature: float = param(0.1, "[t]", source="ScanMix code", gt=0)
    anchors: Literal["both", "first"] = param(
        "both", "whose loss is averaged", source="SimCLR Algorithm 1; first: ScanMix code"
    )


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    (network,) = networks
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    return State(network, optimizer)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = warmup_cosine(epoch, params.warmup_epochs, params.epochs, params.learning_rate, params.floor_rate)
    task.set_learning_rate(state.optimizer, rate)
    state.network.train()
    total, steps = torch.zeros((), device=task.device), 0
    for index in task.batches(params.batch_size, rng, drop_last=True):
        views = torch.cat([task.simclr(index, rng), task.simclr(index, rng)])  # [1]
        losses = contrastive_losses(state.network(views).float(), params.temperature)
        loss = losses.mean() if params.anchors == "both" else losses[: len(index)].mean()
        task.step(loss, state.optimizer)
        total, steps = total + loss.detach(), steps + 1
    return EpochRecord(task, learning_rate=rate, loss=float(total) / steps)


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def contrastive_losses(embeddings: Float[Tensor, "m d"], temperature: float) -> Float[Tensor, " m"]:
    """Eq. 1 for every anchor; rows i and i + m/2 are the two views of one image."""
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = normalize(embeddings, dim=1)
        logits = unit @ unit.T / temperature  # [2]
    logits = logits.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
    partner = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return cross_entropy(logits, partner, reduction="none")  # [3]
