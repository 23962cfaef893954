"""NCE+RCE: a normalized cross-entropy learns, the reverse cross-entropy helps (Active Passive Loss).

Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020. Steps:

  [1] alpha NCE + beta RCE, in the loop of parts/supervised.py
Differs from the paper: nothing known in the loss.
Differs from the authors' code: gradients are not clipped to norm 5; p has no floor of 1e-7, which RCE does not need.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import normalized_cross_entropy, reverse_cross_entropy
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.nce_rce` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="APL code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="APL code: CIFAR-10", ge=2)
    learning_rate: float = param(0.01, "at the start", source="APL code: CIFAR-10", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="APL code: CIFAR-10", ge=0
    )
    active_weight: float = param(
        1.0, "of NCE [alpha]", source="APL code: CIFAR-10; CIFAR-100: 10, MNIST: 1", ge=0
    )
    passive_weight: float = param(
        1.0, "of RCE [beta]", source="APL code: CIFAR-10; CIFAR-100: 0.1, MNIST: 10", ge=0
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        active = normalized_cross_entropy(logits, labels)
        passive = reverse_cross_entropy(logits, labels)
        return params.active_weight * active + params.passive_weight * passive  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
