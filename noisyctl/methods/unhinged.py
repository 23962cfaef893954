"""Unhinged loss: linear in the score of the given class.

van Rooyen et al., "Learning with Symmetric Label Noise: The Importance of Being Unhinged", NeurIPS 2015; the
baseline of Patrini et al., CVPR 2017. Steps:

  [1] mean_c (1 - y_c s_c), y one-hot in 0 and 1, s standardized logits; in the loop of parts/supervised.py
Differs from the paper: van Rooyen et al. bound the weights, for two classes; this is Patrini's form. By
default a cosine schedule (`ours`).
Differs from the authors' code: by default scores are the logits with mean 0 and variance 1 over the classes of each sample,
so that any network will do; Patrini's code, whose rows are called "(BN)", standardizes each class by a batch norm after the
last layer: `scores: head`, with a warm-up profile of `head: batch_norm`.
"""

from typing import Literal

from torch import Generator, Tensor, nn

from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import require_batch_norm, standardized, unhinged
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.unhinged` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start", source="Patrini code: CIFAR-10", gt=0)
    weight_decay: float = param(
        2e-4,
        "L2 penalty on all weights of the optimizer",
        source="Patrini code: gradient of its L2 of 1e-4",
        ge=0,
    )
    scores: Literal["standardized", "head"] = param(
        "standardized",
        "[s]: logits standardized over the classes of a sample; head: outputs of a head that ends with a batch norm",
        source="ours; Patrini code: head, profile `head: batch_norm`",
    )


predict = supervised.predict


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> supervised.State:
    if params.scores == "head":
        require_batch_norm(networks[0])
    return supervised.start(networks, task, params, rng)


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        scores = logits if params.scores == "head" else standardized(logits)
        return unhinged(scores, labels)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
