"""Decoupling: two networks learn only from samples that they predict differently.

Two networks with different initial weights see the same batches. Both are updated only with the samples for which they
predict different classes. Samples that both networks already agree on, rightly or wrongly, no longer change the weights.

Malach and Shalev-Shwartz, "Decoupling 'when to update' from 'how to update'", NeurIPS 2017. Algorithm 1:

  [1] find the samples of a batch that the two networks predict differently
  [2] each network learns from its own losses of these samples: their sum, divided by their number or by a tenth of the
      batch size, whichever is larger

The authors' code trains on all samples first; here warm-up does that. Network 1 is the one that predicts.

Differs from the paper:
  - Adam and its schedule are those of JoCoR, whose tables have this baseline.
Differs from the authors' code:
  - Any number of classes, all with the same weight. The code has two classes, weighted by their frequency.
Edge cases:
  - A batch without a disagreement has a gradient of zero.
"""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.parts.schedules import linear_decay_after
from noisyctl.parts.small_loss import set_adam
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)
LEAST = 0.1  # the sum of losses is divided by at least this share of the batch size, as in the authors' code


class Params(MethodParams):
    """`methods.decoupling` in params.yaml."""

    epochs: int = param(200, "epochs after warm-up", source="JoCoR code", ge=0)
    batch_size: int = param(128, "images in a batch", source="JoCoR code", ge=2)
    learning_rate: float = param(1e-3, "learning rate of Adam up to decay_start", source="JoCoR code", gt=0)
    decay_start: int = param(
        80,
        "epoch from which the learning rate falls linearly to 0",
        source="JoCoR code: CIFAR-10; CIFAR-100: 100",
        ge=0,
    )
    momentum: float = param(0.9, "beta1 of Adam up to decay_start", source="JoCoR code", ge=0, lt=1)
    late_momentum: float = param(0.1, "beta1 of Adam from decay_start on", source="JoCoR code", ge=0, lt=1)


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizer1: torch.optim.Optimizer
    optimizer2: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    adam1, adam2 = (torch.optim.Adam(network.parameters(), lr=params.learning_rate) for network in networks)
    return State(networks[0], networks[1], adam1, adam2)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    late = epoch >= params.decay_start
    rate = linear_decay_after(epoch, params.decay_start, params.epochs, params.learning_rate)
    record = EpochRecord(task, learning_rate=rate)
    for network, optimizer in ((state.network1, state.optimizer1), (state.network2, state.optimizer2)):
        network.train()
        set_adam(optimizer, rate, params.late_momentum if late else params.momentum)
    for index in task.batches(params.batch_size, rng):
        images, labels = task.weak(index, rng), task.noisy_labels[index]
        logits1, logits2 = state.network1(images), state.network2(images)
        losses1 = cross_entropy(logits1, labels, reduction="none")
        losses2 = cross_entropy(logits2, labels, reduction="none")
        disagree = logits1.argmax(dim=1) != logits2.argmax(dim=1)  # [1]
        loss = mean_of_updated(losses1, disagree) + mean_of_updated(losses2, disagree)  # [2]
        task.step(loss, state.optimizer1, state.optimizer2)
        record.add(index, network=0, losses=losses1)
        record.add(index, network=1, losses=losses2)
        record.add(index, learned_from=disagree, predictions=logits1)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images)


def predict_further(state: State, images: Tensor) -> dict[str, Tensor]:
    return {"network2": state.network2(images)}


def mean_of_updated(losses: Float[Tensor, " b"], updated: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Sum of the losses of the updated samples, divided by their number or by a tenth of the batch size if that is larger.

    So a batch in which only one sample is updated does not give this sample the weight of a whole batch.
    """
    return (losses * updated).sum() / updated.sum().clamp(min=LEAST * len(losses))
