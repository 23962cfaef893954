"""GCE: a loss between cross-entropy and the mean absolute error.

Cross-entropy learns fast but gives the largest gradients to samples that contradict their labels; the mean absolute error
tolerates wrong labels but learns slowly. A power q between 0 and 1 moves this loss from one to the other. `gce_truncated`
is the paper's second form, which also leaves out samples; this file does not.

Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018.
Steps:

  [1] loss: (1 - p_y^q) / q, in the loop of parts/supervised.py

Differs from the paper:
  - The learning rate follows a cosine, not steps (`ours`).
Differs from the authors' code:
  - Nothing known in the loss.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import generalized_cross_entropy
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.gce` in params.yaml."""

    epochs: int = param(120, "epochs after warm-up", source="GCE paper 4", ge=0)
    batch_size: int = param(128, "images in a batch", source="GCE paper 4", ge=2)
    learning_rate: float = param(0.01, "learning rate at the start of training", source="GCE paper 4", gt=0)
    weight_decay: float = param(
        1e-4, "weight decay (L2 penalty) of the optimizer", source="GCE paper 4", ge=0
    )
    power: float = param(
        0.7,
        "power of p_y [q]; towards 0 the loss is cross-entropy, at 1 the mean absolute error",
        source="GCE paper 4",
        gt=0,
        le=1,
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return generalized_cross_entropy(logits, labels, params.power)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
