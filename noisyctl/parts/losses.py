"""Losses that more than one method uses: one value a sample, or one of a whole batch where the mean prediction counts."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax


def negative_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """sum_c p log p: added to the cross-entropy in warm-up, it keeps a network from growing confident.

    The confidence penalty of Pereyra et al. 2017; DivideMix 3.1 (Eq. 2) uses it for asymmetric noise.
    """
    log_probs = log_softmax(logits, dim=1)
    return (log_probs.exp() * log_probs).sum(dim=1)


def squared_error(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """Mean over the classes of (p - target)^2 (MixMatch Eq. 4; DivideMix 3.2 prints their sum, its code has the mean)."""
    return (logits.softmax(dim=1) - targets).square().mean(dim=1)


def pair_consistency(logits: Float[Tensor, "b c"], others: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """-log <p, q>: small where both predictions are confident of one class (SCAN, Van Gansbeke et al. 2020, Eq. 2)."""
    return -(log_softmax(logits, dim=1) + log_softmax(others, dim=1)).logsumexp(dim=1)


def mean_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Entropy of the batch's mean prediction, in nats: largest when all classes are used equally (SCAN Eq. 2)."""
    log_mean = _log_mean_probs(logits)
    return -(log_mean.exp() * log_mean).sum()


def prior_penalty(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """sum_c pi_c log(pi_c / mean p_c) with pi = 1 / C: large where a class is never predicted (DivideMix 3.2)."""
    return -_log_mean_probs(logits).mean() - math.log(logits.shape[1])


def _log_mean_probs(logits: Float[Tensor, "b c"]) -> Float[Tensor, " c"]:
    """log of the mean over the batch of the softmax: finite, with a gradient, where the mean itself would vanish."""
    return log_softmax(logits, dim=1).logsumexp(dim=0) - math.log(len(logits))
