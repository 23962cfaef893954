"""Convex combinations of samples, and the random weights of mixup and MixMatch."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


def draw_beta(alpha: float, shape: tuple[int, ...], rng: Generator) -> Float[Tensor, "..."]:
    """Draws of Beta(alpha, alpha), with alpha > 0, on the device of `rng` (mixup, Zhang et al. 2018, Eq. 2)."""
    log_gamma = _log_gamma(alpha, (2, *shape), rng)
    return (log_gamma[0] - log_gamma[1]).sigmoid().float()


def draw_dirichlet(alpha: float, shape: tuple[int, ...], rng: Generator) -> Float[Tensor, "..."]:
    """Weights that sum to 1 over the last axis, drawn from Dirichlet(alpha, ..., alpha).

    With a last axis of two they are Beta(alpha, alpha).
    """
    return _log_gamma(alpha, shape, rng).softmax(dim=-1).float()


def _log_gamma(alpha: float, shape: tuple[int, ...], rng: Generator) -> Float[Tensor, "..."]:
    """Logarithms of draws of Gamma(alpha).

    For a small alpha the draws themselves may be too small for a float, so only their logarithms are computed: a
    Gamma(alpha) is a Gamma(alpha + 1) times U^(1/alpha).
    """
    size = torch.full(shape, alpha + 1, dtype=torch.float64, device=rng.device)
    uniform = torch.rand(size.shape, dtype=size.dtype, device=rng.device, generator=rng)
    return torch._standard_gamma(size, generator=rng).log() + torch.log1p(-uniform) / alpha


def draw_partners(n: int, rng: Generator) -> Int[Tensor, " n"]:
    """A random order of n samples: the partner that each is mixed with, which may be the sample itself (mixup)."""
    return torch.randperm(n, generator=rng, device=rng.device)


def mixmatch_weight(weight: Tensor) -> Tensor:
    """max(l, 1 - l), so that a mixed sample stays nearer to its own image (MixMatch, Berthelot et al. 2019, Eq. 9)."""
    return torch.maximum(weight, 1 - weight)


def mix_pair(own: Tensor, other: Tensor, weight: Tensor | float) -> Tensor:
    """`weight * own + (1 - weight) * other`, for images or targets; a tensor holds one weight, or one per sample."""
    if isinstance(weight, Tensor):
        weight = weight.view(-1, *(1,) * (own.ndim - 1)).to(own.dtype)
    return weight * own + (1 - weight) * other


def mix(own: Tensor, others: Tensor, weight: Tensor, other_weights: Tensor) -> Tensor:
    """Mix each sample with k others: `weight[b] * own[b ...] + sum_k other_weights[b k] * others[b k ...]`."""
    axes = (1,) * (own.ndim - 1)
    mixed = weight.view(-1, *axes) * own
    return mixed + (other_weights.view(*other_weights.shape, *axes) * others).sum(dim=1)
