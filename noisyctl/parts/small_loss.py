"""What Co-teaching and its kin share: samples with small losses are mostly labeled right early in training.

The share that is forgotten follows the noise rate. Where the user assumes none, it is estimated once, when the method
starts: two Gaussians are fitted to the losses with which warm-up left the networks, and the share of samples that belong
rather to the larger mean is the rate. A run's scalars hold `noise_rate`, and `noise_rate_is_estimated`: 1 or 0.
A rate of 0 forgets nothing; a rate of 1, which leaves nothing to learn from, is refused. At least one sample of a batch is
kept in any case, also where the estimate calls all labels wrong.
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

ROUNDING = 1e-4  # (1 - 0.9) * 10 is one sample, though a little less than 1 in floats


def forget_rate(epoch: int, ramp_epochs: int, noise_rate: float) -> float:
    """Rises to the noise rate over `ramp_epochs` (Co-teaching 3: 1 - R(T) = tau min(T / T_k, 1), T from 1)."""
    return linear(epoch + 1, 0, ramp_epochs, 0.0, noise_rate)


def small_losses(
    losses: Float[Tensor, " b"], forget: float, among: Bool[Tensor, " b"] | None = None
) -> Bool[Tensor, " b"]:
    """The share 1 - forget with the smallest losses, rounded down, of all samples or of those `among`.

    At least one is kept where there is any; equal losses go by position.
    """
    among = torch.ones_like(losses, dtype=torch.bool) if among is None else among
    kept = ((1 - forget) * among.sum() + ROUNDING).floor().clamp(min=1)
    rank = torch.where(among, losses.detach(), torch.inf).argsort(stable=True).argsort()
    return among & (rank < kept)


def mean_of(losses: Float[Tensor, " b"], chosen: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean of the chosen losses; 0 where none is chosen."""
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def assumed_or_estimated(
    assumed: float | None, networks: list[nn.Module], task: Task, rng: Generator
) -> float:
    """The noise rate that the user assumes, or an estimate from the networks as warm-up left them."""
    if assumed is not None:
        return assumed
    return estimated_noise_rate([evaluate_train(network, task)[0] for network in networks], task, rng)


def estimated_noise_rate(logits: list[Tensor], task: Task, rng: Generator) -> float:
    """Share of the training samples that two Gaussians on the networks' mean losses hold for wrong.

    Raises ParamsError after a warm-up of no epochs, whose losses tell nothing.
    """
    if not task.warmup_epochs:
        raise ParamsError(
            "assumed_noise_rate is not given, and a warm-up of 0 epochs cannot tell it; "
            "give --assumed-noise-rate or start from a warm-up with epochs"
        )
    losses = torch.stack([cross_entropy(rows, task.noisy_labels, reduction="none") for rows in logits])
    clean = clean_probability(losses.mean(dim=0)[task.train_index], rng)
    return float((clean <= 0.5).float().mean())


def set_adam(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Learning rate and first beta of an Adam, in place."""
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = rate, (momentum, 0.999)
