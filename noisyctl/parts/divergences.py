"""Divergences between the rows of two tensors of probabilities."""

import math

from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8  # of a probability inside a logarithm: values and gradients stay finite at 0


def kl(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Kullback-Leibler divergence of q from p, in nats: sum_c p log(p / q)."""
    return (p * (p.clamp(min=FLOOR).log() - q.clamp(min=FLOOR).log())).sum(dim=1)


def symmetric_kl(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """The sum of both directions, in nats (JoCoR; Jo-SRC Eq. 9, whose code has it in bits)."""
    return kl(p, q) + kl(q, p)


def jensen_shannon(p: Float[Tensor, "n c"], q: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Jensen-Shannon divergence in bits, so that it lies in [0, 1] (Jo-SRC Eq. 2)."""
    m = 0.5 * (p + q)
    return (0.5 * kl(p, m) + 0.5 * kl(q, m)) / math.log(2)
