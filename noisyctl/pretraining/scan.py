"""SCAN: sort images into clusters so that an image and its mined neighbors fall into the same one.

A network gives each image probabilities over the clusters. It is trained to give an image and its nearest neighbors the
same cluster, with confidence, while all clusters are used equally often. The neighbors come from an encoder that was
pretrained without labels; no labels are used here, either.

Van Gansbeke et al., "SCAN: Learning to Classify Images without Labels", ECCV 2020, section 2.2. Steps:

  [1] draw one of the mined neighbors of each image, uniformly; take strong views of both
  [2] consistency: -log <p_anchor, p_neighbor>                               (Eq. 2, first term)
  [3] entropy of the mean prediction of the batch's anchors, which is maximized; without it all images would fall into
      one cluster                                                            (Eq. 2, second term)

The whole network is trained, from a pretrained backbone and a new linear head. ScanMix's code has 50 epochs and batches
of 128 for CIFAR-10, and 100 epochs and batches of 1024 for CIFAR-100. The self-labeling that follows in SCAN (section
2.3) is not part of ScanMix, and is not done here.

Differs from the paper:
  - One neighbor is drawn, as in the authors' code. The paper sums over all of them.
Differs from the authors' code:
  - The result is the last epoch. The code keeps the epoch with the least loss on test images.
  - Logarithms are exact. The code clamps them.
Shapes: b = batch, c = clusters, k = neighbors.
"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor, nn

from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.parts.losses import mean_entropy, pair_consistency
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=1, warmup=False, neighbors=True)


class Params(Base):
    """`scan` in params.yaml."""

    backbone: str = param(
        "mlp",
        "network on vectors; on images it is the encoder's",
        source="ours: vectors need no convolutions",
    )
    width: int | None = param(None, "width of that backbone; none: its own", source="ours", ge=1)
    num_clusters: int | None = param(
        None,
        "number of clusters [C]; null: the number of classes that labels.zarr or truth.zarr beside the images"
        " names",
        source="SCAN 3.1; ScanMix code",
        ge=2,
    )
    epochs: int = param(
        50, "epochs of clustering", source="ScanMix code: CIFAR-10, 100 for CIFAR-100; SCAN 3.1: 100", ge=0
    )
    batch_size: int = param(
        128, "anchors in a batch", source="SCAN 3.1; ScanMix code: 1024 for CIFAR-100", ge=2
    )
    learning_rate: float = param(1e-4, "learning rate of Adam, which is constant", source="SCAN 3.1", gt=0)
    weight_decay: float = param(1e-4, "weight decay (L2 penalty) of the optimizer", source="SCAN 3.1", ge=0)
    entropy_weight: float = param(
        5.0,
        "weight of the entropy of the mean prediction [lambda]",
        source="SCAN 3.1; ScanMix code; ScanMix 4.2 prints 2",
        ge=0,
    )
    include_self: bool = param(
        False, "whether an image counts as one of its own neighbors", source="SCAN Eq. 2; true: ScanMix code"
    )
    views: Literal["strong", "simclr", "weak"] = param(
        "strong", "views of anchors and neighbors", source="SCAN 3.1"
    )


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    (network,) = networks
    optimizer = torch.optim.Adam(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    return State(network, optimizer)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    assert task.neighbors is not None
    candidates = task.neighbors
    if params.include_self:
        itself = torch.arange(task.num_samples, device=task.device)
        candidates = torch.cat([itself[:, None], candidates], dim=1)
    view = {"strong": task.strong, "simclr": task.simclr, "weak": task.weak}[params.views]
    state.network.train()
    totals, steps = torch.zeros(2, device=task.device), 0
    drawn = draw_one(candidates, rng)  # [1]
    for index, partners in task.batches_with(drawn, params.batch_size, rng, drop_last=True):
        anchors, neighbors = (state.network(view(i, rng)).float() for i in (index, partners))
        agreement = pair_consistency(anchors, neighbors).mean()  # [2]
        spread = mean_entropy(anchors)  # [3]
        task.step(agreement - params.entropy_weight * spread, state.optimizer)
        totals, steps = totals + torch.stack([agreement, spread]).detach(), steps + 1
    agreement, spread = totals / steps
    return EpochRecord(task, consistency=float(agreement), entropy=float(spread))


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def draw_one(candidates: Int[Tensor, "b k"], rng: Generator) -> Int[Tensor, " b"]:
    """One entry of each row, drawn uniformly."""
    b, k = candidates.shape
    column = torch.randint(k, (b, 1), generator=rng, device=rng.device).to(candidates.device)
    return candidates.gather(1, column)[:, 0]
