"""Mixup: every image is mixed with a random other one, and so are their labels.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. Steps:

  [1] lambda drawn from Beta(alpha, alpha), one a batch; partners are the batch in another random order
  [2] lambda x_i + (1 - lambda) x_j and the same of the labels, cross-entropy                        (Eq. 1, 2)
Differs from the paper: a cosine schedule instead of steps (`ours`).
Differs from the authors' code: nothing known.
Traced predictions are of the mixed images, seen while it trains.
"""

import torch
from torch import Generator

from noisyctl.parts import supervised
from noisyctl.parts.mixing import draw_beta, mix_pair
from noisyctl.parts.schedules import cosine
from noisyctl.parts.targets import one_hot, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.mixup` in params.yaml."""

    epochs: int = param(200, "after warm-up", source="mixup 3.2: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="mixup 3.2: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start of the cosine", source="mixup 3.2: CIFAR-10", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="mixup 3.2: CIFAR-10", ge=0
    )
    alpha: float = param(
        1.0, "of the Beta; the larger, the nearer to halves", source="mixup 3.2; M-correction: 32", gt=0
    )


start, predict = supervised.start_sgd, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        images, labels = task.weak(index, rng), one_hot(task.noisy_labels[index], task.num_classes)
        weight = draw_beta(params.alpha, (1,), rng)  # [1]
        order = torch.randperm(len(index), generator=rng, device=rng.device)
        mixed = mix_pair(images, images[order], weight)
        logits = state.network(mixed)
        losses = soft_cross_entropy(logits, mix_pair(labels, labels[order], weight))
        task.step(losses.mean(), state.optimizer)  # [2]
        record.add(index, predictions=logits)
    return record
