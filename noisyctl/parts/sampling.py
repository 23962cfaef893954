"""Which samples an epoch sees, by the classes of their given labels.

[1] balanced_subset: as many of every class, drawn anew, none twice; a class that runs short gives all it has (as the
    code of DivideMix, Li et al., ICLR 2020, reads Clothing1M)
[2] oversampled: all samples, those of smaller classes several times (Ding et al., "Two-Stage", WACV 2018, section 3.3)
"""

import math

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from noisyctl.task import Task


def epoch_samples(task: Task, size: int, rng: Generator) -> Int[Tensor, " m"]:
    """All training samples for a size of 0; else a class-balanced subset of them, of `size` at most."""
    if not size:
        return task.train_index
    return balanced_subset(task.train_index, task.noisy_labels, task.num_classes, size, rng)


def balanced_subset(
    index: Int[Tensor, " m"], labels: Int[Tensor, " n"], num_classes: int, size: int, rng: Generator
) -> Int[Tensor, " o"]:
    """[1]: of every class at most its share of `size`, rounded up; of these `size` in a random order."""
    shuffled = _shuffled(index, rng)
    return shuffled[rank_in_class(labels[shuffled]) < math.ceil(size / num_classes)][:size]


def oversampled(
    index: Int[Tensor, " m"], labels: Int[Tensor, " n"], num_classes: int, rng: Generator
) -> Int[Tensor, " o"]:
    """[2]: every class as often as the most frequent; within a class no sample is drawn twice more than another."""
    shuffled = _shuffled(index, rng)
    classes = [shuffled[labels[shuffled] == c] for c in range(num_classes)]
    most = max(len(members) for members in classes)
    return torch.cat([members.repeat(math.ceil(most / max(len(members), 1)))[:most] for members in classes])


def rank_in_class(labels: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """How many before each have its label."""
    order, counts = labels.argsort(stable=True), labels.bincount()
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels), device=labels.device)
    return rank - (counts.cumsum(dim=0) - counts)[labels]


def _shuffled(index: Int[Tensor, " m"], rng: Generator) -> Int[Tensor, " m"]:
    return index[torch.randperm(len(index), generator=rng, device=rng.device).to(index.device)]
