"""Savage loss: bounded, and flat for samples that are far on the wrong side.

The loss of a sample has an upper bound, and hardly changes where the network strongly contradicts the label. A sample
whose label is wrong therefore has little influence on the weights. The same holds for hard samples with correct labels.

Masnadi-Shirazi and Vasconcelos, "On the Design of Loss Functions for Classification", NeurIPS 2008; the baseline of
Patrini et al., CVPR 2017. Steps:

  [1] loss: mean_c (1 + exp(2 y_c p_c))^-2, with y one-hot in 0 and 1; in the loop of parts/supervised.py

Differs from the paper:
  - The loss is for many classes and takes probabilities, in Patrini's form.
  - By default the learning rate follows a cosine (`ours`).
Differs from the authors' code:
  - Nothing known in the loss. Its gradient is small: at most 1 / C of a small slope.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import savage
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.savage` in params.yaml."""

    epochs: int = param(120, "epochs after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images in a batch", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(
        0.1, "learning rate at the start of training", source="Patrini code: CIFAR-10", gt=0
    )
    weight_decay: float = param(
        2e-4,
        "weight decay (L2 penalty) of the optimizer",
        source="Patrini code: gradient of its L2 of 1e-4",
        ge=0,
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return savage(logits, labels)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
