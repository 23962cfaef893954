"""Small-loss selection, which Co-teaching and related methods share.

Early in training, samples with small losses are mostly labeled correctly. The methods therefore leave out ("forget") the
samples with the largest losses; the share that is forgotten follows the noise rate.

Where the user assumes no noise rate, it is estimated once, when the method starts: two Gaussians are fitted to the losses
that the networks have after warm-up, and the noise rate is the share of samples that more probably belong to the Gaussian
with the larger mean. The scalars of a run hold `noise_rate`, and `noise_rate_is_estimated` as 1 or 0.

A noise rate of 0 forgets nothing. A rate of 1 is refused, because nothing would be left to learn from. At least one
sample of a batch is kept in any case, even where the estimate says that all labels are wrong.
"""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.errors import ParamsError
from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.mixture import clean_probability
from noisyctl.parts.schedules import linear
from noisyctl.task import Task

ROUNDING = (
    1e-4  # tolerance of rounding down: (1 - 0.9) * 10 should be one sample, but in floats it is a little less
)


def forget_rate(epoch: int, ramp_epochs: int, noise_rate: float) -> float:
    """The forget rate of an epoch, which rises to tau (Co-teaching 3: 1 - R(T) = tau min(T / T_k, 1), T from 1)."""
    return linear(epoch + 1, 0, ramp_epochs, 0.0, noise_rate)


def small_losses(
    losses: Float[Tensor, " b"], forget: float, among: Bool[Tensor, " b"] | None = None
) -> Bool[Tensor, " b"]:
    """Mask of the share 1 - forget of the samples that have the smallest losses; their number is rounded down.

    `among` restricts the choice to some samples. At least one sample is chosen, if there is any. Of samples with
    equal losses the earlier ones are chosen.
    """
    among = torch.ones_like(losses, dtype=torch.bool) if among is None else among
    kept = ((1 - forget) * among.sum() + ROUNDING).floor().clamp(min=1)
    rank = torch.where(among, losses.detach(), torch.inf).argsort(stable=True).argsort()
    return among & (rank < kept)


def mean_of(losses: Float[Tensor, " b"], chosen: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean of the losses of the chosen samples; 0 where none is chosen."""
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def assumed_or_estimated(
    assumed: float | None, networks: list[nn.Module], task: Task, rng: Generator
) -> float:
    """The noise rate that the user assumes, or an estimate from the networks' losses after warm-up."""
    if assumed is not None:
        return assumed
    return estimated_noise_rate([evaluate_train(network, task)[0] for network in networks], task, rng)


def estimated_noise_rate(logits: list[Tensor], task: Task, rng: Generator) -> float:
    """The share of training samples whose label two Gaussians on the losses judge to be wrong.

    A sample's loss is the mean of the networks' losses. Raises ParamsError after a warm-up of 0 epochs, when the
    losses say nothing about the labels.
    """
    if not task.warmup_epochs:
        raise ParamsError(
            "assumed_noise_rate is not given, and after a warm-up of 0 epochs it cannot be estimated; "
            "give --assumed-noise-rate or start from a warm-up with epochs"
        )
    losses = torch.stack([cross_entropy(rows, task.noisy_labels, reduction="none") for rows in logits])
    clean = clean_probability(losses.mean(dim=0)[task.train_index], rng)
    return float((clean <= 0.5).float().mean())


def set_adam(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Set the learning rate and beta1 of an Adam optimizer."""
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = rate, (momentum, 0.999)
