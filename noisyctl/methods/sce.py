"""SCE: cross-entropy, and cross-entropy with prediction and label exchanged.

Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019. Steps:

  [1] alpha CE + beta RCE, RCE = -sum_c p_c log y_c with log 0 = log 1e-4, in the loop of parts/supervised.py
Differs from the paper: the schedule is that of APL, which ran all robust losses under one (`ours`).
Differs from the authors' code: p has no floor of 1e-7, which RCE does not need.
"""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import reverse_cross_entropy
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.sce` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="APL code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="APL code: CIFAR-10", ge=2)
    learning_rate: float = param(0.01, "at the start", source="APL code: CIFAR-10", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="APL code: CIFAR-10", ge=0
    )
    cross_entropy_weight: float = param(0.1, "[alpha]", source="SCE paper 4: CIFAR-10; CIFAR-100: 6", ge=0)
    reverse_weight: float = param(1.0, "[beta]", source="SCE paper 4: CIFAR-10; CIFAR-100: 0.1", ge=0)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        forward = cross_entropy(logits, labels, reduction="none")
        reverse = reverse_cross_entropy(logits, labels)
        return params.cross_entropy_weight * forward + params.reverse_weight * reverse  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
