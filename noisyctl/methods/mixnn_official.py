"""MixNN as its authors' code runs it: random mixup first, then mixing with the nearest neighbor in the batch.

Lu and He, "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", arXiv 2022; their published
code, by behavior. `mixnn` follows the paper. Its epochs e count from 1 and include the warm-up. Steps:

  [1] corrected label = argmax of the running target; cross-entropy against it, scaled to [0, 1], perhaps averaged over the
      last epochs; two Gaussians -> P(clean)
  [2] first forward, augmented images, train mode, no gradient: features and predictions
  [3] from e = E_s on, where e is a multiple of 10: running average of the targets with these predictions
  [4] up to e = E_s: a random partner, lambda of Beta(1, 1), one a batch; after: the nearest other image of the batch,
      lambda = P / (P + P of the partner)
  [5] second forward, mixed images. Before e = E_s: linear loss -mean[lambda p_a + (1 - lambda) p_b], bounded as the mean
      absolute error is; from e = E_s on: cross-entropy with the mixed targets
  So e = E_s itself has random partners and the soft loss.

The warm-up is the profile's business. The authors' has 9 epochs (29 on CIFAR-100), `views: plain`, the cosine of the
learning rate from its first epoch on (`period: 10`, `floor_rate: 0.001`), and no shuffling, which is not built.
Differs from the paper: all of the above but [4]'s lambda and [5]'s last loss (see `mixnn`).
Differs from the authors' code: neighbors are exact, not HNSW's; log-softmax, not the log of a softmax that may be 0;
`averaged_losses` is a parameter, there it is 5 where the true rate is .8 and else 1; a last batch of one joins the one
before.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.mixing import draw_beta, draw_partners, mix_pair
from noisyctl.parts.mixmatch import unit_range
from noisyctl.parts.mixture import scaled_clean_probability
from noisyctl.parts.schedules import cosine_warm_restarts
from noisyctl.parts.targets import one_hot, running_average, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)
FLOOR = 1e-10  # of both sides of lambda, as the authors' code: two samples that are surely wrong keep their own image


class Params(MethodParams):
    """`methods.mixnn_official` in params.yaml."""

    epochs: int = param(291, "after warm-up", source="official code: 300 with a warm-up of 9", ge=0)
    correction_epoch: int = param(60, "from 1, with warm-up [E_s]", source="official code", ge=0)
    update_period: int = param(10, "targets move in its multiples", source="official code", ge=1)
    target_momentum: float = param(0.9, "of the old target", source="official code", ge=0, lt=1)
    averaged_losses: int = param(
        1, "epochs that are averaged in [1]", source="official code; 5 at rate .8", ge=1
    )
    mixing_alpha: float = param(1.0, "of Beta(alpha, alpha)", source="official code", gt=0)
    batch_size: int = param(128, "images a step", source="official code", ge=2)
    learning_rate: float = param(0.02, "at each restart", source="MixNN VI-A", gt=0)
    floor_rate: float = param(0.001, "at the end of each period", source="MixNN VI-A", ge=0)
    period: int = param(10, "epochs between restarts, with warm-up", source="MixNN VI-A", ge=1)
    weight_decay: float = param(1e-3, "L2 penalty on all weights of the optimizer", source="MixNN VI-A", ge=0)


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    targets: Tensor  # [n c]
    history: Tensor  # [h t]: scaled losses of the training samples of the last epochs, the newest last


class Phase(NamedTuple):
    """What an epoch does."""

    partners: Literal["random", "nearest"]
    loss: Literal["linear", "soft"]
    updates: bool


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    network = networks[0]
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    history = torch.zeros(0, len(task.train_index), device=task.device)
    return State(network, optimizer, one_hot(task.noisy_labels, task.num_classes), history)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now = phase(task.warmup_epochs + epoch + 1, params)
    rate = cosine_warm_restarts(
        task.warmup_epochs + epoch, params.period, params.learning_rate, params.floor_rate
    )
    task.set_learning_rate(state.optimizer, rate)
    corrected = state.targets.argmax(dim=1)
    plain, _ = evaluate_train(state.network, task)
    losses = cross_entropy(plain, corrected, reduction="none")
    scaled = unit_range(losses[None, task.train_index])
    state.history = torch.cat([state.history, scaled])[-params.averaged_losses :]
    clean = torch.zeros_like(losses)
    clean[task.train_index] = scaled_clean_probability(state.history.mean(dim=0), rng)  # [1]
    nearest, soft = now.partners == "nearest", now.loss == "soft"
    record = EpochRecord(task, learning_rate=rate, nearest_partners=float(nearest), soft_loss=float(soft))
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        images = task.weak(index, rng)
        with torch.no_grad():  # [2]
            features = state.network.get_submodule("features")(images)
            probs = state.network.get_submodule("head")(features).softmax(dim=1)
        if now.updates:  # [3]
            state.targets[index] = running_average(state.targets[index], probs, params.target_momentum)
        if nearest:  # [4]
            partners = nearest_in_batch(features)
            weight = own_weight(clean[index], clean[index[partners]])
        else:
            partners = draw_partners(len(index), rng)
            weight = draw_beta(params.mixing_alpha, (1,), rng)
        logits = state.network(mix_pair(images, images[partners], weight))
        targets = mix_pair(state.targets[index], state.targets[index[partners]], weight)
        loss = soft_cross_entropy if soft else linear_loss
        task.step(loss(logits, targets).mean(), state.optimizer)  # [5]
    everything = torch.arange(task.num_samples, device=task.device)
    clean = torch.where(corrected == task.noisy_labels, clean, 0.0)  # of the given label, if it still counts
    record.add(everything, losses=losses, clean_probability=clean, predictions=plain)
    record.add(everything, pseudo_labels=state.targets.argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def phase(epoch: int, params: Params) -> Phase:
    """Of epoch `epoch`, counted from 1 with the warm-up."""
    correcting = epoch >= params.correction_epoch
    return Phase(
        partners="nearest" if epoch > params.correction_epoch else "random",
        loss="soft" if correcting else "linear",
        updates=correcting and epoch % params.update_period == 0,
    )


def nearest_in_batch(features: Float[Tensor, "b d"]) -> Int[Tensor, " b"]:
    """The nearest other row of each row, Euclidean; a single row is its own."""
    features = features.float()  # whatever the precision
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).argmin(dim=1)


def own_weight(own: Float[Tensor, " b"], partner: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """lambda: P(clean) of the sample over its sum with the partner's."""
    return (own + FLOOR) / (own + partner + FLOOR)


def linear_loss(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Minus the expected probability of the target, from -1 to 0."""
    return -(targets * logits.softmax(dim=1)).sum(dim=1)
