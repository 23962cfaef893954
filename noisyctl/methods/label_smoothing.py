"""Label smoothing: cross-entropy with targets that keep a little for every class.

The target of a sample gives most of its weight to the given label and spreads the rest equally over all classes. The
network is thereby kept from becoming certain of any label, wrong ones included. Nothing about the noise has to be known.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016; on noisy labels Lukasik et al.,
"Does Label Smoothing Mitigate Label Noise?", ICML 2020. Steps:

  [1] cross-entropy with the target (1 - epsilon) y + epsilon / C, in the loop of parts/supervised.py

Differs from the paper:
  - The schedule is that of `cross_entropy`, so that the two can be compared (`ours`).
Differs from the authors' code:
  - None was published for noisy labels.
"""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from noisyctl.parts import supervised
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.label_smoothing` in params.yaml."""

    epochs: int = param(300, "epochs after warm-up", source="MixNN VI-A, as cross_entropy", ge=0)
    batch_size: int = param(128, "images in a batch", source="MixNN VI-A, as cross_entropy", ge=2)
    learning_rate: float = param(
        0.02, "learning rate at the start of training", source="MixNN VI-A, as cross_entropy", gt=0
    )
    weight_decay: float = param(
        1e-3, "weight decay (L2 penalty) of the optimizer", source="MixNN VI-A, as cross_entropy", ge=0
    )
    smoothing: float = param(
        0.1,
        "share of the target that is spread over all classes equally [epsilon]",
        source="Szegedy et al. 7",
        ge=0,
        lt=1,
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none", label_smoothing=params.smoothing)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
