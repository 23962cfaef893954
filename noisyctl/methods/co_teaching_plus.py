"""Co-teaching+: two networks choose small-loss samples for each other, among those that they disagree on.

As in Co-teaching, each of two networks trains on the samples that have the smallest losses in the other one. From an
epoch on, only the samples count that the two networks predict differently. This keeps the networks from becoming alike,
after which they could no longer correct each other.

Yu et al., "How does Disagreement Help Generalization against Label Corruption?", ICML 2019. Algorithm 1:

  [1] candidates: all samples in the first epochs, later those that the two networks predict differently
  [2] each network chooses the share lambda(e) of the candidates with the smallest losses
  [3] each network learns from what the other one has chosen
  [4] lambda(e) = 1 - tau min(e / E_k, 1), where e counts epochs from 1

Network 1 is the one that predicts.

Differs from the paper:
  - The noise rate tau may be estimated (parts/small_loss.py).
  - The weak views are augmented, unless the data set says otherwise (the code uses plain images: `pixels: unit`).
Differs from the authors' code:
  - The code takes the softmax of a softmax from the epoch of disagreement on; here it is taken once.
  - The code divides by the number of chosen samples twice; here it is done once.
  - The code loses the sample at position 0.
  - The code learns from all samples where there is no disagreement in the first 5000 steps, or where the share rounds to no
    sample. Here see the edge cases.
  - In the code the ramp of the forget rate starts at tau / 9.
  - The last, short batch of an epoch is kept.
Edge cases:
  - A batch without a disagreement has a gradient of zero.
  - In a batch with a disagreement at least one sample is chosen.
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

    epochs: int = param(200, "epochs after warm-up", source="Co-teaching+ code", ge=0)
    batch_size: int = param(128, "images in a batch", source="Co-teaching+ code", ge=2)
    learning_rate: float = param(
        1e-3, "learning rate of Adam up to decay_start", source="Co-teaching+ code", gt=0
    )
    decay_start: int = param(
        80,
        "epoch from which the learning rate falls linearly to 0",
        source="Co-teaching+ code: CIFAR-10; CIFAR-100: 100",
        ge=0,
    )
    momentum: float = param(0.9, "beta1 of Adam up to decay_start", source="Co-teaching+ code", ge=0, lt=1)
    late_momentum: float = param(
        0.1, "beta1 of Adam from decay_start on", source="Co-teaching+ code", ge=0, lt=1
    )
    assumed_noise_rate: float | None = param(
        None,
        "share of wrong labels that is assumed [tau]; none: estimated with two Gaussians on the losses after "
        "warm-up",
        source="ours: the papers give the true one",
        ge=0,
        lt=1,
    )
    ramp_epochs: int = param(
        10,
        "epochs in which the forget rate rises to the noise rate, counted from the start of warm-up [T_k]",
        source="Co-teaching+ code",
        ge=1,
    )
    disagreement_epoch: int = param(
        20,
        "first epoch in which only disagreements count, counted from the start of warm-up",
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
