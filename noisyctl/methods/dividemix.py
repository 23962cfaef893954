"""DivideMix: two networks divide the data for each other and learn from both sides by MixMatch.

In every epoch each network's losses are divided into small ones, whose labels are probably right, and large ones. The other
network keeps the labels of the first side, and treats the second side as images without labels. Both sides are then used in
semi-supervised training (MixMatch), in which the networks predict the targets of the images without labels together.

Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. Steps:

  [1] fit two Gaussians to each network's losses, which give P(clean) of every sample           (section 3.1)
  [2] co-divide: a network learns on its peer's division; labeled are samples with P(clean) > tau   (section 3.1)
  [3] co-refine the targets of labeled images, co-guess those of unlabeled images, sharpen both (section 3.2, Eq. 3, 4)
  [4] mix all rows of a batch, images and targets, with each other                              (section 3.2)
  [5] loss: cross-entropy of labeled rows + lambda_u times the squared error of unlabeled rows + prior penalty (section 3.2)

Steps [1] to [5] are functions of parts/co_divide.py and parts/mixmatch.py, which ScanMix shares.

How epochs are counted: `epochs` counts those after warm-up. The paper has 301 in all, which is 291 after a warm-up of 10
(CIFAR-10) or 271 after one of 30 (CIFAR-100). `decay_epoch` counts from the start of warm-up; the ramp of lambda_u counts
from its end. The values of the paper's rows are in noisyctl/papers/data/scanmix/params.yaml.

Real data sets: the code's settings for Clothing1M are `epoch_batches: 1000` (2000 in warm-up) of 32 images, of which
alone the losses are computed and divided, with `unlabeled: mixed_in`, `unlabeled_weight: 0`, `mixing_alpha: 0.5`, and a
warm-up with `penalty_weight: 1`. WebVision uses all samples, `mixing_alpha: 0.5` and `unlabeled_weight: 0`, and no
penalty in warm-up.

The trace holds what was found at the start of the epoch: for each network the losses, clean_probability and the selected
samples, on which the other network learns; the common predictions of both; and their co-refined pseudo_labels.

Differs from the paper:
  - The squared error is divided by the number of classes, as in the authors' code, for which the values of lambda_u hold.
Differs from the authors' code:
  - How many epochs of losses are averaged is a parameter. The code averages five where the true noise rate is 0.9.
  - The optimizers start anew after warm-up.
Edge cases:
  - No sample is above tau: the `batch_size` samples with the largest P(clean) are labeled.
  - No sample is below tau, for example because all losses are equal: only labeled rows are used.
  - One side has a single sample: it is used twice, because batch norm needs two.
  - The losses have one mode only, or a class has no labeled sample: nothing special is done.
  - Held-out samples take no part; their values in the trace are 0.
  - With `epoch_batches` a sample that an epoch does not draw keeps its last values in the trace. Before it is drawn for the
    first time, its given label counts as right.
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
        0,
        "batches in an epoch, of samples drawn anew from all classes equally; 0: all samples in every epoch",
        source="DivideMix code: Clothing1M 1000",
        ge=0,
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t]: scaled losses of the training samples in the last epochs
    last: dict[str, Tensor]  # the last trace, needed where an epoch divides only a part of the samples


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    if params.epoch_batches and params.averaged_losses > 1:
        raise ParamsError(
            f"methods.dividemix.averaged_losses is {params.averaged_losses}, but with epoch_batches each epoch computes the "
            "losses of other samples, which cannot be averaged; set averaged_losses to 1 or epoch_batches to 0"
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
    """The trace's values for samples that no epoch has drawn yet: their given labels count as right."""
    ones, given = torch.ones(2, task.num_samples, device=task.device), task.noisy_labels
    own = {"losses": torch.zeros_like(ones), "clean_probability": ones, "selected": ones.bool()}
    return own | {"predictions": given.clone(), "pseudo_labels": given.clone()}
