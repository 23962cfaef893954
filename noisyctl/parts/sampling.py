"""Classes balanced by drawing samples of smaller ones several times (Ding et al., "Two-Stage", WACV 2018, section 3.3)."""

import math

import torch
from jaxtyping import Int
from torch import Generator, Tensor


def oversampled(
    index: Int[Tensor, " m"], labels: Int[Tensor, " n"], num_classes: int, rng: Generator
) -> Int[Tensor, " o"]:
    """Every class as often as the most frequent; within a class no sample is drawn twice more than another."""
    shuffled = index[torch.randperm(len(index), generator=rng, device=rng.device).to(index.device)]
    classes = [shuffled[labels[shuffled] == c] for c in range(num_classes)]
    most = max(len(members) for members in classes)
    return torch.cat([members.repeat(math.ceil(most / max(len(members), 1)))[:most] for members in classes])
