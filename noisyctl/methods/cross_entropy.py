"""Cross-entropy on the noisy labels as they are: what every method is compared with.

One network trains on all samples with their given labels, as if the labels were correct. In the end it memorizes wrong
labels, too, so its last epoch is usually worse than its best one. The gain of every other method is measured against this
baseline.

Steps:

  [1] mean cross-entropy of weak views with the given labels, in the loop of parts/supervised.py;
      by default with SGD whose learning rate follows a cosine

Differs from the authors' code:
  - There is no single source: the papers' tables use this baseline with each paper's own schedule.
  - Patrini's code (Keras) clips probabilities to 1e-7 inside the logarithm; a sample below that has no gradient. Here every
    sample has one.
"""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from noisyctl.parts import supervised
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.cross_entropy` in params.yaml."""

    epochs: int = param(300, "epochs after warm-up", source="MixNN VI-A", ge=0)
    batch_size: int = param(128, "images in a batch", source="MixNN VI-A", ge=2)
    learning_rate: float = param(0.02, "learning rate at the start of training", source="MixNN VI-A", gt=0)
    weight_decay: float = param(1e-3, "weight decay (L2 penalty) of the optimizer", source="MixNN VI-A", ge=0)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
