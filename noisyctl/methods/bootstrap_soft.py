"""Soft bootstrapping: the target is the given label with a little of the prediction.

Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop. Steps:

  [1] cross-entropy with beta y + (1 - beta) p, in the loop of parts/supervised.py
Differs from the paper: the schedule is that of Patrini et al., whose CIFAR table has this baseline, by default as a cosine
(`ours`).
Differs from the authors' code: none was published; Patrini's, too, passes the gradient through the p of the target. It clips
p to 1e-7 inside the logarithm; here p is not clipped.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import soft_bootstrap
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.bootstrap_soft` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start", source="Patrini code: CIFAR-10", gt=0)
    weight_decay: float = param(
        2e-4,
        "L2 penalty on all weights of the optimizer",
        source="Patrini code: gradient of its L2 of 1e-4",
        ge=0,
    )
    given_weight: float = param(0.95, "of the given label [beta]", source="Patrini code", ge=0, le=1)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return soft_bootstrap(logits, labels, params.given_weight)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
