"""GCE: a loss between cross-entropy and the mean absolute error.

Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018. Steps:

  [1] (1 - p_y^q) / q, in the loop of parts/supervised.py
Differs from the paper: a cosine schedule instead of steps (`ours`). gce_truncated prunes, this file does not.
Differs from the authors' code: nothing known in the loss.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import generalized_cross_entropy
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.gce` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="GCE paper 4", ge=0)
    batch_size: int = param(128, "images a step", source="GCE paper 4", ge=2)
    learning_rate: float = param(0.01, "at the start", source="GCE paper 4", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="GCE paper 4", ge=0
    )
    power: float = param(
        0.7, "to 0: cross-entropy, 1: mean absolute error [q]", source="GCE paper 4", gt=0, le=1
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return generalized_cross_entropy(logits, labels, params.power)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
