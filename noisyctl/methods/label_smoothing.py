"""Label smoothing: cross-entropy with targets that keep a little for every class.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016; on noisy labels Lukasik et al.,
"Does Label Smoothing Mitigate Label Noise?", ICML 2020. Steps:

  [1] cross-entropy with (1 - epsilon) y + epsilon / C, in the loop of parts/supervised.py
Differs from the paper: the schedule is that of cross_entropy, to compare with (`ours`).
Differs from the authors' code: none was published for noisy labels.
"""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from noisyctl.parts import supervised
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.label_smoothing` in params.yaml."""

    epochs: int = param(300, "after warm-up", source="MixNN VI-A, as cross_entropy", ge=0)
    batch_size: int = param(128, "images a step", source="MixNN VI-A, as cross_entropy", ge=2)
    learning_rate: float = param(0.02, "at the start", source="MixNN VI-A, as cross_entropy", gt=0)
    weight_decay: float = param(
        1e-3, "L2 penalty on all weights of the optimizer", source="MixNN VI-A, as cross_entropy", ge=0
    )
    smoothing: float = param(
        0.1, "share that all classes get in equal parts [epsilon]", source="Szegedy et al. 7", ge=0, lt=1
    )


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none", label_smoothing=params.smoothing)  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
