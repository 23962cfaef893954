"""ScanMix as its authors' code runs it; scanmix.py follows the paper.

Sachdeva, Cordeiro, Belagiannis, Reid and Carneiro, "ScanMix", Pattern Recognition 2023, arXiv 2103.11395; behavior of the
published code, described in our words. Before: cluster-scan, and a warm-up with `start: clusters`, `train: head` and `views:
strong`. Each epoch:

  [1] two Gaussians on the losses of each network's class head divide the data; classes predicted now are pseudo-labels
  [2] once, in the first epoch: predicted noise |U|/|D| above 0.6 -> a larger clustering rate and strong views from here on;
      else a small one and weak views
  [3] DivideMix's semi-supervised learning on the peer's division, by the class head
  [4] clustering, by a head of its own: of an image's neighbors and itself, those of the same pseudo-label by the *peer*, one
      is drawn; -log <p_i, p_j> minus lambda_e times the entropy of the mean prediction of the anchors

Both heads of a network start from the cluster head; warm-up has named the class head's outputs. One optimizer a network;
its learning rate is set for [3] and for [4]. In either, the head that is not used is left alone, as in torch 2; in the
torch 1.5 of the code's requirements it still moved by momentum and weight decay. Short last batches of labeled images and of
anchors are dropped.
Differs from the authors' code: logarithms are exact, not clamped at -100 and 1e-8; lambda_u and the averaging of five
losses are parameters; optimizers start anew after warm-up.
Shapes: n = training set, b = batch, k = neighbors and the image itself.
"""

import copy

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor, nn

from noisyctl.parts.co_divide import (
    CoDivideParams,
    co_divide,
    no_history,
    optimizers_of,
    steps,
    unlabeled_weight,
)
from noisyctl.parts.losses import mean_entropy, pair_consistency
from noisyctl.parts.schedules import step_decay
from noisyctl.task import EpochRecord, Needs, Task, param, state

NEEDS = Needs(networks=2, neighbors=True, clusters=True)


class Params(CoDivideParams):
    """`methods.scanmix_official` in params.yaml."""

    cluster_batch_size: int = param(128, "anchors a step", source="ScanMix code", ge=2)
    entropy_weight: float = param(5.0, "[lambda_e]", source="ScanMix code; the paper prints 2", ge=0)
    noise_threshold: float = param(0.6, "predicted noise that switches rate and views", source="ScanMix code")
    high_noise_rate: float = param(
        1e-3, "learning rate of the clustering above it", source="ScanMix code", gt=0
    )
    low_noise_rate: float = param(
        1e-5, "learning rate of the clustering below it", source="ScanMix code", gt=0
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    cluster_head1: nn.Module
    cluster_head2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t] scaled losses of the last epochs
    noise: float | None  # predicted in the first epoch [2]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    one, two, clusters = networks
    heads = [copy.deepcopy(clusters.get_submodule("head")) for _ in range(2)]
    optimizers = optimizers_of([nn.ModuleList(pair) for pair in zip((one, two), heads, strict=True)], params)
    return State(one, two, heads[0], heads[1], optimizers, no_history(task), None)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks, heads = [state.network1, state.network2], [state.cluster_head1, state.cluster_head2]
    found = co_divide(networks, state.history, task, params, task.train_index, rng)  # [1]
    state.history = found.history
    if state.noise is None:
        state.noise = 1 - float(found.selected.float().mean())  # [2]
    high = state.noise > params.noise_threshold
    view, cluster_rate = (task.strong, params.high_noise_rate) if high else (task.weak, params.low_noise_rate)
    record = found.record(task, {}, learning_rate=rate, unlabeled_weight=weight, cluster_rate=cluster_rate)
    for i, peer in ((0, 1), (1, 0)):
        side, optimizer = found.for_peer_of(peer), state.optimizers[i]
        task.set_learning_rate(optimizer, rate)
        for loss in steps(
            networks[i], networks[peer], side, task, params, epoch, rng, view=view, drop_last=True
        ):
            task.step(loss, optimizer)  # [3]
    for i, peer in ((0, 1), (1, 0)):
        task.set_learning_rate(state.optimizers[i], cluster_rate)
        networks[i].train()
        for index in task.batches(params.cluster_batch_size, rng, drop_last=True):  # [4]
            partner = draw_alike(index, task, found.predictions[peer], rng)
            features = (networks[i].get_submodule("features")(view(x, rng)) for x in (index, partner))
            anchors, others = (heads[i](f) for f in features)
            pull = pair_consistency(anchors, others).mean()
            task.step(pull - params.entropy_weight * mean_entropy(anchors), state.optimizers[i])
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def draw_alike(
    index: Int[Tensor, " b"], task: Task, pseudo_labels: Int[Tensor, " n"], rng: Generator
) -> Int[Tensor, " b"]:
    """One of each image's neighbors and itself that have its pseudo-label, uniformly: never none, as it is one itself."""
    assert task.neighbors is not None
    candidates = torch.cat([index[:, None], task.neighbors[index]], dim=1)
    alike: Bool[Tensor, "b k"] = pseudo_labels[candidates] == pseudo_labels[index][:, None]
    if task.held_out is not None:
        alike = alike & ~torch.isin(candidates, task.held_out)
    chance = torch.rand(candidates.shape, generator=rng, device=rng.device).to(candidates.device)
    return candidates.gather(1, chance.masked_fill(~alike, -1).argmax(dim=1, keepdim=True))[:, 0]
