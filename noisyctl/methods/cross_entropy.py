"""Cross-entropy on the noisy labels as they are: what every method is compared with.

Steps:
  [1] weak views, mean cross-entropy with the given labels: the loop of parts/supervised.py, by default SGD with a cosine
Differs from the authors' code: no single source; the papers' tables use it with each paper's own schedule. Patrini's (Keras)
clips probabilities to 1e-7 inside the logarithm, from where on a sample has no gradient; here it always has one.
"""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from noisyctl.parts import supervised
from noisyctl.parts.supervised import SupervisedParams
from noisyctl.task import EpochRecord, Needs, Task, param

NEEDS = Needs(networks=1)


class Params(SupervisedParams):
    """`methods.cross_entropy` in params.yaml."""

    epochs: int = param(300, "after warm-up", source="MixNN VI-A", ge=0)
    batch_size: int = param(128, "images a step", source="MixNN VI-A", ge=2)
    learning_rate: float = param(0.02, "at the start", source="MixNN VI-A", gt=0)
    weight_decay: float = param(1e-3, "L2 penalty on all weights of the optimizer", source="MixNN VI-A", ge=0)


start, predict = supervised.start, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")  # [1]

    return supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
