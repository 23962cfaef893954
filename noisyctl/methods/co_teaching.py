"""Co-teaching: two networks choose small-loss samples for each other.

Networks learn correct labels before they memorize wrong ones, so samples with a small loss are mostly labeled correctly. In
every batch each of two networks picks the samples with its smallest losses, and the other network trains on them. Because
the two networks make different mistakes, the wrong labels that one lets through are often filtered out by the other.

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018. Algorithm 1:

  [1] lines 4, 5: each network chooses the share R(T) of the batch with the smallest losses
  [2] lines 6, 7: each network learns from what the other one has chosen
  [3] line 8: R(T) = 1 - tau min(T / T_k, 1), where T counts epochs from 1

The ramp of R(T) is the paper's own warm-up; to have it alone, start from a profile of `warmups:` with `epochs: 0`.
Network 1 is the one that predicts. The paper tests both; network 2's predictions on the test images are in the trace,
too.

Differs from the paper:
  - The noise rate tau may be estimated (parts/small_loss.py).
  - The weak views are augmented, unless the data set says otherwise (the code uses plain images: `pixels: unit`).
Differs from the authors' code:
  - The mean over the chosen samples is not divided by their number a second time.
  - The epoch T counts from 1; in the code the ramp of the forget rate starts at tau / 9.
  - The last, short batch of an epoch is kept.
Edge cases:
  - At least one sample of each batch is chosen, however large tau is.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.schedules import linear_decay_after
from noisyctl.parts.small_loss import assumed_or_estimated, forget_rate, mean_of, set_adam, small_losses
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(MethodParams):
    """`methods.co_teaching` in params.yaml."""

    epochs: int = param(200, "epochs after warm-up", source="Co-teaching code", ge=0)
    batch_size: int = param(128, "images in a batch", source="Co-teaching code", ge=2)
    learning_rate: float = param(
        1e-3, "learning rate of Adam up to decay_start", source="Co-teaching code", gt=0
    )
    decay_start: int = param(
        80,
        "epoch from which the learning rate falls linearly to 0",
        source="Co-teaching code: CIFAR-10; CIFAR-100: 100",
        ge=0,
    )
    momentum: float = param(0.9, "beta1 of Adam up to decay_start", source="Co-teaching code", ge=0, lt=1)
    late_momentum: float = param(
        0.1, "beta1 of Adam from decay_start on", source="Co-teaching code", ge=0, lt=1
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
        source="Co-teaching code",
        ge=1,
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
    forget = forget_rate(task.warmup_epochs + epoch, params.ramp_epochs, state.noise_rate)  # [3]
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
        chosen1, chosen2 = small_losses(losses1, forget), small_losses(losses2, forget)  # [1]
        loss = mean_of(losses1, chosen2) + mean_of(losses2, chosen1)  # [2]
        task.step(loss, state.optimizer1, state.optimizer2)
        record.add(index, network=0, losses=losses1, selected=chosen1)
        record.add(index, network=1, losses=losses2, selected=chosen2)
        record.add(index, predictions=logits1)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)


def predict_further(state: State, images: Tensor) -> dict[str, Tensor]:
    return {"network2": state.network2(images)}
