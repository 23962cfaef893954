"""Learning rates, thresholds and weights as pure functions of the epoch (or step)."""

import math
from collections.abc import Sequence

Number = int | float


def linear(t: Number, t0: Number, t1: Number, a: Number, b: Number) -> float:
    """A line from `a` at t0 to `b` at t1; constant before t0 and after t1."""
    if t >= t1:
        return float(b)
    return float(a) if t <= t0 else a + (b - a) * (t - t0) / (t1 - t0)


def gaussian_ramp(t: Number, length: Number) -> float:
    """exp(-5 (1 - t / length)^2) up to t = `length`, and 1 from there on (Laine and Aila 2017, section 3)."""
    return math.exp(-5 * (1 - min(max(t / length, 0.0), 1.0)) ** 2) if length else 1.0


def linear_decay_after(epoch: Number, start: Number, end: Number, rate: Number) -> float:
    """`rate` up to `start`, then a line that falls to 0 at `end` (Co-teaching, JoCoR, Jo-SRC)."""
    return linear(epoch, start, end, rate, 0.0)


def cosine(epoch: Number, epochs: Number, rate: Number, floor: Number = 0.0) -> float:
    """Half a cosine from `rate` at epoch 0 to `floor` at `epochs`."""
    return floor + (rate - floor) * (1 + math.cos(math.pi * min(epoch / max(epochs, 1), 1.0))) / 2


def cosine_warm_restarts(epoch: Number, period: Number, rate: Number, floor: Number = 0.0) -> float:
    """Cosine annealing that starts again every `period` epochs (Loshchilov and Hutter 2016, Eq. 5)."""
    return cosine(epoch % period, period, rate, floor)


def step_decay(epoch: Number, milestones: Sequence[Number], rate: Number, factor: Number) -> float:
    """`rate`, multiplied by `factor` once for every milestone that has been reached."""
    return rate * float(factor) ** sum(epoch >= milestone for milestone in milestones)


def warmup_cosine(step: Number, warmup: Number, total: Number, rate: Number, floor: Number = 0.0) -> float:
    """A line from rate / warmup up to `rate` over `warmup` steps, then half a cosine down to `floor` at `total`."""
    if step < warmup:
        return rate * (step + 1) / warmup
    return cosine(step - warmup, total - warmup, rate, floor)
