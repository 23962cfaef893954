"""MixNN: mix every sample with its nearest neighbors, weighted by how probably their labels are clean.

Lu and He, "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", arXiv 2022. Algorithm 1:

  [1] line 4: two Gaussians on the cross-entropy of all samples -> P(clean)          (Eq. 8, 9)
  [2] line 5: K nearest neighbors in penultimate features over the whole training set
  [3] lines 10-11: from epoch E_s on, running average of the targets with the batch's predictions   (Eq. 12)
  [4] line 12: weights lambda and beta = normalised P(clean) of the sample and its neighbors         (Eq. 10, 11)
  [5] lines 13-15: mix images and targets, cross-entropy                             (Eq. 4, 5, 7)

Neighbors' labels: Algorithm 1 line 15 keeps their noisy labels, section IV-E replaces labels by soft targets in Eq. 5 and
7 alike. This file follows section IV-E (`neighbor_targets: soft`); `noisy` is line 15.
Differs from the paper: neighbors are exact, not HNSW (whose recall is below 1); P(clean) is at least 1e-10.
Differs from the authors' code: that mixes with random partners before E_s, uses a linear loss there, looks for neighbors
inside the batch, updates targets every tenth epoch, and fits the mixture on corrected labels.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.mixing import mix
from noisyctl.parts.mixture import clean_probability
from noisyctl.parts.neighbors import nearest
from noisyctl.parts.schedules import cosine_warm_restarts
from noisyctl.parts.targets import one_hot, running_average, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)
FLOOR = 1e-10  # of P(clean): two samples that are surely wrong still have weights


class Params(MethodParams):
    """`methods.mixnn` in params.yaml."""

    epochs: int = param(300, "after warm-up [E_max]", source="MixNN Algorithm 1, VI-A", ge=0)
    correction_epoch: int = param(
        60, "target correction from this epoch on, counted with warm-up [E_s]", source="MixNN IV-E", ge=0
    )
    num_neighbors: int = param(1, "neighbors a sample is mixed with [K]", source="MixNN VI-A", ge=1)
    target_momentum: float = param(0.9, "weight of the old target [alpha]", source="MixNN IV-E", ge=0, lt=1)
    neighbor_targets: Literal["soft", "noisy"] = param(
        "soft", "labels of the neighbors", source="MixNN IV-E; noisy: Algorithm 1"
    )
    batch_size: int = param(128, "images a step [B]", source="MixNN VI-A", ge=2)
    learning_rate: float = param(0.02, "at each restart", source="MixNN VI-A", gt=0)
    floor_rate: float = param(0.001, "at the end of each period", source="MixNN VI-A", ge=0)
    period: int = param(10, "epochs between restarts", source="MixNN VI-A", ge=1)
    weight_decay: float = param(1e-3, "", source="MixNN VI-A", ge=0)


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
    return State(network, optimizer, one_hot(task.noisy_labels, task.num_classes))


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine_warm_restarts(epoch, params.period, params.learning_rate, params.floor_rate)
    task.set_learning_rate(state.optimizer, rate)
    given = one_hot(task.noisy_labels, task.num_classes)
    logits, features = evaluate_train(state.network, task)
    losses = cross_entropy(logits, task.noisy_labels, reduction="none")
    clean = clean_probability(losses, rng)  # [1]
    neighbors = nearest(features, min(params.num_neighbors, len(features) - 1))  # [2]
    correcting = task.warmup_epochs + epoch >= params.correction_epoch
    record = EpochRecord(task, learning_rate=rate, correcting=float(correcting))
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        images, partners = task.weak(index, rng), neighbors[index]
        if correcting:  # [3]
            with torch.no_grad():
                probs = state.network(images).softmax(dim=1)
            state.targets[index] = running_average(state.targets[index], probs, params.target_momentum)
        own_weight, partner_weights = mixing_weights(clean[index], clean[partners])  # [4]
        partner_images = task.weak(partners.ravel(), rng).unflatten(0, partners.shape)
        partner_targets = (state.targets if params.neighbor_targets == "soft" else given)[partners]
        mixed = mix(images, partner_images, own_weight, partner_weights)
        targets = mix(state.targets[index], partner_targets, own_weight, partner_weights)
        logits = state.network(mixed)
        task.step(soft_cross_entropy(logits, targets).mean(), state.optimizer)  # [5]
        record.add(index, predictions=logits)
    everything = torch.arange(task.num_samples, device=task.device)
    record.add(everything, losses=losses, clean_probability=clean, pseudo_labels=state.targets.argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def mixing_weights(
    own: Float[Tensor, " b"], partners: Float[Tensor, "b k"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b k"]]:
    """Eq. 10 and 11: P(clean) of the sample and of its neighbors over their sum."""
    own, partners = own.clamp(min=FLOOR), partners.clamp(min=FLOOR)
    total = own + partners.sum(dim=1)
    return own / total, partners / total[:, None]
