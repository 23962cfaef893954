"""Backward correction: a loss whose mean over the noise is the loss with clean labels.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Steps:

  [1] T: the given matrix, or the warm-up network's prediction for the surest sample of each class   (Eq. 12, 13)
  [2] where T is ill-conditioned, some of the identity is mixed in                              (section 4.1)
  [3] -sum_j (T^-1)_yj log p_j                    (Theorem 1), in the loop of parts/supervised.py
Differs from the paper: by default training goes on from the warm-up's network, which estimated T, on a cosine. With
`estimation_epochs` it is the paper's: cross-entropy first, whose weights of least validation loss tell T, then a new start.
Differs from the authors' code: outliers of one class stay candidates for the others (there they are zeroed in place);
when and how much [2] mixes is ours. The weight is the scalar `identity_weight` of the trace, 0 where T stays as it is.
"""

import torch
from torch import Generator, Tensor

from noisyctl.parts import supervised, transition
from noisyctl.parts.supervised import LossesOf
from noisyctl.parts.transition import CorrectionParams
from noisyctl.task import EpochRecord, Needs, Task

NEEDS = Needs(networks=1, verified=True)


class Params(CorrectionParams):
    """`methods.backward` in params.yaml."""


start, predict = transition.start, supervised.predict  # [1]


def run_epoch(state: transition.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    record = transition.run_epoch(state, task, params, epoch, rng, corrected=corrected)
    record.scalars["identity_weight"] = transition.invertible(state.matrix)[1]
    return record


def corrected(matrix: Tensor) -> LossesOf:
    inverse = torch.linalg.inv(transition.invertible(matrix)[0])  # [2]
    return lambda logits, labels: transition.backward_losses(logits, labels, inverse)  # [3]
