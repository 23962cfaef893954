"""DivideMix: two networks divide the data for each other and learn from both sides by MixMatch.

Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. Steps:

  [1] two Gaussians on each network's losses -> P(clean)                                      (section 3.1)
  [2] co-divide: a network learns on its peer's division; labeled: P(clean) > tau             (section 3.1)
  [3] co-refine labeled targets, co-guess unlabeled ones, sharpen                             (section 3.2, Eq. 3, 4)
  [4] mix all rows, images and targets                                                        (section 3.2)
  [5] cross-entropy + lambda_u squared error + prior penalty                                  (section 3.2)

[1] to [5] are functions of parts/co_divide.py and parts/mixmatch.py, which ScanMix shares. `epochs` counts those after
warm-up: 301 in all in the paper, 291 after 10 (CIFAR-10), 271 after 30 (CIFAR-100); `decay_epoch` counts with warm-up, the
ramp of lambda_u without. Values of the paper's rows: papers/dividemix/params.yaml.
Traced, of the start of the epoch: each network's losses, clean_probability and selected, on which the other one learns; the
predictions of both together and their co-refined pseudo_labels. Held-out samples take no part: theirs are 0.
No sample above tau: the batch_size most probable ones are labeled. None below, as when losses are equal: labeled rows
only. A side of one sample: it counts twice. One mode, or a class without labeled samples: as usual.
Differs from the paper: the squared error is divided by the number of classes, as in the authors' code, for which the
values of lambda_u hold.
Differs from the authors' code: averaging of losses is a parameter, not `r == 0.9`, and the average is scaled to [0, 1]
again before the fit; optimizers start anew after warm-up.
"""

import torch
from torch import Generator, Tensor, nn

from noisyctl.parts.co_divide import CoDivideParams, co_divide, no_history, steps, unlabeled_weight
from noisyctl.parts.schedules import step_decay
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=2)


class Params(CoDivideParams):
    """`methods.dividemix` in params.yaml."""


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t] scaled losses of the last epochs


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    rate, decay = params.learning_rate, params.weight_decay
    optimizers = [
        torch.optim.SGD(n.parameters(), lr=rate, momentum=0.9, weight_decay=decay) for n in networks
    ]
    return State(networks[0], networks[1], optimizers, no_history(task))


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks = [state.network1, state.network2]
    found = co_divide(networks, state.history, task, params, rng)  # [1]
    state.history = found.history
    for i, peer in ((0, 1), (1, 0)):
        division = found.for_peer_of(peer, task)  # [2]
        task.set_learning_rate(state.optimizers[i], rate)
        for loss in steps(networks[i], networks[peer], division, task, params, epoch, rng, view=task.weak):
            task.step(loss, state.optimizers[i])  # [3] [4] [5]
    return found.record(task, learning_rate=rate, unlabeled_weight=weight)


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)
