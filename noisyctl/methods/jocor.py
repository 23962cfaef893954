"""JoCoR: two networks learn as one from samples that both find easy and agree on.

Two networks are trained together with one loss, which adds their cross-entropies and the divergence between their
predictions. In every batch only the samples with the smallest joint loss are used. A small joint loss means that both
networks fit the label and agree with each other, so the label is probably right.

Wei et al., "Combating Noisy Labels by Agreement: A Joint Training Method with Co-Regularization", CVPR 2020. Algorithm 1:

  [1] joint loss: (1 - lambda) (CE_1 + CE_2) + lambda (KL(p1, p2) + KL(p2, p1))
  [2] choose the share R(t) of the batch with the smallest joint losses, R(t) = 1 - tau min(t / T_k, 1), where t counts
      epochs from 1
  [3] both networks learn from the mean joint loss of the chosen samples, with one optimizer

Network 1 is the one that predicts. The paper's numbers are the mean of both networks' accuracies, which `noisyctl evaluate`
gives as `both_networks`.

Differs from the paper:
  - The noise rate tau may be estimated (parts/small_loss.py).
  - The weak views are augmented, unless the data set says otherwise (the code uses plain images: `pixels: unit`).
Differs from the authors' code:
  - The code halves tau for asymmetric noise. Here tau is what the params say.
  - The epoch t counts from 1; in the code the ramp of the forget rate starts at tau / 9.
  - The last, short batch of an epoch is kept.
Edge cases:
  - At least one sample of each batch is chosen.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.divergences import symmetric_kl
from noisyctl.parts.schedules import linear_decay_after
from noisyctl.parts.small_loss import assumed_or_estimated, forget_rate, mean_of, set_adam, small_losses
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(MethodParams):
    """`methods.jocor` in params.yaml."""

    epochs: int = param(200, "epochs after warm-up", source="JoCoR code", ge=0)
    batch_size: int = param(128, "images in a batch", source="JoCoR code", ge=2)
    learning_rate: float = param(1e-3, "learning rate of Adam up to decay_start", source="JoCoR code", gt=0)
    decay_start: int = param(
        80,
        "epoch from which the learning rate falls linearly to 0",
        source="JoCoR code: CIFAR-10; CIFAR-100: 100",
        ge=0,
    )
    momentum: float = param(0.9, "beta1 of Adam up to decay_start", source="JoCoR code", ge=0, lt=1)
    late_momentum: float = param(0.1, "beta1 of Adam from decay_start on", source="JoCoR code", ge=0, lt=1)
    assumed_noise_rate: float | None = param(
        None,
        "share of wrong labels that is assumed [tau]; none: estimated with two Gaussians on the losses after "
        "warm-up",
        source="ours: the papers give the true one; JoCoR's code: half of it for asymmetric noise",
        ge=0,
        lt=1,
    )
    ramp_epochs: int = param(
        10,
        "epochs in which the forget rate rises to the noise rate, counted from the start of warm-up [T_k]",
        source="JoCoR code",
        ge=1,
    )
    agreement_weight: float = param(
        0.9,
        "weight of the networks' agreement in the joint loss [lambda]",
        source="JoCoR code: CIFAR-10; at rate 0.8: 0.65, CIFAR-100: 0.85",
        ge=0,
        le=1,
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizer: torch.optim.Optimizer
    noise_rate: float


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    noise_rate = assumed_or_estimated(params.assumed_noise_rate, networks, task, rng)
    both = [parameter for network in networks for parameter in network.parameters()]
    return State(networks[0], networks[1], torch.optim.Adam(both, lr=params.learning_rate), noise_rate)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    late = epoch >= params.decay_start
    rate = linear_decay_after(epoch, params.decay_start, params.epochs, params.learning_rate)
    set_adam(state.optimizer, rate, params.late_momentum if late else params.momentum)
    forget = forget_rate(task.warmup_epochs + epoch, params.ramp_epochs, state.noise_rate)
    record = EpochRecord(
        task,
        learning_rate=rate,
        forget_rate=forget,
        noise_rate=state.noise_rate,
        noise_rate_is_estimated=float(params.assumed_noise_rate is None),
    )
    state.network1.train()
    state.network2.train()
    for index in task.batches(params.batch_size, rng):
        images, labels = task.weak(index, rng), task.noisy_labels[index]
        logits1, logits2 = state.network1(images), state.network2(images)
        losses = joint_losses(logits1, logits2, labels, params.agreement_weight)  # [1]
        chosen = small_losses(losses, forget)  # [2]
        task.step(mean_of(losses, chosen), state.optimizer)  # [3]
        record.add(index, losses=losses, selected=chosen, predictions=logits1)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)


def predict_further(state: State, images: Tensor) -> dict[str, Tensor]:
    return {"network2": state.network2(images)}


def joint_losses(
    logits1: Float[Tensor, "b c"],
    logits2: Float[Tensor, "b c"],
    labels: Int[Tensor, " b"],
    agreement_weight: float,
) -> Float[Tensor, " b"]:
    """The joint loss: both cross-entropies, and the divergence of the two predictions in both directions, in nats."""
    supervised = cross_entropy(logits1, labels, reduction="none") + cross_entropy(
        logits2, labels, reduction="none"
    )
    apart = symmetric_kl(logits1.softmax(dim=1), logits2.softmax(dim=1))
    return (1 - agreement_weight) * supervised + agreement_weight * apart
