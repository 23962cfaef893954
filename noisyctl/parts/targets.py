"""Soft targets: one-hot rows, running averages, the cross-entropy with soft targets."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax


def one_hot(labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "n c"]:
    """Rows with a 1 at the label."""
    return torch.nn.functional.one_hot(labels, num_classes).float()


def running_average(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """`momentum` is the weight of the old value."""
    return momentum * old + (1 - momentum) * new


def soft_cross_entropy(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Cross-entropy of each row against a distribution."""
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1)
