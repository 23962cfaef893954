"""Backward correction: a loss whose mean over the noise is the loss with clean labels.

The transition matrix T says how often the noise turns each class into each other one. The loss of a sample is a
combination of its losses for all classes, with weights from the inverse of T, so that on average it equals the loss for
the clean label. T is given by the user, counted on labels that the user has verified, or estimated from a network trained
on the noisy labels.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Steps:

  [1] find T: the given matrix, or counts where labels were verified, or for each class the prediction of the warm-up
      network for the sample that is most confidently of that class                             (Eq. 12, 13)
  [2] where T is ill-conditioned, mix in some of the identity before T is inverted              (section 4.1)
  [3] train with the loss -sum_j (T^-1)_yj log p_j, in the loop of parts/supervised.py          (Theorem 1)

Differs from the paper:
  - By default the network that estimated T in warm-up is trained further, with a cosine schedule. With `estimation_epochs`
    the procedure is the paper's: train with cross-entropy, estimate T with the weights of the least validation loss, then
    start again from the first weights with the corrected loss.
Differs from the authors' code:
  - Samples that are outliers of one class stay candidates for the other classes. The code sets them to zero in place.
  - When [2] mixes in the identity, and how much, is our choice. The share is the trace's scalar `identity_weight`; it is 0
    where T is used as it is.
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
    """The loss function for the transition matrix T, which is made invertible and inverted here."""
    inverse = torch.linalg.inv(transition.invertible(matrix)[0])  # [2]
    return lambda logits, labels: transition.backward_losses(logits, labels, inverse)  # [3]
