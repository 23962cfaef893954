"""Co-teaching+: two networks choose small-loss samples for each other, among those that they disagree on.

Yu et al., "How does Disagreement Help Generalization against Label Corruption?", ICML 2019. Algorithm 1:

  [1] candidates: all samples up to an epoch, from then on those that the two networks predict differently
  [2] each network chooses the share lambda(e) of the candidates with the smallest losses
  [3] each network learns from what the other one has chosen
  [4] lambda(e) = 1 - tau min(e / E_k, 1), e counts from 1
A batch without a disagreement has a zero gradient; with one, at least one sample is chosen. Network 1 predicts.
Differs from the paper: tau may be estimated (parts/small_loss.py); the weak views are augmented, unless the data
set says no (the code: `pixels: unit`).
Differs from the authors' code: that takes the softmax of a softmax from the epoch of disagreement on, divides by the number
of the chosen twice, loses the sample at position 0, and learns from all where there is no disagreement in the first 5000
steps, or where the share rounds to no sample; its ramp starts at tau / 9; the last short batch of an epoch is kept here.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.schedules import linear_decay_after
from noisyctl.parts.small_loss import assumed_or_estimated, forget_rate, mean_of, set_adam, small_losses
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(MethodParams):
    """`methods.co_teaching_plus` in params.yaml."""

    epochs: int = param(200, "after warm-up", source="Co-teaching+ code", ge=0)
    batch_size: int = param(128, "images a step", source="Co-teaching+ code", ge=2)
    learning_rate: float = param(1e-3, "of Adam, up to decay_start", source="Co-teaching+ code", gt=0)
    decay_start: int = param(
        80,
        "epoch from which the rate falls on a line to 0",
        source="Co-teaching+ code: CIFAR-10; CIFAR-100: 100",
        ge=0,
    )
    momentum: float = param(
        0.9, "first beta of Adam, up to decay_start", source="Co-teaching+ code", ge=0, lt=1
    )
    late_momentum: float = param(0.1, "from decay_start on", source="Co-teaching+ code", ge=0, lt=1)
    assumed_noise_rate: float | None = param(
        None,
        "share of wrong labels [tau]; none: estimated by two Gaussians on the warm-up's losses",
        source="ours: the papers give the true one",
        ge=0,
        lt=1,
    )
    ramp_epochs: int = param(
        10,
        "in which the forget rate rises to the noise rate, counted with warm-up [T_k]",
        source="Co-teaching+ code",
        ge=1,
    )
    disagreement_epoch: int = param(
        20,
        "from which only disagreements count, counted with warm-up",
        source="Co-teaching+ code: CIFAR-10; CIFAR-100: 5, MNIST: 0",
        ge=0,
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizer1: torch.optim.Optimizer
    optimizer2: torch.optim.Optimizer
    noise_rate: float


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    noise_rate = assumed_or_estimated(params.assumed_noise_rate, networks, task, rng)
    adam1, adam2 = (torch.optim.Adam(network.parameters(), lr=params.learning_rate) for network in networks)
    return State(networks[0], networks[1], adam1, adam2, noise_rate)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    late = epoch >= params.decay_start
    rate = linear_decay_after(epoch, params.decay_start, params.epochs, params.learning_rate)
    forget = forget_rate(task.warmup_epochs + epoch, params.ramp_epochs, state.noise_rate)  # [4]
    record = EpochRecord(
        task,
        learning_rate=rate,
        forget_rate=forget,
        noise_rate=state.noise_rate,
        noise_rate_is_estimated=float(params.assumed_noise_rate is None),
    )
    for network, optimizer in ((state.network1, state.optimizer1), (state.network2, state.optimizer2)):
        network.train()
        set_adam(optimizer, rate, params.late_momentum if late else params.momentum)
    for index in task.batches(params.batch_size, rng):
        images, labels = task.weak(index, rng), task.noisy_labels[index]
        logits1, logits2 = state.network1(images), state.network2(images)
        losses1 = cross_entropy(logits1, labels, reduction="none")
        losses2 = cross_entropy(logits2, labels, reduction="none")
        candidates = logits1.argmax(dim=1) != logits2.argmax(dim=1)  # [1]
        if task.warmup_epochs + epoch < params.disagreement_epoch:
            candidates = torch.ones_like(candidates)
        chosen1 = small_losses(losses1, forget, among=candidates)  # [2]
        chosen2 = small_losses(losses2, forget, among=candidates)
        loss = mean_of(losses1, chosen2) + mean_of(losses2, chosen1)  # [3]
        task.step(loss, state.optimizer1, state.optimizer2)
        record.add(index, network=0, losses=losses1, learned_from=chosen1)
        record.add(index, network=1, losses=losses2, learned_from=chosen2)
        record.add(index, predictions=logits1)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)


def predict_further(state: State, images: Tensor) -> dict[str, Tensor]:
    return {"network2": state.network2(images)}
