"""Sigmoid loss: a bounded, symmetric loss of the score of the given class.

Ghosh et al., "Making Risk Minimization Tolerant to Label Noise", Neurocomputing 2015; the baseline of Patrini et al.,
CVPR 2017. Steps:

  [1] mean_c sigmoid(-y_c s_c), y one-hot in 0 and 1, s standardized logits; in the loop of parts/supervised.py
Differs from the paper: for many classes, in Patrini's form, with beta 1. A cosine schedule (`ours`).
Differs from the authors' code: scores are the logits with mean 0 and variance 1 over the classes of each sample; there a
batch norm of its own parameters standardizes each class. Here the classes keep their order, and prediction needs no more.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import sigmoid_loss, standardized
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.sigmoid` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start of the cosine", source="Patrini code: CIFAR-10", gt=0)
    weight_decay: float = param(2e-4, "", source="Patrini code: gradient of its L2 of 1e-4", ge=0)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return sigmoid_loss(standardized(logits), labels)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
