"""PENCIL: the labels are learned beside the weights, by gradients of the same loss.

Yi and Wu, "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels", CVPR 2019. Steps (section 3):

  [1] stage 1, a high learning rate: cross-entropy with the given labels
  [2] stage 2: L_c / C + alpha L_o + beta L_e / C moves the weights, and the label logits u by -lambda dL/du
  [3] stage 3: the labels stay; L_c / C alone, the learning rate falls

A sample's label is softmax(u), u = K times its one-hot given label at first. L_c = KL(prediction, label): labels follow the
predictions; L_o = -log label_y holds them to the given ones; L_e, the entropy of predictions, keeps those sure.
Gradients are those of a batch's mean, so lambda holds for the batch size.
Differs from the paper: by default L_o has the form of the authors' code, whose logits are softmax(u), not u: a slip.
`compatibility: paper` is L_o as printed. Where a network is sure of another class, a label turns to it if alpha < 2 / C, as
printed if alpha < 1 / C (ours, from dL/du = 0): alpha is 0.1 here, since with 0.4, the default of the code, no label of ten
classes turns. The paper chose alpha, beta and lambda for each setting; its choices were not found.
Differs from the authors' code: its integer division makes the last two thirds of stage 3 stand still (rate 0), here they
have a tenth and a hundredth of its rate.
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

    epochs: int = param(320, "of all stages, after warm-up", source="official code", ge=0)
    batch_size: int = param(128, "images a step", source="official code", ge=2)
    learning_rate: float = param(0.06, "of stages 1 and 2", source="official code", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="official code", ge=0
    )
    correction_epoch: int = param(70, "of the start of stage 2, with warm-up", source="official code", ge=0)
    finetune_epoch: int = param(200, "of the start of stage 3, with warm-up", source="official code", ge=0)
    finetune_rate: float = param(0.2, "learning rate at the start of stage 3", source="official code", gt=0)
    label_scale: float = param(10.0, "of the given label in the logits [K]", source="official code", gt=0)
    label_rate: float = param(
        600.0, "learning rate of the label logits [lambda]", source="official code", ge=0
    )
    compatibility_weight: float = param(
        0.1, "[alpha]", source="ours: below 2 / C, so that labels turn; official code: 0.4", ge=0
    )
    entropy_weight: float = param(0.1, "[beta]", source="official code", ge=0)
    compatibility: Literal["paper", "code"] = param(
        "code", "of L_o; code: of the softmax of softmax(u)", source="official code; PENCIL 3: paper"
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
    """Of stage 3: a tenth of it in its second third, a hundredth in its last."""
    length = end - params.finetune_epoch
    return step_decay(now - params.finetune_epoch, [length / 3, 2 * length / 3], params.finetune_rate, 0.1)


def moved(label_logits: Float[Tensor, "b c"], label_rate: float) -> Float[Tensor, "b c"]:
    """A plain gradient step of a batch's label logits, after the backward pass."""
    assert label_logits.grad is not None
    return label_logits.detach() - label_rate * label_logits.grad


def pencil_losses(
    logits: Float[Tensor, "b c"],
    label_logits: Float[Tensor, "b c"],
    labels: Int[Tensor, " b"],
    params: Params,
) -> Float[Tensor, " b"]:
    """All three terms of stage 2."""
    entropy = -negative_entropy(logits) / logits.shape[1]
    shown = label_logits.softmax(dim=1) if params.compatibility == "code" else label_logits
    compatibility = cross_entropy(shown, labels, reduction="none")
    supervised = classification_losses(logits, label_logits)
    return supervised + params.compatibility_weight * compatibility + params.entropy_weight * entropy


def classification_losses(
    logits: Float[Tensor, "b c"], label_logits: Float[Tensor, "b c"]
) -> Float[Tensor, " b"]:
    """KL(prediction, label), over the number of classes."""
    log_probs = log_softmax(logits, dim=1)
    return (log_probs.exp() * (log_probs - log_softmax(label_logits, dim=1))).mean(dim=1)
