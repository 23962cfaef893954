"""Mixup: every image is mixed with a random other one, and so are their labels.

The network trains on weighted averages of two images, with the same weighted average of their labels as the target. A
wrong label then never appears alone as the target of an image, and is harder to memorize. Mixup knows nothing about
noise; it is a baseline and a part of other methods.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. Steps:

  [1] draw lambda from Beta(alpha, alpha), once for the batch; the partners are the batch in another random order
  [2] mix lambda x_i + (1 - lambda) x_j, and the labels likewise; cross-entropy                      (Eq. 1, 2)

The trace's predictions are those for the mixed images, made while training.

Differs from the paper:
  - The learning rate follows a cosine, not steps (`ours`).
Differs from the authors' code:
  - Nothing known.
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

    epochs: int = param(200, "epochs after warm-up", source="mixup 3.2: CIFAR-10", ge=0)
    batch_size: int = param(128, "images in a batch", source="mixup 3.2: CIFAR-10", ge=2)
    learning_rate: float = param(
        0.1, "learning rate at the start of the cosine", source="mixup 3.2: CIFAR-10", gt=0
    )
    weight_decay: float = param(
        1e-4, "weight decay (L2 penalty) of the optimizer", source="mixup 3.2: CIFAR-10", ge=0
    )
    alpha: float = param(
        1.0,
        "parameter of the Beta distribution of mixing weights; larger values mix more equally",
        source="mixup 3.2; M-correction: 32",
        gt=0,
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
