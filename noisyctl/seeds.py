"""Independent, named streams of random numbers from one seed.

`stream(7, "train-method", "mixnn", 12)` gives the same generator on every machine and in every process, and another one
for any other name: a stage that draws more numbers never moves the draws of its neighbors.
"""

import hashlib

import numpy as np
import torch


def key(seed: int, *names: str | int) -> int:
    """63 bits that depend on the seed and on every name."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for this seed and these names."""
    return torch.Generator(device).manual_seed(key(seed, *names))


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for this seed and these names."""
    return np.random.Generator(np.random.PCG64(key(seed, *names)))


def draw_seed(rng: torch.Generator) -> int:
    """A seed in [0, 2^31) for a library that wants one (`random_state`), drawn from `rng`."""
    return int(torch.randint(2**31 - 1, (), generator=rng, device=rng.device))
