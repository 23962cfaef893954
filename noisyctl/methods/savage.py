"""Savage loss: bounded, and flat for samples that are far on the wrong side.

Masnadi-Shirazi and Vasconcelos, "On the Design of Loss Functions for Classification", NeurIPS 2008; the baseline of
Patrini et al., CVPR 2017. Steps:

  [1] mean_c (1 + exp(2 y_c p_c))^-2, y one-hot in 0 and 1; in the loop of parts/supervised.py
Differs from the paper: for many classes, on probabilities, in Patrini's form. By default a cosine schedule (`ours`).
Differs from the authors' code: nothing known in the loss, whose gradient is small: at most 1 / C of a small slope.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import savage
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.savage` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start", source="Patrini code: CIFAR-10", gt=0)
    weight_decay: float = param(
        2e-4,
        "L2 penalty on all weights of the optimizer",
        source="Patrini code: gradient of its L2 of 1e-4",
        ge=0,
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return savage(logits, labels)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
