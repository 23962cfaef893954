"""ScanMix: co-dividing semi-supervised learning, and clustering of mined neighbors that are predicted alike.

Sachdeva, Cordeiro, Belagiannis, Reid and Carneiro, "ScanMix: Learning from Severe Label Noise via Semantic Clustering and
Semi-Supervised Learning", Pattern Recognition 2023, arXiv 2103.11395. Algorithm 1, for each epoch after warm-up:

  [1] E-step: q(z_ji) = 1 where j is a mined neighbor of i and both are predicted to be of one class   (section 3.2)
  [2] two Gaussians on each network's losses divide the data                                          (Eq. 9)
  [3] semi-supervised learning on the peer's division, as DivideMix                                   (Eq. 7, 8)
  [4] clustering: -sum_j q(z_ji) log <p_i, p_j> over the K neighbors, minus lambda_e times the
      entropy of the mean prediction                                                                  (Eq. 10-12)
  [5] the learning rate of [4] is larger where the predicted noise |U|/|D| is above 0.6               (section 4.2)

Table 4: its first two rows are the `clustering_accuracy` that `noisyctl evaluate` gives of cluster-scan, the third is
dividemix, the fourth dividemix from a warm-up with `start: clusters` and this file's backbone.
Start from a warm-up with `start: encoder`. The two terms are trained one after the other, each a pass over the data, by one
optimizer a network, whose learning rate [5] sets; the paper writes their sum. [1] and the predicted noise are of the start
of the epoch; the noise of the first epoch chooses the rate for all. Eq. 11 with every neighbor costs K + 1 images an anchor:
`drawn_neighbors` draws some of the K instead, and scales their sum to that of all. As printed, a sum over 20 neighbors
outweighs the entropy, and on digits all images fell into one class: `neighbor_losses: mean` gives the balance of the code.
Held-out samples take no part: they are neither anchors nor counted as neighbors. Where no neighbor is predicted alike the
first term is 0. What a division without a clean or a noisy side does: parts/co_divide.py.
Differs from the paper: the squared error is divided by the number of classes (DivideMix's code, for which the values of
lambda_u hold). Eq. 11 sums over i for both anchor and neighbor, so each gets a gradient, as here.
Differs from the authors' code (scanmix_official.py follows it): one head, no clustering before warm-up, every neighbor
instead of one drawn, own pseudo-labels instead of the peer's, lambda_e 2 instead of 5, weak views throughout.
Shapes: b = batch of anchors, k = neighbors, c = classes.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from noisyctl.parts.co_divide import (
    CoDivideParams,
    Division,
    co_divide,
    no_history,
    optimizers_of,
    steps,
    unlabeled_weight,
)
from noisyctl.parts.losses import mean_entropy, pair_consistency
from noisyctl.parts.schedules import step_decay
from noisyctl.task import EpochRecord, Needs, Task, param, state

NEEDS = Needs(networks=2, neighbors=True)


class Params(CoDivideParams):
    """`methods.scanmix` in params.yaml."""

    epochs: int = param(290, "after warm-up", source="ScanMix 4.2: E = 300", ge=0)
    cluster_batch_size: int = param(128, "anchors a step", source="ScanMix 4.2", ge=2)
    drawn_neighbors: int = param(0, "of the K, an anchor and step; 0: all", source="ScanMix Eq. 11", ge=0)
    neighbor_losses: Literal["sum", "mean"] = param(
        "sum",
        "over an anchor's neighbors that are predicted alike",
        source="ScanMix Eq. 11; mean: what drawing one of them, as its code does, amounts to",
    )
    entropy_weight: float = param(2.0, "[lambda_e]", source="ScanMix 4.2", ge=0)
    noise_threshold: float = param(
        0.6, "predicted noise above which clustering counts", source="ScanMix 4.2", ge=0, le=1
    )
    high_noise_rate: float = param(
        1e-3, "learning rate of the clustering above it", source="ScanMix 4.2", gt=0
    )
    low_noise_rate: float = param(
        1e-5, "learning rate of the clustering below it", source="ScanMix 4.2", gt=0
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t] scaled losses of the last epochs
    cluster_rate: float | None  # chosen in the first epoch [5]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    return State(networks[0], networks[1], optimizers_of(networks, params), no_history(task), None)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks = [state.network1, state.network2]
    found = co_divide(networks, state.history, task, params, task.train_index, rng)  # [2]
    state.history = found.history
    if state.cluster_rate is None:
        state.cluster_rate = cluster_rate(predicted_noise(found), params)  # [5]
    record = found.record(
        task, {}, learning_rate=rate, unlabeled_weight=weight, cluster_rate=state.cluster_rate
    )
    for i, peer in ((0, 1), (1, 0)):
        division = found.for_peer_of(peer)
        task.set_learning_rate(state.optimizers[i], rate)
        for loss in steps(networks[i], networks[peer], division, task, params, epoch, rng, view=task.weak):
            task.step(loss, state.optimizers[i])  # [3]
    for i in (0, 1):
        task.set_learning_rate(state.optimizers[i], state.cluster_rate)
        cluster(networks[i], state.optimizers[i], found.predictions[i], task, params, rng)  # [1] [4]
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def predicted_noise(found: Division) -> float:
    """|U| / |D| of Eq. 9, the mean of both networks."""
    return 1 - float(found.selected.float().mean())


def cluster_rate(noise: float, params: Params) -> float:
    return params.high_noise_rate if noise > params.noise_threshold else params.low_noise_rate


def cluster(
    network: nn.Module,
    optimizer: torch.optim.SGD,
    predictions: Int[Tensor, " n"],
    task: Task,
    params: Params,
    rng: Generator,
) -> None:
    """One pass over the anchors."""
    assert task.neighbors is not None
    trains = torch.zeros(task.num_samples, dtype=torch.bool, device=task.device)
    trains[task.train_index] = True
    network.train()
    for index in task.batches(params.cluster_batch_size, rng):
        neighbors, scale = drawn(task.neighbors[index], params.drawn_neighbors, rng)
        alike = (predictions[neighbors] == predictions[index][:, None]) & trains[neighbors]
        logits = network(task.weak(torch.cat([index, neighbors.ravel()]), rng))
        anchors, others = logits[: len(index)], logits[len(index) :].unflatten(0, neighbors.shape)
        losses = neighborhood_losses(anchors, others, alike)
        losses = (
            losses / alike.sum(dim=1).clamp(min=1) if params.neighbor_losses == "mean" else scale * losses
        )
        task.step(losses.mean() - params.entropy_weight * mean_entropy(anchors), optimizer)


def drawn(neighbors: Int[Tensor, "b k"], number: int, rng: Generator) -> tuple[Int[Tensor, "b d"], float]:
    """`number` different neighbors of each anchor, all for 0, and the factor from their sum to that of all."""
    k = neighbors.shape[1]
    if not 0 < number < k:
        return neighbors, 1.0
    order = torch.rand(neighbors.shape, generator=rng, device=rng.device).argsort(dim=1)[:, :number]
    return neighbors.gather(1, order.to(neighbors.device)), k / number


def neighborhood_losses(
    anchors: Float[Tensor, "b c"], others: Float[Tensor, "b k c"], alike: Bool[Tensor, "b k"]
) -> Float[Tensor, " b"]:
    """Eq. 11 for each anchor: -sum_j q(z_ji) log <p_i, p_j>. Takes logits."""
    pairs = anchors[:, None].expand_as(others).flatten(0, 1), others.flatten(0, 1)
    return (pair_consistency(*pairs).view_as(alike) * alike).sum(dim=1)
