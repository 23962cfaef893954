"""Jo-SRC: select, relabel and regularize by the consistency of two views.

Each image is seen in two random views. A sample is clean if its prediction is close to the smoothed given label;
otherwise it is taken for a wrong label of a known class (ID) if the two views are predicted alike, and for an image of an
unknown class (OOD) if they are not. Clean samples keep their label, and the others are trained with labels from a slowly
moving average of the network (the teacher).

Yao et al., "Jo-SRC: A Contrastive Approach for Combating Noisy Labels", CVPR 2021. Algorithm 1:

  [1] clean: 1 - JS(prediction of view 1, smoothed label), in bits, is above a threshold that rises (Eq. 2, 3, 5, 12)
  [2] otherwise ID where the predictions of both views agree, OOD where they do not                 (Eq. 4)
  [3] targets: the smoothed label for clean samples, the teacher's prediction for ID samples, and the
      teacher's prediction, flattened, for OOD samples                                              (Eq. 5, 6, 7)
  [4] loss: cross-entropy of both views + consistency, whose sign is reversed for OOD samples       (Eq. 9, 10, 11);
      in the first epochs the cross-entropy of the clean samples alone
  [5] the teacher follows the student after every step                                              (Eq. 8)

The first epochs of [4] are this algorithm's own warm-up. The paper starts from an untrained network: that is a warm-up
profile with `epochs: 0` and `head: mlp`. The method runs from any other profile, too.

Table 6: Jo-SRC-C, -CI and -CIO are `trained_on: clean`, `id` and `all` with `consistency_weight: 0`; Jo-SRC is the
defaults, and Standard is `cross_entropy`.

`counting: paper` numbers epochs from 1 and asks for a value > threshold; `counting: code` numbers them from 0 and asks
for >=, as the authors' code does. `optimizer: adam` has a learning rate that decays linearly from `decay_start` on; `sgd`
is Nesterov's with a cosine, which the code uses on web data.

Differs from the paper:
  - Targets average the teacher's predictions over both views, as the authors' code does.
  - The divergences of [4] are in bits, too. The paper names base 2 for the JS divergence only, but writes both with one
    D_KL.
Differs from the authors' code:
  - Probabilities inside logarithms are at least 1e-8, which bounds the OOD term.
  - The teacher copies the batch-norm buffers and predicts with them. With `teacher_statistics: batch` it predicts with
    batch statistics instead, as in the code.
Edge cases:
  - In the first epochs a batch without a clean sample has a loss of 0, not NaN as in the code.
Shapes: b = batch, c = classes.
"""

import math
import operator
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError
from noisyctl.nn.teacher import make_teacher, update_teacher
from noisyctl.parts.divergences import jensen_shannon, symmetric_kl
from noisyctl.parts.schedules import cosine, linear, linear_decay_after
from noisyctl.parts.targets import average_probs, smooth_one_hot, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)
CLEAN, ID, OOD = 0, 1, 2  # how the trace codes the verdicts
# the number of the first epoch, and what "above" means
COUNTINGS = {"paper": (1, operator.gt), "code": (0, operator.ge)}
# the verdicts of the samples that are trained on
TRAINED_ON = {"clean": [CLEAN], "id": [CLEAN, ID], "all": [CLEAN, ID, OOD]}


