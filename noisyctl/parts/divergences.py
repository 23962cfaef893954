"""Divergences between two tensors of probabilities, row by row."""

import math

from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8  # least probability inside a logarithm, so that values and gradients stay finite at 0


def kl(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Kullback-Leibler divergence KL(p, q) = sum_c p_c log(p_c / q_c), in nats."""
    return (p * (p.clamp(min=FLOOR).log() - q.clamp(min=FLOOR).log())).sum(dim=1)


def symmetric_kl(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """KL(p, q) + KL(q, p), in nats (JoCoR; Jo-SRC Eq. 9, whose code computes it in bits)."""
    return kl(p, q) + kl(q, p)


def jensen_shannon(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Jensen-Shannon divergence in bits, which lies in [0, 1] (Jo-SRC Eq. 2)."""
    m = 0.5 * (p + q)
    return (0.5 * kl(p, m) + 0.5 * kl(q, m)) / math.log(2)
