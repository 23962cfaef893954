"""Forward correction: the loss compares the given label with the prediction after the noise.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Steps:

  [1] T: the given matrix, or counted where labels were verified, or the warm-up network's prediction for the surest sample
      of each class   (Eq. 12, 13)
  [2] -log (p T)_y                                (Theorem 2), in the loop of parts/supervised.py
Differs from the paper: by default training goes on from the warm-up's network, which estimated T, on a cosine. With
`estimation_epochs` it is the paper's: cross-entropy first, whose weights of least validation loss tell T, then a new start.
Differs from the authors' code: outliers of one class stay candidates for the others (there they are zeroed in place);
T, not p T, has the floor of 1e-7.
"""

from torch import Generator, Tensor

from noisyctl.parts import supervised, transition
from noisyctl.parts.supervised import LossesOf
from noisyctl.parts.transition import CorrectionParams
from noisyctl.task import EpochRecord, Needs, Task

NEEDS = Needs(networks=1, verified=True)


class Params(CorrectionParams):
    """`methods.forward` in params.yaml."""


start, predict = transition.start, supervised.predict  # [1]


def run_epoch(state: transition.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    return transition.run_epoch(state, task, params, epoch, rng, corrected=corrected)


def corrected(matrix: Tensor) -> LossesOf:
    return lambda logits, labels: transition.forward_losses(logits, labels, matrix)  # [2]