class Params(MethodParams):
    """`methods.jo_src` in params.yaml."""

    epochs: int = param(200, "epochs after warm-up [t_max]", source="Jo-SRC 4.1", ge=0)
    ramp_epochs: int = param(
        10, "first epochs, which train on clean samples only [t_w]", source="official code: CIFAR", ge=0
    )
    clean_threshold: float = param(
        0.75,
        "threshold of 1 - JS for clean samples at the end of the ramp [tau_c]",
        source="official code: CIFAR",
        ge=0,
        le=1,
    )
    final_clean_threshold: float = param(
        0.95,
        "threshold of 1 - JS for clean samples at the end of training [tau_m]",
        source="Jo-SRC 3.5",
        ge=0,
        le=1,
    )
    counting: Literal["paper", "code"] = param(
        "paper",
        "how epochs are counted; paper: from 1, above means >; code: from 0, above means >=",
        source="Jo-SRC Eq. 12; official code",
    )
    label_smoothing: float | None = param(
        None,
        "share of the target that the smoothed label gives to the other classes [epsilon]; none: 0.6, or of two "
        "classes 0.25, since 0.6 would favor the other one",
        source="Jo-SRC 4.1; of two classes ours",
        ge=0,
        lt=1,
    )
    consistency_weight: float = param(
        0.5,
        "weight of the consistency in the loss; the cross-entropy has 1 minus this [alpha]",
        source="official code: CIFAR",
        ge=0,
        le=1,
    )
    trained_on: Literal["clean", "id", "all"] = param(
        "all",
        "samples that are used after the first epochs; id: clean and ID samples",
        source="Jo-SRC Table 6",
    )
    ood_temperature: float = param(
        10.0, "temperature that flattens the targets of OOD samples [s]", source="Jo-SRC Eq. 7", gt=0
    )
    teacher_momentum: float = param(
        0.99, "weight of the old teacher when it follows the student [omega]", source="Jo-SRC 4.1", ge=0, le=1
    )
    teacher_statistics: Literal["running", "batch"] = param(
        "running",
        "batch-norm statistics that the teacher predicts with: running averages, or those of the batch",
        source="ours; batch: official code",
    )
    batch_size: int = param(128, "images in a batch", source="Jo-SRC 4.1", ge=2)
    optimizer: Literal["adam", "sgd"] = param(
        "adam",
        "adam, or sgd with Nesterov momentum 0.9 and a cosine",
        source="Jo-SRC 4.1; sgd: official code, web data",
    )
    learning_rate: float = param(1e-3, "learning rate at the start of training", source="Jo-SRC 4.1", gt=0)
    weight_decay: float = param(
        0.0, "weight decay (L2 penalty) of the optimizer", source="official code: CIFAR", ge=0
    )
    decay_start: int = param(
        80, "epoch from which the learning rate of Adam falls linearly to 0", source="Jo-SRC 4.1", ge=0
    )
    late_beta1: float = param(
        0.9,
        "beta1 of Adam from decay_start on; before that it is 0.9",
        source="Jo-SRC 4.1; official code: 0.1",
        ge=0,
        lt=1,
    )


@state
class State:
    student: nn.Module
    teacher: nn.Module
    optimizer: torch.optim.Optimizer


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    largest = 1 - 1 / task.num_classes
    if smoothing(params, task) >= largest:
        raise ParamsError(
            f"methods.jo_src.label_smoothing {params.label_smoothing} gives the given label, of {task.num_classes} "
            f"classes, no more weight than the others; choose a value below {largest:.3g}"
        )
    student, rate, decay = networks[0], params.learning_rate, params.weight_decay
    optimizer: torch.optim.Optimizer = torch.optim.Adam(student.parameters(), lr=rate, weight_decay=decay)
    if params.optimizer == "sgd":
        optimizer = torch.optim.SGD(student.parameters(), rate, 0.9, weight_decay=decay, nesterov=True)
    return State(student, make_teacher(student), optimizer)


