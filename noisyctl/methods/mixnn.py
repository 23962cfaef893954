"""MixNN: mix every sample with its nearest neighbors, weighted by how probably their labels are clean.

Lu and He, "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", arXiv 2022. Algorithm 1:

  [1] line 4: two Gaussians on the cross-entropy of all samples -> P(clean)          (Eq. 8, 9)
  [2] line 5: K nearest neighbors in penultimate features over the whole training set
  [3] lines 10-11: from epoch E_s on, running average of the targets with the batch's predictions   (Eq. 12)
  [4] line 12: weights lambda and beta = normalised P(clean) of the sample and its neighbors         (Eq. 10, 11)
  [5] lines 13-15: mix images and targets, cross-entropy                             (Eq. 4, 5, 7)

Neighbors' labels: Algorithm 1 line 15 keeps their noisy labels, section IV-E replaces labels by soft targets in Eq. 5 and
7 alike. This file follows section IV-E (`neighbor_targets: soft`); `noisy` is line 15.
Table IV, one change a row: `weights: average` (AVG); `weights: random` (RDM: Beta(1, 1) of a sample and one neighbor, a
Dirichlet of more; the paper prints no parameter); a `correction_epoch` after the last epoch (w/o label correction);
`partners: random` (w/o K nearest neighbours: random samples of the training set, drawn every epoch). Fig. 7(c):
`num_neighbors`.
Clothing1M (VI-B) is `epoch_batches: 2000`: [1] and [2] still see the whole training set, as Algorithm 1 has it.
Held-out samples take no part: they are nobody's neighbor, and their P(clean) is 0.
Differs from the paper: neighbors are exact, not HNSW (whose recall is below 1); P(clean) is at least 1e-10.
Differs from the authors' code: that mixes with random partners before E_s, uses a linear loss there, looks for neighbors
inside the batch, updates targets every tenth epoch, and fits the mixture on corrected labels.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.mixing import draw_dirichlet, mix
from noisyctl.parts.mixture import clean_probability
from noisyctl.parts.neighbors import nearest
from noisyctl.parts.schedules import cosine_warm_restarts
from noisyctl.parts.targets import one_hot, running_average, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)
FLOOR = 1e-10  # of P(clean): two samples that are surely wrong still have weights
Weights = tuple[Float[Tensor, " b"], Float[Tensor, "b k"]]  # of a sample and its neighbors; their sum is 1
Weigh = Callable[[Tensor, Tensor, Generator], Weights]


class Params(MethodParams):
    """`methods.mixnn` in params.yaml."""

    epochs: int = param(
        290, "after warm-up", source="MixNN VI-A: E_max = 300 with a warm-up of 10, on CIFAR-100 of 30", ge=0
    )
    correction_epoch: int = param(
        60, "target correction from this epoch on, from 0 and with warm-up [E_s]", source="MixNN IV-E", ge=0
    )
    num_neighbors: int = param(1, "neighbors a sample is mixed with [K]", source="MixNN VI-A", ge=1)
    partners: Literal["nearest", "random"] = param(
        "nearest", "whom a sample is mixed with", source="MixNN IV-C; random: Table IV"
    )
    weights: Literal["estimated", "average", "random"] = param(
        "estimated", "in a mix [lambda, beta]", source="MixNN IV-D; the others: Table IV"
    )
    random_alpha: float = param(
        1.0, "of the Beta, for random", source="ours: the official code's mixup", gt=0
    )
    target_momentum: float = param(0.9, "weight of the old target [alpha]", source="MixNN IV-E", ge=0, lt=1)
    neighbor_targets: Literal["soft", "noisy"] = param(
        "soft", "labels of the neighbors", source="MixNN IV-E; noisy: Algorithm 1"
    )
    batch_size: int = param(128, "images a step [B]", source="MixNN VI-A", ge=2)
    epoch_batches: int = param(
        0, "class-balanced, drawn every epoch; 0: all samples", source="MixNN VI-B: Clothing1M 2000", ge=0
    )
    learning_rate: float = param(0.02, "at each restart", source="MixNN VI-A", gt=0)
    floor_rate: float = param(0.001, "at the end of each period", source="MixNN VI-A", ge=0)
    period: int = param(10, "epochs between restarts, with warm-up", source="MixNN VI-A", ge=1)
    weight_decay: float = param(1e-3, "L2 penalty on all weights of the optimizer", source="MixNN VI-A", ge=0)


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
    now = task.warmup_epochs + epoch
    rate = cosine_warm_restarts(now, params.period, params.learning_rate, params.floor_rate)
    task.set_learning_rate(state.optimizer, rate)
    logits, features = evaluate_train(state.network, task)
    losses = cross_entropy(logits, task.noisy_labels, reduction="none")
    train, clean = task.train_index, torch.zeros_like(losses)
    clean[train] = clean_probability(losses[train], rng)  # [1]
    number = min(params.num_neighbors, len(train) - 1)
    neighbors = train.new_zeros(task.num_samples, number)
    neighbors[train] = train[PARTNERS[params.partners](features[train], number, rng)]  # [2]
    weigh, noisy = weights_of(params), one_hot(task.noisy_labels, task.num_classes)
    labels = {"soft": state.targets, "noisy": noisy}[params.neighbor_targets]
    correcting = now >= params.correction_epoch
    among = task.balanced(params.epoch_batches * params.batch_size, rng)
    everything = torch.arange(task.num_samples, device=task.device)
    record = EpochRecord(task, learning_rate=rate, correcting=float(correcting))
    record.add(everything, losses=losses, clean_probability=clean, predictions=logits)
    state.network.train()
    for index, partners in task.batches_with(neighbors, params.batch_size, rng, among=among):
        images = task.weak(index, rng)
        if correcting:  # [3]
            with torch.no_grad():
                probs = state.network(images).softmax(dim=1)
            state.targets[index] = running_average(state.targets[index], probs, params.target_momentum)
        own_weight, partner_weights = weigh(clean[index], clean[partners], rng)  # [4]
        partner_images = task.weak(partners.ravel(), rng).unflatten(0, partners.shape)
        mixed = mix(images, partner_images, own_weight, partner_weights)
        targets = mix(state.targets[index], labels[partners], own_weight, partner_weights)
        logits = state.network(mixed)
        task.step(soft_cross_entropy(logits, targets).mean(), state.optimizer)  # [5]
    record.add(everything, pseudo_labels=state.targets.argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def nearest_others(features: Float[Tensor, "t d"], number: int, rng: Generator) -> Int[Tensor, "t k"]:
    return nearest(features, number)


def random_others(features: Float[Tensor, "t d"], number: int, rng: Generator) -> Int[Tensor, "t k"]:
    """Samples other than the own one, each as likely as any; one may come twice."""
    size = len(features)
    steps = torch.randint(1, size, (size, number), generator=rng, device=rng.device).to(features.device)
    return (torch.arange(size, device=features.device)[:, None] + steps) % size


PARTNERS = {"nearest": nearest_others, "random": random_others}


def weights_of(params: Params) -> Weigh:
    choices: dict[str, Weigh] = {
        "estimated": estimated_weights,
        "average": average_weights,
        "random": partial(random_weights, alpha=params.random_alpha),
    }
    return choices[params.weights]


def estimated_weights(own: Float[Tensor, " b"], partners: Float[Tensor, "b k"], rng: Generator) -> Weights:
    """Eq. 10 and 11: P(clean) of the sample and of its neighbors over their sum."""
    own, partners = own.clamp(min=FLOOR), partners.clamp(min=FLOOR)
    total = own + partners.sum(dim=1)
    return own / total, partners / total[:, None]


def average_weights(own: Float[Tensor, " b"], partners: Float[Tensor, "b k"], rng: Generator) -> Weights:
    share = 1 / (1 + partners.shape[1])
    return torch.full_like(own, share), torch.full_like(partners, share)


def random_weights(
    own: Float[Tensor, " b"], partners: Float[Tensor, "b k"], rng: Generator, *, alpha: float
) -> Weights:
    drawn = draw_dirichlet(alpha, (len(own), 1 + partners.shape[1]), rng).to(own.device)
    return drawn[:, 0], drawn[:, 1:]
