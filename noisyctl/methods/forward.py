"""Forward correction: the loss compares the given label with the prediction after the noise.

The transition matrix T says how often the noise turns each class into each other one. The network predicts the clean class;
its prediction is multiplied by T, which gives the distribution of the noisy label, and cross-entropy compares this with the
given label. T is given by the user, counted on labels that the user has verified, or estimated from a trained network.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Steps:

  [1] find T: the given matrix, or counts where labels were verified, or for each class the prediction of the warm-up
      network for the sample that is most confidently of that class                             (Eq. 12, 13)
  [2] train with the loss -log (p T)_y, in the loop of parts/supervised.py                      (Theorem 2)

Differs from the paper:
  - By default the network that estimated T in warm-up is trained further, with a cosine schedule. With `estimation_epochs`
    the procedure is the paper's: train with cross-entropy, estimate T with the weights of the least validation loss, then
    start again from the first weights with the corrected loss.
Differs from the authors' code:
  - Samples that are outliers of one class stay candidates for the other classes. The code sets them to zero in place.
  - The floor of 1e-7 is applied to the entries of T, not to those of p T.
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
    """The loss function for the transition matrix T."""
    return lambda logits, labels: transition.forward_losses(logits, labels, matrix)  # [2]
