"""DivideMix: two networks divide the data for each other and learn from both sides by MixMatch.

Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. Steps:

  [1] two Gaussians on each network's losses -> P(clean)                                      (section 3.1)
  [2] co-divide: a network learns on its peer's division; labeled: P(clean) > tau             (section 3.1)
  [3] co-refine labeled targets, co-guess unlabeled ones, sharpen                             (section 3.2, Eq. 3, 4)
  [4] mix all rows, images and targets                                                        (section 3.2)
  [5] cross-entropy + lambda_u squared error + prior penalty                                  (section 3.2)

[1] to [5] are functions of parts/co_divide.py and parts/mixmatch.py, which ScanMix shares. `epochs` counts those after
warm-up: 301 in all in the paper, 291 after 10 (CIFAR-10), 271 after 30 (CIFAR-100); `decay_epoch` counts with warm-up, the
ramp of lambda_u without. Values of the paper's rows: papers/scanmix/params.yaml.
Its Clothing1M: `epoch_batches: 1000` (2000 in warm-up) of 32, whose samples alone are evaluated and divided, with
`unlabeled: mixed_in`, `unlabeled_weight: 0`, `mixing_alpha: 0.5` and a warm-up with `penalty_weight: 1`; WebVision:
`mixing_alpha: 0.5` and `unlabeled_weight: 0` on all samples, without that penalty.
Traced, of the start of the epoch: each network's losses, clean_probability and selected, on which the other one learns; the
predictions of both together and their co-refined pseudo_labels. Held-out samples take no part: theirs are 0. With
epoch_batches a sample that an epoch does not draw keeps its last values; before the first its given label counts as right.
No sample above tau: the batch_size most probable ones are labeled. None below, as when losses are equal: labeled rows
only. A side of one sample: it counts twice. One mode, or a class without labeled samples: as usual.
Differs from the paper: the squared error is divided by the number of classes, as in the authors' code, for which the
values of lambda_u hold.
Differs from the authors' code: averaging of losses is a parameter, not `r == 0.9`, and the average is scaled to [0, 1]
again before the fit; optimizers start anew after warm-up.
"""

import torch
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError
from noisyctl.parts.co_divide import (
    CoDivideParams,
    co_divide,
    no_history,
    optimizers_of,
    steps,
    unlabeled_weight,
)
from noisyctl.parts.schedules import step_decay
from noisyctl.task import EpochRecord, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(CoDivideParams):
    """`methods.dividemix` in params.yaml."""

    epoch_batches: int = param(
        0, "class-balanced, drawn every epoch; 0: all samples", source="DivideMix code: Clothing1M 1000", ge=0
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t] scaled losses of the last epochs
    last: dict[str, Tensor]  # the last trace, where an epoch divides a part of the samples


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    if params.epoch_batches and params.averaged_losses > 1:
        raise ParamsError(
            f"methods.dividemix.averaged_losses is {params.averaged_losses}, but with epoch_batches every epoch has losses "
            "of other samples; choose averaged_losses 1 or epoch_batches 0"
        )
    last = not_divided_yet(task) if params.epoch_batches else {}
    return State(networks[0], networks[1], optimizers_of(networks, params), no_history(task), last)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks = [state.network1, state.network2]
    index = task.balanced(params.epoch_batches * params.batch_size, rng)
    found = co_divide(networks, state.history, task, params, index, rng)  # [1]
    record = found.record(task, state.last, learning_rate=rate, unlabeled_weight=weight)
    state.history, state.last = found.history, record.vectors if params.epoch_batches else {}
    for i, peer in ((0, 1), (1, 0)):
        division = found.for_peer_of(peer)  # [2]
        task.set_learning_rate(state.optimizers[i], rate)
        for loss in steps(networks[i], networks[peer], division, task, params, epoch, rng, view=task.weak):
            task.step(loss, state.optimizers[i])  # [3] [4] [5]
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def not_divided_yet(task: Task) -> dict[str, Tensor]:
    """The trace of samples that no epoch has drawn: their given labels count as right."""
    ones, given = torch.ones(2, task.num_samples, device=task.device), task.noisy_labels
    own = {"losses": torch.zeros_like(ones), "clean_probability": ones, "selected": ones.bool()}
    return own | {"predictions": given.clone(), "pseudo_labels": given.clone()}
