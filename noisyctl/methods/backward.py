"""Backward correction: a loss whose mean over the noise is the loss with clean labels.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Steps:

  [1] T: the given matrix, or the warm-up network's prediction for the surest sample of each class   (Eq. 12, 13)
  [2] where T is ill-conditioned, some of the identity is mixed in                              (section 4.1)
  [3] -sum_j (T^-1)_yj log p_j                    (Theorem 1), in the loop of parts/supervised.py
Differs from the paper: training goes on from the network that estimated T; a cosine schedule instead of steps (`ours`).
Differs from the authors' code: outliers of one class stay candidates for the others (there they are zeroed in place);
when and how much [2] mixes is ours. The weight is the scalar `identity_weight` of the trace, 0 where T stays as it is.
"""

import torch
from torch import Generator, Tensor, nn

from noisyctl.parts import supervised, transition
from noisyctl.parts.transition import CorrectionParams
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=1, verified=True)


class Params(CorrectionParams):
    """`methods.backward` in params.yaml."""


@state
class State(supervised.State):
    inverse: Tensor  # [c c]
    identity_weight: float


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    matrix = transition.assumed_or_estimated(networks[0], task, params)  # [1]
    matrix, weight = transition.invertible(matrix)  # [2]
    plain = supervised.start(networks, task, params, rng)
    return State(plain.network, plain.optimizer, torch.linalg.inv(matrix), weight)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    def losses_of(logits: Tensor, labels: Tensor) -> Tensor:
        return transition.backward_losses(logits, labels, state.inverse)  # [3]

    record = supervised.run_epoch(state, task, params, epoch, rng, losses_of=losses_of)
    record.scalars["identity_weight"] = state.identity_weight
    return record


predict = supervised.predict
