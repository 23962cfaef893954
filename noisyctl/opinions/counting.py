"""How many of the given labels are wrong, with an interval.

The sum of 1 - p over all samples counts hard samples too, which the opinions get wrong although their labels are right. The
fewer samples there are to learn from, the more of those there are. So the count is made a second time with half of the
samples; what it falls by from there to all of them tells what it would still fall by with more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from scipy.optimize import brentq
from scipy.special import expit

from noisyctl.opinions.preparation import folds_of

CORRECTION = 0.5  # of the difference between both counts; chosen on planted noise (docs/results.md)
SMALL, LARGE = 3_000, 10_000  # below: both halves of three splits are judged; below: of one; above: one half
MISFIT = 0.1  # of the number: its usual error where the noise or the opinions are not as assumed, likewise
Z = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Estimate:
    """A number of samples, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def number_wrong(
    clean_probability: Float64[np.ndarray, " n"],
    judged_alone: Callable[[Int[np.ndarray, " p"]], Float64[np.ndarray, " p"]],
    groups: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Estimate:
    """The number of wrong labels; `judged_alone` gives clean probabilities of some samples, judged without all others.

    The interval's standard error has three parts: that of the sum of independent samples, the correction's own size, and a
    share MISFIT of the number.
    """
    n = len(labels)
    splits = [folds_of(labels, groups, rng, 2) for _ in range(3 if n < SMALL else 1)]
    numbers = (0, 1) if n < LARGE else (0,)
    judged = [judged_alone(np.flatnonzero(half == number)) for half in splits for number in numbers]
    wrong = 1 - clean_probability
    share = 1 - float(np.concatenate(judged).mean())
    correction = CORRECTION * max(share * n - float(wrong.sum()), 0.0)
    value = max(float(wrong.sum()) - correction, 0.0)
    error = float(np.sqrt((wrong * clean_probability).sum() + correction**2 + (MISFIT * value) ** 2))
    return Estimate(value, max(value - Z * error, 0.0), min(value + Z * error, float(n)))


def shifted_to(logits: Float64[np.ndarray, " n"], number: float) -> Float64[np.ndarray, " n"]:
    """Probabilities from logits that are shifted by one constant, so that the sum of 1 - p is `number`."""
    target = float(np.clip(number, 1e-6 * len(logits), (1 - 1e-6) * len(logits)))
    reach = float(np.abs(logits).max()) + 40.0
    shift = brentq(lambda by: float(expit(-(logits + by)).sum()) - target, -reach, reach)
    return expit(logits + shift)
