"""PENCIL: the labels are learned beside the weights, by gradients of the same loss.

Every sample has a distribution over the classes as its label, which starts at the given label. In a middle stage of
training the gradient of the loss changes these labels as well as the network's weights, so that wrong labels move to what
the network predicts. In the last stage the labels are fixed and the network is fine-tuned on them.

Yi and Wu, "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels", CVPR 2019. Steps (section 3):

  [1] stage 1, with a high learning rate: cross-entropy with the given labels
  [2] stage 2: L_c / C + alpha L_o + beta L_e / C changes the weights, and the label logits u by -lambda dL/du
  [3] stage 3: the labels are fixed; L_c / C alone, while the learning rate falls

The label of a sample is softmax(u), where u starts as K times its one-hot given label. L_c = KL(prediction, label) makes
labels follow the predictions. L_o = -log label_y holds them to the given ones. L_e, the entropy of the predictions, keeps
these confident. Gradients are those of the batch's mean loss, so a value of lambda belongs to a batch size.

When labels turn: where a network is certain of another class, a label turns to it if alpha < 2 / C; with L_o as printed,
if alpha < 1 / C (our result, from dL/du = 0). With alpha = 0.4, the default of the code, no label of ten classes turns,
so alpha is 0.1 here. The paper chose alpha, beta and lambda for each setting; its choices were not found.

Differs from the paper:
  - By default L_o has the form of the authors' code, which by a slip uses softmax(u) as the logits, not u.
    `compatibility: paper` is L_o as printed.
Differs from the authors' code:
  - An integer division in the code makes the learning rate 0 in the last two thirds of stage 3. Here they have a tenth
    and a hundredth of its first rate.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from noisyctl.parts.losses import negative_entropy
from noisyctl.parts.schedules import step_decay
from noisyctl.parts.targets import one_hot
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.pencil` in params.yaml."""

    epochs: int = param(
        320, "epochs of all three stages together, after warm-up", source="official code", ge=0
    )
    batch_size: int = param(128, "images in a batch", source="official code", ge=2)
    learning_rate: float = param(0.06, "learning rate of stages 1 and 2", source="official code", gt=0)
    weight_decay: float = param(
        1e-4, "weight decay (L2 penalty) of the optimizer", source="official code", ge=0
    )
    correction_epoch: int = param(
        70, "first epoch of stage 2, counted from the start of warm-up", source="official code", ge=0
    )
    finetune_epoch: int = param(
        200, "first epoch of stage 3, counted from the start of warm-up", source="official code", ge=0
    )
    finetune_rate: float = param(0.2, "learning rate at the start of stage 3", source="official code", gt=0)
    label_scale: float = param(
        10.0,
        "label logit of the given class at the start; those of other classes are 0 [K]",
        source="official code",
        gt=0,
    )
    label_rate: float = param(
        600.0, "learning rate of the label logits [lambda]", source="official code", ge=0
    )
    compatibility_weight: float = param(
        0.1,
        "weight of L_o, which holds labels to the given ones [alpha]",
        source="ours: below 2 / C, so that labels turn; official code: 0.4",
        ge=0,
    )
    entropy_weight: float = param(
        0.1, "weight of L_e, the entropy of predictions [beta]", source="official code", ge=0
    )
    compatibility: Literal["paper", "code"] = param(
        "code",
        "form of L_o; paper: as printed; code: cross-entropy with softmax(u) as the logits",
        source="official code; PENCIL 3: paper",
    )


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    label_logits: Tensor  # [n c]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    rate, decay = params.learning_rate, params.weight_decay
    optimizer = torch.optim.SGD(networks[0].parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    return State(networks[0], optimizer, params.label_scale * one_hot(task.noisy_labels, task.num_classes))


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now = task.warmup_epochs + epoch
    stage = 3 if now >= params.finetune_epoch else 2 if now >= params.correction_epoch else 1
    rate = (
        params.learning_rate if stage < 3 else finetune_rate(now, task.warmup_epochs + params.epochs, params)
    )
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate, stage=float(stage))
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        labels, label_logits = task.noisy_labels[index], state.label_logits[index].requires_grad_(stage == 2)
        logits = state.network(task.weak(index, rng))
        losses = cross_entropy(logits, labels, reduction="none")
        if stage == 1:
            task.step(losses.mean(), state.optimizer)  # [1]
        elif stage == 2:
            task.step(pencil_losses(logits, label_logits, labels, params).mean(), state.optimizer)  # [2]
            state.label_logits[index] = moved(label_logits, params.label_rate)
        else:
            task.step(classification_losses(logits, label_logits).mean(), state.optimizer)  # [3]
        record.add(index, losses=losses, predictions=logits)
        record.add(index, pseudo_labels=state.label_logits[index].argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def finetune_rate(now: int, end: int, params: Params) -> float:
    """The learning rate of an epoch of stage 3: a tenth of the first in its second third, a hundredth in its last."""
    length = end - params.finetune_epoch
    return step_decay(now - params.finetune_epoch, [length / 3, 2 * length / 3], params.finetune_rate, 0.1)


def moved(label_logits: Float[Tensor, "b c"], label_rate: float) -> Float[Tensor, "b c"]:
    """The label logits of a batch after one plain gradient step; call it after the backward pass."""
    assert label_logits.grad is not None
    return label_logits.detach() - label_rate * label_logits.grad


def pencil_losses(
    logits: Float[Tensor, "b c"],
    label_logits: Float[Tensor, "b c"],
    labels: Int[Tensor, " b"],
    params: Params,
) -> Float[Tensor, " b"]:
    """Stage 2's loss of each sample: all three terms."""
    entropy = -negative_entropy(logits) / logits.shape[1]
    shown = label_logits.softmax(dim=1) if params.compatibility == "code" else label_logits
    compatibility = cross_entropy(shown, labels, reduction="none")
    supervised = classification_losses(logits, label_logits)
    return supervised + params.compatibility_weight * compatibility + params.entropy_weight * entropy


def classification_losses(
    logits: Float[Tensor, "b c"], label_logits: Float[Tensor, "b c"]
) -> Float[Tensor, " b"]:
    """KL(prediction, label) of each sample, divided by the number of classes."""
    log_probs = log_softmax(logits, dim=1)
    return (log_probs.exp() * (log_probs - log_softmax(label_logits, dim=1))).mean(dim=1)
