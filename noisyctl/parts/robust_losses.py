"""Losses of the papers' baselines: functions of logits and given labels that give one value per sample.

p is the softmax of the logits, p_y its entry at the given label, and C the number of classes. Powers of a probability are
computed from its logarithm, so that values and gradients stay finite at 0 and at 1.

Shapes: b = batch, c = classes.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, log_softmax

from noisyctl.errors import ParamsError
from noisyctl.parts.losses import negative_entropy

ZERO = 1e-4  # in the reverse cross-entropy, log 0 is replaced by log ZERO (SCE: A = log 1e-4)


def mean_absolute_error(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 - p_y, which is half of the L1 distance to the one-hot label, as in the code of APL."""
    return 1 - _at(logits.softmax(dim=1), labels)


def generalized_cross_entropy(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], power: float
) -> Float[Tensor, " b"]:
    """(1 - p_y^q) / q, where q is `power`: towards q = 0 the cross-entropy, at q = 1 the mean absolute error."""
    return -torch.expm1(power * _at(log_softmax(logits, dim=1), labels)) / power


def reverse_cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-sum_c p_c log y_c, with log 1e-4 in place of log 0; this is the mean absolute error times 9.21."""
    return -math.log(ZERO) * mean_absolute_error(logits, labels)


def normalized_cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """log p_y / sum_k log p_k, which lies in [0, 1]."""
    log_probs = log_softmax(logits, dim=1)
    return _at(log_probs, labels) / log_probs.sum(dim=1)


def normalized_focal_loss(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], focus: float
) -> Float[Tensor, " b"]:
    """The focal loss -(1 - p)^focus log p of the given label, divided by its sum over all labels.

    No gradient passes through the factor (1 - p)^focus, as in the code of APL; for focus < 1 it would be infinite at
    p = 1.
    """
    log_probs = log_softmax(logits, dim=1)
    focal = -((1 - log_probs.detach().exp()) ** focus) * log_probs
    return _at(focal, labels) / focal.sum(dim=1)


def soft_bootstrap(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], given_weight: float
) -> Float[Tensor, " b"]:
    """Cross-entropy with the target beta y + (1 - beta) p; the gradient also passes through the p of the target."""
    losses = cross_entropy(logits, labels, reduction="none")
    return given_weight * losses - (1 - given_weight) * negative_entropy(logits)


def hard_bootstrap(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], given_weight: float
) -> Float[Tensor, " b"]:
    """Cross-entropy with the target beta y + (1 - beta) onehot(argmax p)."""
    log_probs = log_softmax(logits, dim=1)
    return -given_weight * _at(log_probs, labels) - (1 - given_weight) * log_probs.amax(dim=1)


def unhinged(scores: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c (1 - y_c s_c), with y one-hot. It has no lower bound unless the scores are bounded."""
    return 1 - _at(scores, labels) / scores.shape[1]


def sigmoid_loss(scores: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c sigmoid(-y_c s_c), with y one-hot; each of the other classes contributes sigmoid(0) = 1/2."""
    num_classes = scores.shape[1]
    return ((-_at(scores, labels)).sigmoid() + 0.5 * (num_classes - 1)) / num_classes


def savage(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """mean_c (1 + exp(2 y_c p_c))^-2, with y one-hot; each of the other classes contributes 1/4."""
    num_classes, at_label = logits.shape[1], _at(logits.softmax(dim=1), labels)
    return ((-2 * at_label).sigmoid() ** 2 + 0.25 * (num_classes - 1)) / num_classes


def standardized(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Each row shifted and scaled to mean 0 and variance 1 over the classes.

    The order of a row's entries stays, and none is larger than sqrt(C - 1).
    """
    return layer_norm(logits, logits.shape[1:])


def require_batch_norm(network: nn.Module) -> None:
    """Raises ParamsError unless the network's last layer is a batch norm, which bounds its scores."""
    if not isinstance(list(network.modules())[-1], nn.BatchNorm1d):
        raise ParamsError(
            "scores is 'head', which needs a network whose head ends with a batch norm; set `head: batch_norm` in the "
            "warm-up profile and warm up again, or leave scores out"
        )


def _at(values: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The entry of each row at its label."""
    return values.gather(1, labels[:, None])[:, 0]