def smoothing(params: Params, task: Task) -> float:
    """The label smoothing: what was asked for, or the paper's, or a fitting one of two classes."""
    if params.label_smoothing is not None:
        return params.label_smoothing
    return 0.6 if task.num_classes > 2 else 0.25


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    first, above = COUNTINGS[params.counting]
    t = first + epoch
    threshold = clean_threshold(t, params)
    ramping = t < params.ramp_epochs
    trained_on, alpha = ("clean", 0.0) if ramping else (params.trained_on, params.consistency_weight)
    trained_verdicts = torch.tensor(TRAINED_ON[trained_on], dtype=torch.uint8, device=task.device)
    rate = set_rate(state.optimizer, params, epoch)
    record = EpochRecord(task, learning_rate=rate, clean_threshold=threshold)
    state.student.train()
    state.teacher.train(params.teacher_statistics == "batch")
    for index in task.batches(params.batch_size, rng):
        view1, view2 = task.weak(index, rng), task.weak(index, rng)
        logits1, logits2 = state.student(view1), state.student(view2)
        with torch.no_grad():
            guess = average_probs(state.teacher(view1), state.teacher(view2))
        given = smooth_one_hot(task.noisy_labels[index], task.num_classes, smoothing(params, task))
        probability = clean_probability(logits1, given)
        verdict = verdict_of(above(probability, threshold), logits1, logits2)  # [1] [2]
        targets = relabel(verdict, given, guess, params.ood_temperature)  # [3]
        losses = soft_cross_entropy(logits1, targets) + soft_cross_entropy(logits2, targets)
        used = torch.isin(verdict, trained_verdicts)
        joint = (1 - alpha) * losses + alpha * consistency(verdict, logits1, logits2)
        task.step((joint * used).sum() / used.sum().clamp(min=1), state.optimizer)  # [4]
        update_teacher(state.teacher, state.student, params.teacher_momentum)  # [5]
        record.add(index, losses=losses, clean_probability=probability, verdict=verdict)
        record.add(index, selected=verdict == CLEAN, pseudo_labels=targets.argmax(dim=1), predictions=logits1)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.student(images)


def clean_threshold(t: int, params: Params) -> float:
    """Eq. 12: the threshold rises from 0 at t = 0 to tau_c at t_w, and from there to tau_m at t_max."""
    if t <= params.ramp_epochs:
        return linear(t, 0, params.ramp_epochs, 0.0, params.clean_threshold)
    return linear(t, params.ramp_epochs, params.epochs, params.clean_threshold, params.final_clean_threshold)


def set_rate(optimizer: torch.optim.Optimizer, params: Params, epoch: int) -> float:
    """Set the learning rate of an epoch, and with Adam its beta1; returns the rate."""
    if params.optimizer == "sgd":
        rate = cosine(epoch, params.epochs, params.learning_rate)
    else:
        rate = linear_decay_after(epoch, params.decay_start, params.epochs, params.learning_rate)
        for group in optimizer.param_groups:
            group["betas"] = (params.late_beta1 if epoch >= params.decay_start else 0.9, 0.999)
    Task.set_learning_rate(optimizer, rate)
    return rate


@torch.no_grad()
def clean_probability(logits: Float[Tensor, "b c"], given: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """1 - JS in bits (Eq. 3), between 0 and 1.

    It is 1 where the prediction equals the smoothed label. A prediction that is certain of the given label has less.
    """
    return (1 - jensen_shannon(logits.softmax(dim=1), given)).clamp(0, 1)


def verdict_of(
    clean: Bool[Tensor, " b"], logits1: Float[Tensor, "b c"], logits2: Float[Tensor, "b c"]
) -> UInt8[Tensor, " b"]:
    """Criterion 3.2: CLEAN where `clean`; otherwise ID where both views are predicted alike, OOD where they are not."""
    agree = logits1.argmax(dim=1) == logits2.argmax(dim=1)
    return torch.where(clean, CLEAN, torch.where(agree, ID, OOD)).to(torch.uint8)


def relabel(
    verdict: UInt8[Tensor, " b"], given: Float[Tensor, "b c"], guess: Float[Tensor, "b c"], temperature: float
) -> Float[Tensor, "b c"]:
    """The targets of clean, ID and OOD samples (Eq. 5, 6 and 7)."""
    flat = (guess / temperature).softmax(dim=1)  # a softmax of probabilities: nearly uniform
    unclean = torch.where(verdict[:, None] == OOD, flat, guess)
    return torch.where(verdict[:, None] == CLEAN, given, unclean)


def consistency(
    verdict: UInt8[Tensor, " b"], logits1: Float[Tensor, "b c"], logits2: Float[Tensor, "b c"]
) -> Float[Tensor, " b"]:
    """Eq. 9 in bits: positive, which pulls the two views together; negative for OOD samples, which pushes them apart."""
    bits = symmetric_kl(logits1.softmax(dim=1), logits2.softmax(dim=1)) / math.log(2)
    return torch.where(verdict == OOD, -bits, bits)
