"""Learning rates as pure functions of the epoch."""

import math


def cosine(epoch: int, epochs: int, rate: float, floor: float = 0.0) -> float:
    """From `rate` at 0 to `floor` at `epochs` along half a cosine."""
    return floor + (rate - floor) * (1 + math.cos(math.pi * min(epoch / max(epochs, 1), 1.0))) / 2


def cosine_warm_restarts(epoch: int, period: int, rate: float, floor: float) -> float:
    """Cosine annealing that starts again every `period` epochs (Loshchilov and Hutter 2016)."""
    return cosine(epoch % period, period, rate, floor)


def warmup_cosine(step: int, warmup: int, total: int, rate: float, floor: float = 0.0) -> float:
    """Linear from rate/warmup up to `rate` over `warmup` steps, then cosine down to `floor` at `total`."""
    if step < warmup:
        return rate * (step + 1) / warmup
    return cosine(step - warmup, total - warmup, rate, floor)
