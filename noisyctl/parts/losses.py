"""Losses that more than one method uses.

Most give one value per sample. Those that judge the mean prediction of a batch give one value per batch.
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax


def negative_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Negative entropy of each prediction, sum_c p_c log p_c, in nats.

    Added to the cross-entropy in warm-up it keeps a network from becoming too confident: the confidence penalty of
    Pereyra et al. 2017, which DivideMix 3.1 (Eq. 2) uses for asymmetric noise.
    """
    log_probs = log_softmax(logits, dim=1)
    return (log_probs.exp() * log_probs).sum(dim=1)


def squared_error(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Mean over the classes of (p - target)^2, for each sample (MixMatch Eq. 4).

    DivideMix 3.2 prints the sum over the classes; its code takes the mean.
    """
    return (logits.softmax(dim=1) - targets).square().mean(dim=1)


def pair_consistency(logits: Float[Tensor, "b c"], others: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """-log <p, q>: small where both predictions are confident of the same class (SCAN, Van Gansbeke et al. 2020, Eq. 2)."""
    return -(log_softmax(logits, dim=1) + log_softmax(others, dim=1)).logsumexp(dim=1)


def mean_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Entropy of the batch's mean prediction, in nats; it is largest when all classes are used equally (SCAN Eq. 2)."""
    log_mean = _log_mean_probs(logits)
    return -(log_mean.exp() * log_mean).sum()


def prior_penalty(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """The divergence of the batch's mean prediction from a uniform prior (DivideMix 3.2).

    It is sum_c pi_c log(pi_c / mean p_c) with pi_c = 1 / C, and large where a class is never predicted.
    """
    return -_log_mean_probs(logits).mean() - math.log(logits.shape[1])


def _log_mean_probs(logits: Float[Tensor, "b c"]) -> Float[Tensor, " c"]:
    """The logarithm of the batch's mean softmax.

    It is computed from log-softmax, so that value and gradient are finite even where the mean would round to 0.
    """
    return log_softmax(logits, dim=1).logsumexp(dim=0) - math.log(len(logits))
