"""Losses of the papers' baselines: from logits and given labels to one value a sample.

p is the softmax of the logits, p_y its entry at the given label, C the number of classes. Powers of a probability are
taken of its logarithm, so that values and gradients stay finite at 0 and at 1. Shapes: b = batch, c = classes.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, log_softmax

from noisyctl.errors import ParamsError
from noisyctl.parts.losses import negative_entropy

ZERO = 1e-4  # log 0 of reverse cross-entropy stands for log ZERO (SCE: A = log 1e-4)


def mean_absolute_error(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - p_y: half of the L1 distance to the one-hot label, as the code of APL scales it."""
    return 1 - _at(logits.softmax(dim=1), labels)


def generalized_cross_entropy(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], power: float
) -> Float[Tensor, " b"]:
    """(1 - p_y^q) / q: cross-entropy for q to 0, mean absolute error for q = 1."""
    return -torch.expm1(power * _at(log_softmax(logits, dim=1), labels)) / power


def reverse_cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-sum_c p_c log y_c with log 0 = log 1e-4: the mean absolute error times 9.21."""
    return -math.log(ZERO) * mean_absolute_error(logits, labels)


def normalized_cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """log p_y / sum_k log p_k, in [0, 1]."""
    log_probs = log_softmax(logits, dim=1)
    return _at(log_probs, labels) / log_probs.sum(dim=1)


def normalized_focal_loss(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], focus: float
) -> Float[Tensor, " b"]:
    """The focal loss -(1 - p)^focus log p at the label, over its sum for all labels.

    No gradient passes through (1 - p)^focus, as in the code of APL: for focus < 1 it is infinite at p = 1.
    """
    log_probs = log_softmax(logits, dim=1)
    focal = -((1 - log_probs.detach().exp()) ** focus) * log_probs
    return _at(focal, labels) / focal.sum(dim=1)


def soft_bootstrap(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], given_weight: float
) -> Float[Tensor, " b"]:
    """Cross-entropy with beta y + (1 - beta) p; the gradient passes through the p of the target, too."""
    losses = cross_entropy(logits, labels, reduction="none")
    return given_weight * losses - (1 - given_weight) * negative_entropy(logits)


def hard_bootstrap(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], given_weight: float
) -> Float[Tensor, " b"]:
    """Cross-entropy with beta y + (1 - beta) onehot(argmax p)."""
    log_probs = log_softmax(logits, dim=1)
    return -given_weight * _at(log_probs, labels) - (1 - given_weight) * log_probs.amax(dim=1)


def unhinged(scores: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c (1 - y_c s_c) with y one-hot: unbounded, so scores must be."""
    return 1 - _at(scores, labels) / scores.shape[1]


def sigmoid_loss(scores: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c sigmoid(-y_c s_c) with y one-hot: the other classes each give sigmoid(0) = 1/2."""
    num_classes = scores.shape[1]
    return ((-_at(scores, labels)).sigmoid() + 0.5 * (num_classes - 1)) / num_classes


def savage(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c (1 + exp(2 y_c p_c))^-2 with y one-hot: the other classes each give 1/4."""
    num_classes, at_label = logits.shape[1], _at(logits.softmax(dim=1), labels)
    return ((-2 * at_label).sigmoid() ** 2 + 0.25 * (num_classes - 1)) / num_classes


def standardized(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Each row with mean 0 and variance 1 over the classes: entries of at most sqrt(C - 1), in the same order."""
    return layer_norm(logits, logits.shape[1:])


def require_batch_norm(network: nn.Module) -> None:
    """Raises ParamsError where the network's last layer does not bound its scores."""
    if not isinstance(list(network.modules())[-1], nn.BatchNorm1d):
        raise ParamsError(
            "scores is 'head', which needs a network whose head ends with a batch norm; give the warm-up profile "
            "`head: batch_norm` and warm up again, or leave scores out"
        )


def _at(values: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The entry of every row at its label."""
    return values.gather(1, labels[:, None])[:, 0]
