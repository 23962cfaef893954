"""Exact bounds for the number of wrong labels in a finite population, from a stratified random sample.

One stratum: the Clopper-Pearson construction ("The use of confidence or fiducial limits illustrated in the case of the
binomial", Biometrika 1934), with both tails of the hypergeometric distribution, as photos are drawn without replacement.

Several strata: the total is tested by the stratified estimate T, the sum over strata of photos * wrong / asked. How the
wrong labels are spread over the strata is not known. A total is in the interval where some spread leaves T's tail a chance
above error / 2 - gamma; only spreads are tried that lie in the strata's own intervals, which together fail with a chance
of gamma (Berger and Boos, "P values maximized over a confidence set for the nuisance parameter", JASA 1994). So the interval
covers at least as often as it says, for any spread. The largest chance is searched on a grid that is refined twice.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import gammaln

from noisyctl.errors import ParamsError

MOST_STRATA = 3
SPENT = 0.04  # share of a side's error that the strata's own intervals take: gamma
COARSE, FINE, ROUNDS = (
    9,
    5,
    2,
)  # points a side of the grid, of the finer ones, and how many of these there are


@dataclass(frozen=True)
class Stratum:
    """Photos of a stratum, how many of them were asked about, and how many of these are wrong."""

    photos: int
    asked: int
    wrong: int


def least_wrong(wrong: int, asked: int, photos: int, error: float) -> int:
    """The fewest wrong labels among `photos` that leave `wrong` or more of `asked` a chance above `error`."""
    if asked == 0 or wrong == 0:
        return wrong

    def possible(total: int) -> bool:
        return bool(_chances(photos, np.array([total]), asked)[0, wrong:].sum() > error)

    return _first(wrong, photos - (asked - wrong), possible)


def most_wrong(wrong: int, asked: int, photos: int, error: float) -> int:
    """The most wrong labels among `photos` that leave `wrong` or fewer of `asked` a chance above `error`."""
    return photos - least_wrong(asked - wrong, asked, photos, error)


def least_total(strata: Sequence[Stratum], error: float) -> int:
    """A lower bound for the wrong labels of all strata together; it fails with a chance of at most `error`.

    Raises ParamsError for more than three strata.
    """
    known = [one for one in strata if one.asked]
    if len(known) > MOST_STRATA:
        raise ParamsError(f"{len(known)} strata; at most {MOST_STRATA} can be combined")
    if len(known) <= 1:
        return sum(least_wrong(one.wrong, one.asked, one.photos, error) for one in known)
    gamma = SPENT * error
    share = gamma / (2 * len(known))
    low = [least_wrong(one.wrong, one.asked, one.photos, share) for one in known]
    high = [most_wrong(one.wrong, one.asked, one.photos, share) for one in known]
    tail = _Tail(known, low, high)
    return _first(sum(low), sum(high), lambda total: tail.largest(total) > error - gamma)


def most_total(strata: Sequence[Stratum], error: float) -> int:
    """An upper bound for the wrong labels of all strata together; it fails with a chance of at most `error`."""
    turned = [Stratum(one.photos, one.asked, one.asked - one.wrong) for one in strata]
    return sum(one.photos for one in strata) - least_total(turned, error)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first whole number of low..high for which a condition holds that holds for all after it, and for high."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


class _Tail:
    """The chance of an estimate as large as the one that was found, maximized over the spreads of a total."""

    def __init__(self, strata: Sequence[Stratum], low: Sequence[int], high: Sequence[int]) -> None:
        empty = [Stratum(0, 0, 0)] * (MOST_STRATA - len(strata))
        self.strata = [*strata, *empty]
        self.low = [*low, *[0] * len(empty)]
        self.high = [*high, *[0] * len(empty)]
        weights = [one.photos / one.asked if one.asked else 0.0 for one in self.strata]
        found = sum(weight * one.wrong for weight, one in zip(weights, self.strata, strict=True))
        first, second = (np.arange(one.asked + 1) for one in self.strata[:2])
        rest = found - weights[0] * first[:, None] - weights[1] * second[None]
        # the fewest wrong ones of the third stratum with which the estimate is as large; 0 to asked + 1
        least = np.ceil(rest / weights[2] - 1e-9) if weights[2] else np.where(rest > 1e-9 * found, 1, 0)
        self.needed = np.clip(least, 0, self.strata[2].asked + 1).astype(np.int64)

    def largest(self, total: int) -> float:
        """The largest chance over the spreads of so many wrong labels; 0 where no spread is possible."""
        best = 0.0
        spans = [(self.low[k], self.high[k]) for k in (0, 1)]
        for points in (COARSE, *[FINE] * ROUNDS):
            spread = self._grid(total, spans, points)
            if not len(spread):
                break
            chances = self._chances(spread)
            at = int(chances.argmax())
            best = max(best, float(chances[at]))
            steps = [max(1, -(-(high - low) // (points - 1))) for low, high in spans]
            spans = [
                (
                    max(self.low[k], int(spread[at, k]) - steps[k]),
                    min(self.high[k], int(spread[at, k]) + steps[k]),
                )
                for k in (0, 1)
            ]
        return best

    def _grid(
        self, total: int, spans: Sequence[tuple[int, int]], points: int
    ) -> Int64[np.ndarray, "spread 3"]:
        """Spreads of the total: the first stratum's share on a grid, the second's on one of what is possible then."""
        one = np.unique(np.linspace(*spans[0], points).round().astype(np.int64))
        low = np.maximum(spans[1][0], total - one - self.high[2])
        high = np.minimum(spans[1][1], total - one - self.low[2])
        share = np.linspace(0, 1, points)
        two = np.round(low[:, None] + share * (high - low)[:, None]).astype(np.int64)
        spread = np.stack(
            [np.broadcast_to(one[:, None], two.shape), two, total - one[:, None] - two], axis=-1
        )
        possible = np.broadcast_to((low <= high)[:, None], two.shape)
        return spread[possible]

    def _chances(self, spread: Int64[np.ndarray, "spread 3"]) -> Float[np.ndarray, " spread"]:
        first, second, third = (
            _chances(one.photos, spread[:, k], one.asked) for k, one in enumerate(self.strata)
        )
        none = np.zeros((len(spread), 1))
        at_least = np.concatenate([third[:, ::-1].cumsum(axis=1)[:, ::-1], none], axis=1)
        return np.einsum("si,sij,sj->s", first, at_least[:, self.needed], second)


def _chances(
    photos: int, wrong: Int64[np.ndarray, " spread"], asked: int
) -> Float[np.ndarray, "spread asked1"]:
    """The hypergeometric distribution: chances of 0 to `asked` wrong ones among those asked, for each number of wrong."""
    log = _log_factorials(photos)
    x = np.arange(asked + 1)[None]
    k = wrong[:, None]
    possible: Bool[np.ndarray, "spread asked1"] = (x <= k) & (asked - x <= photos - k)
    chosen = np.where(possible, x, np.maximum(0, asked - (photos - k)))
    logs = (
        _log_choose(log, k, chosen)
        + _log_choose(log, photos - k, asked - chosen)
        - _log_choose(log, photos, asked)
    )
    return np.where(possible, np.exp(logs), 0.0)


def _log_choose(log: np.ndarray, n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    return np.asarray(log[n] - log[k] - log[n - k])


@functools.lru_cache(maxsize=8)
def _log_factorials(n: int) -> Float[np.ndarray, " n1"]:
    return np.asarray(gammaln(np.arange(n + 1, dtype=np.float64) + 1))
