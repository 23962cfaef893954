"""Soft targets: one-hot rows, smoothing, sharpening and averages, and the cross-entropy with soft targets."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax


def one_hot(labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "n c"]:
    """Rows that are 1 at the label and 0 elsewhere."""
    return torch.nn.functional.one_hot(labels, num_classes).float()


def smooth_one_hot(labels: Int[Tensor, " n"], num_classes: int, smoothing: float) -> Float[Tensor, "n c"]:
    """Rows that are 1 - smoothing at the label and smoothing / (C - 1) elsewhere (Jo-SRC Eq. 5)."""
    rest = smoothing / (num_classes - 1)
    return rest + (1 - smoothing - rest) * one_hot(labels, num_classes)


def sharpen(probs: Float[Tensor, "n c"], temperature: float) -> Float[Tensor, "n c"]:
    """Rows raised to the power 1 / temperature and scaled to a sum of 1 (MixMatch Eq. 7).

    A temperature below 1 sharpens, one above 1 flattens. Rows are first divided by their largest entry, which does
    not change the result but keeps small powers from becoming 0. The function is meant for targets, without
    gradients: above 1 its gradient at a probability of 0 is infinite.
    """
    powered = (probs / probs.amax(dim=1, keepdim=True)) ** (1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)


def average_probs(*logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """The mean of the softmax over several networks or views (co-guessing of DivideMix 3.2, MixMatch Eq. 6)."""
    return torch.stack(logits).softmax(dim=2).mean(dim=0)


def running_average(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """The updated average; `momentum` is the weight of the old value."""
    return momentum * old + (1 - momentum) * new


def soft_cross_entropy(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Cross-entropy of each row with its target distribution."""
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1)
