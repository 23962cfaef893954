"""Oversampling: classes are balanced by drawing the samples of smaller classes several times.

Ding et al., "A Semi-Supervised Two-Stage Approach to Learning from Noisy Labels", WACV 2018, section 3.3.
"""

import math

import torch
from jaxtyping import Int
from torch import Generator, Tensor


def oversampled(
    index: Int[Tensor, " m"], labels: Int[Tensor, " n"], num_classes: int, rng: Generator
) -> Int[Tensor, " o"]:
    """Positions in which every class is as frequent as the largest class, in random order within a class.

    Samples of one class are drawn equally often, up to a difference of one.
    """
    shuffled = index[torch.randperm(len(index), generator=rng, device=rng.device).to(index.device)]
    classes = [shuffled[labels[shuffled] == c] for c in range(num_classes)]
    most = max(len(members) for members in classes)
    return torch.cat([members.repeat(math.ceil(most / max(len(members), 1)))[:most] for members in classes])
