"""Convex combinations of samples."""

from torch import Tensor


def mix(own: Tensor, others: Tensor, weight: Tensor, other_weights: Tensor) -> Tensor:
    """`weight[b] * own[b ...] + sum_k other_weights[b k] * others[b k ...]`."""
    axes = (1,) * (own.ndim - 1)
    mixed = weight.view(-1, *axes) * own
    return mixed + (other_weights.view(*other_weights.shape, *axes) * others).sum(dim=1)
