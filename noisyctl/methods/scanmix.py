"""ScanMix: co-dividing semi-supervised learning, and clustering of mined neighbors that are predicted alike.

ScanMix trains two networks as DivideMix does: each divides the data by its losses for the other, which learns from
labeled and unlabeled images. In every epoch a second pass pulls together the predictions for images and their nearest
neighbors, which were mined without labels, where both are predicted to be of one class. This clustering needs no labels,
and therefore still helps where most labels are wrong.

Sachdeva, Cordeiro, Belagiannis, Reid and Carneiro, "ScanMix: Learning from Severe Label Noise via Semantic Clustering and
Semi-Supervised Learning", Pattern Recognition 2023, arXiv 2103.11395. Algorithm 1, for each epoch after warm-up:

  [1] two Gaussians on each network's losses divide the data                                          (Eq. 9)
  [2] once, in the first epoch: where the predicted noise |U|/|D| is above 0.6, the learning rate of [5] is larger
      (section 4.2)
  [3] E-step: q(z_ji) = 1 where j is a neighbor of i and both are predicted to be of one class        (section 3.2)
  [4] M-step, classification: semi-supervised learning on the peer's division, as in DivideMix        (Eq. 7, 8)
  [5] M-step, clustering: -q(z_ji) log <p_i, p_j> of neighbors, minus lambda_e times the entropy of the mean
      prediction of the anchors                                                                       (Eq. 10-12)

Before it come pretraining, mined neighbors, SCAN clusters (`noisyctl cluster-scan`), and a warm-up of the class head on
these clusters (`noisyctl warmup --profile clustered`). The paper writes the sum of [4] and [5]; they are trained one
after the other, each in a pass over the data, by one optimizer per network.

Eq. 11 sums over i for both anchor and neighbor, so gradients pass through both, as here.

`form: code`, the default, is what the authors ran and what their numbers were made with:

  - Each network has two heads, one for classes and one for clusters; both start from the head of the clusters. [5] trains
    the second.
  - An image is one of its own neighbors. [3] compares the predictions of the peer. [5] draws one of the neighbors that
    are alike, anew in every epoch. lambda_e is 5.
  - Where the predicted noise is above 0.6, all views are strong from then on.
  - Short last batches of labeled images and of anchors are dropped.

`form: printed` is Eq. 11 to the letter:

  - There is one head, and each network compares its own predictions. [5] takes the sum over all neighbors that are alike,
    so that an anchor costs K + 1 images. lambda_e is 2, views are weak, and no clusters are needed; a warm-up from an
    encoder (`--warmup-profile pretrained`) is enough.
  - It can collapse. All images in one class cost nothing, which is better than the gain in entropy as soon as the mean
    loss of a pair is above 2 ln(C) / K (0.23 for 10 classes and 20 neighbors). On digits it did collapse. `train-method`
    warns of this.

Table 4: the first two rows are the `clustering_accuracy` that `noisyctl evaluate` gives for cluster-scan; the third is
`dividemix`; the fourth is `terms: classification` (in the code, all of ScanMix but [5]); the fifth is this file.

Differs from the paper:
  - The squared error is divided by the number of classes, as in DivideMix's code, for which the values of lambda_u hold.
Differs from the authors' code:
  - Logarithms are exact. The code clamps them at -100 and probabilities at 1e-8.
  - lambda_u and the averaging of five losses are parameters.
  - The optimizers start anew after warm-up.
  - The head that a term does not use stays as it is, as in torch 2. In torch 1.5, which the code requires, it still moved
    by momentum and weight decay.
Edge cases:
  - Held-out samples take no part: they are neither anchors nor counted as neighbors.
  - A division may have an empty side; parts/co_divide.py and parts/mixmatch.py say what happens then.
Shapes: n = training set, b = batch of anchors, k = neighbors, d = the neighbors that [5] looks at, c = classes.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from noisyctl.parts.co_divide import (
    CoDivideParams,
    Divisions,
    View,
    co_divide,
    no_history,
    optimizers_of,
    steps,
    unlabeled_weight,
)
from noisyctl.parts.losses import mean_entropy, pair_consistency
from noisyctl.parts.schedules import step_decay
from noisyctl.task import EpochRecord, Needs, Task, param, state

NEEDS = Needs(networks=2, pretrained=True, neighbors=True, clusters=True, clusters_unless=("form", "printed"))
ENTROPY_WEIGHTS = {"code": 5.0, "printed": 2.0}


class Params(CoDivideParams):
    """`methods.scanmix` in params.yaml."""

    warmup_profile: str = param(
        "clustered", "warm-up profile to start from: the name of a block under `warmups:`"
    )
    form: Literal["code", "printed"] = param(
        "code",
        "form of the clustering; code: as its authors ran it; printed: Eq. 11 to the letter, which can "
        "collapse into one class",
        source="ScanMix code; printed: ScanMix Eq. 11",
    )
    terms: Literal["both", "classification"] = param(
        "both",
        "terms of the loss that are trained: classification and clustering, or classification alone",
        source="ScanMix Eq. 6; classification: Table 4, pre-train and DivideMix",
    )
    cluster_batch_size: int = param(128, "anchors in a batch of the clustering", source="ScanMix 4.2", ge=2)
    cluster_views: Literal["switched", "strong"] = param(
        "switched",
        "views of the clustering; switched: the same as those of the classification",
        source="ScanMix code: CIFAR; strong: WebVision",
    )
    entropy_weight: float | None = param(
        None,
        "weight of the entropy of the mean prediction [lambda_e]; none: 5, or 2 with form printed",
        source="ScanMix code; ScanMix 4.2",
        ge=0,
    )
    noise_threshold: float = param(
        0.6,
        "predicted share of wrong labels above which the noise counts as high",
        source="ScanMix 4.2",
        ge=0,
        le=1,
    )
    high_noise_rate: float = param(
        1e-3, "learning rate of the clustering where the noise is high", source="ScanMix 4.2", gt=0
    )
    low_noise_rate: float = param(
        1e-5, "learning rate of the clustering where the noise is not high", source="ScanMix 4.2", gt=0
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    cluster_head1: nn.Module | None  # only with form code
    cluster_head2: nn.Module | None
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t]: scaled losses of the training samples in the last epochs
    noise: float | None  # the predicted noise of the first epoch [2]; None before


def notice(params: Params) -> str:
    """A warning for the user before training with these params; empty for the form that the authors ran."""
    if params.form == "code":
        return ""
    return (
        "--form printed trains the sum of Eq. 11 over all neighbors as the paper prints it; it can collapse, with all "
        "images in one class. Its authors ran --form code"
    )


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    """Makes the state. `networks` are the two of the warm-up and, for `form: code`, a third: the one of the clusters."""
    one, two, *clusters = networks
    if params.form == "printed":
        optimizers = optimizers_of([one, two], params)
        return State(one, two, None, None, optimizers, no_history(task), None)
    heads = [copy.deepcopy(clusters[0].get_submodule("head")) for _ in range(2)]
    optimizers = optimizers_of([nn.ModuleList(pair) for pair in zip((one, two), heads, strict=True)], params)
    return State(one, two, heads[0], heads[1], optimizers, no_history(task), None)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks, as_run = [state.network1, state.network2], params.form == "code"
    found = co_divide(networks, state.history, task, params, task.train_index, rng)  # [1]
    state.history = found.history
    if state.noise is None:
        state.noise = predicted_noise(found)  # [2]
    high = state.noise > params.noise_threshold
    cluster_rate = params.high_noise_rate if high else params.low_noise_rate
    view = task.strong if high and as_run else task.weak
    record = found.record(task, {}, learning_rate=rate, unlabeled_weight=weight, cluster_rate=cluster_rate)
    for i, peer in ((0, 1), (1, 0)):
        division, optimizer = found.for_peer_of(peer), state.optimizers[i]
        task.set_learning_rate(optimizer, rate)
        losses = steps(
            networks[i], networks[peer], division, task, params, epoch, rng, view=view, drop_last=as_run
        )
        for loss in losses:
            task.step(loss, optimizer)  # [4]
    if params.terms == "both":
        heads = [state.cluster_head1, state.cluster_head2]
        view = task.strong if params.cluster_views == "strong" else view
        neighbors = neighborhoods(task, itself=as_run)
        for i, peer in ((0, 1), (1, 0)):
            alike = e_step(neighbors, found.predictions[peer if as_run else i], task)  # [3]
            task.set_learning_rate(state.optimizers[i], cluster_rate)
            own = heads[i]
            head = networks[i].get_submodule("head") if own is None else own
            cluster(networks[i], head, state.optimizers[i], neighbors, alike, view, task, params, rng)  # [5]
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def predicted_noise(found: Divisions) -> float:
    """|U| / |D| of Eq. 9: the share of samples that are not labeled, averaged over both networks."""
    return 1 - float(found.selected.float().mean())


def neighborhoods(task: Task, *, itself: bool) -> Int[Tensor, "n k"]:
    """The mined neighbors of each image; with `itself`, the image itself stands before them."""
    assert task.neighbors is not None
    index = torch.arange(task.num_samples, device=task.device)
    return torch.cat([index[:, None], task.neighbors], dim=1) if itself else task.neighbors


def e_step(neighbors: Int[Tensor, "n k"], predictions: Int[Tensor, " n"], task: Task) -> Bool[Tensor, "n k"]:
    """The E-step (Algorithm 1, lines 8 to 16): q(z_ji) for each image i and each of its neighbors j.

    It is true where both are predicted to be of one class. Held-out images are nobody's neighbor.
    """
    trains = torch.zeros(task.num_samples, dtype=torch.bool, device=task.device)
    trains[task.train_index] = True
    return (predictions[neighbors] == predictions[:, None]) & trains[neighbors]


def cluster(
    network: nn.Module,
    head: nn.Module,
    optimizer: torch.optim.SGD,
    neighbors: Int[Tensor, "n k"],
    alike: Bool[Tensor, "n k"],
    view: View,
    task: Task,
    params: Params,
    rng: Generator,
) -> None:
    """The clustering term of the M-step: one pass over the training images as anchors (Eq. 10)."""
    as_run, features = params.form == "code", network.get_submodule("features")
    weight = ENTROPY_WEIGHTS[params.form] if params.entropy_weight is None else params.entropy_weight
    network.train()
    if as_run:
        neighbors = draw_one(neighbors, alike, rng)
        alike = torch.ones_like(neighbors, dtype=torch.bool)
    for index, others in task.batches_with(neighbors, params.cluster_batch_size, rng, drop_last=as_run):
        anchors = head(features(view(index, rng)))
        near = head(features(view(others.ravel(), rng))).unflatten(0, others.shape)
        pull = neighborhood_losses(anchors, near, alike[index]).mean()
        task.step(pull - weight * mean_entropy(anchors), optimizer)


def draw_one(neighbors: Int[Tensor, "b k"], alike: Bool[Tensor, "b k"], rng: Generator) -> Int[Tensor, "b 1"]:
    """For each image one of the neighbors that are alike, drawn uniformly.

    Each anchor has at least one such neighbor: itself.
    """
    chance = torch.rand(neighbors.shape, generator=rng, device=rng.device).to(neighbors.device)
    return neighbors.gather(1, chance.masked_fill(~alike, -1).argmax(dim=1, keepdim=True))


def neighborhood_losses(
    anchors: Float[Tensor, "b c"], others: Float[Tensor, "b d c"], alike: Bool[Tensor, "b d"]
) -> Float[Tensor, " b"]:
    """Eq. 11 for each anchor, from logits: -sum_j q(z_ji) log <p_i, p_j>; 0 where no neighbor is alike."""
    pairs = anchors[:, None].expand_as(others).flatten(0, 1), others.flatten(0, 1)
    return (pair_consistency(*pairs).view_as(alike) * alike).sum(dim=1)
