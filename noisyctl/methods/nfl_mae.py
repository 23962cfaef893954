"""NFL+MAE: a normalized focal loss learns, the mean absolute error helps (Active Passive Loss).

Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020. Steps:

  [1] alpha NFL + beta MAE, in the loop of parts/supervised.py
Differs from the paper: MAE is 1 - p_y, half of the L1 distance, and no gradient passes through NFL's (1 - p)^gamma; both as
the authors' code, which made the paper's numbers.
Differs from the authors' code: gradients are not clipped to norm 5.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import mean_absolute_error, normalized_focal_loss
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.nfl_mae` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="APL code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="APL code: CIFAR-10", ge=2)
    learning_rate: float = param(0.01, "at the start", source="APL code: CIFAR-10", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="APL code: CIFAR-10", ge=0
    )
    active_weight: float = param(
        1.0, "of NFL [alpha]", source="APL code: CIFAR-10; CIFAR-100: 10, MNIST: 1", ge=0
    )
    passive_weight: float = param(
        1.0, "of MAE [beta]", source="APL code: CIFAR-10; CIFAR-100: 1, MNIST: 10", ge=0
    )
    focus: float = param(0.5, "power of 1 - p in the focal loss [gamma]", source="APL code", ge=0)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        active = normalized_focal_loss(logits, labels, params.focus)
        passive = mean_absolute_error(logits, labels)
        return params.active_weight * active + params.passive_weight * passive  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
