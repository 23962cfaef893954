"""Losses corrected by a transition matrix, and the matrix estimated from a network's predictions.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. T[i, j] is
P(given label j | clean label i); its rows sum to 1. Shapes: n = training set, b = batch, c = classes.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from noisyctl.errors import ParamsError
from noisyctl.nn.inference import evaluate_train
from noisyctl.parts.verified import verified_labels
from noisyctl.task import MethodParams, Task, param

FLOOR = 1e-7  # inside a logarithm, as the authors' code
MAX_CONDITION = 100.0  # of a matrix that is inverted (ours): noise in T grows by no more
STEPS = 10  # weights of the identity that are tried (ours): 0, 1/10, ..., 1


class CorrectionParams(MethodParams):
    """What a method that corrects its loss has in params.yaml."""

    epochs: int = param(120, "after warm-up", source="Patrini code: CIFAR-10", ge=0)
    batch_size: int = param(128, "images a step", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(0.1, "at the start of the cosine", source="Patrini code: CIFAR-10", gt=0)
    weight_decay: float = param(2e-4, "", source="Patrini code: gradient of its L2 of 1e-4", ge=0)
    assumed_transition_matrix: list[list[float]] | None = param(
        None,
        "row i: P(given label | clean label i) [T]; none: estimated",
        source="Patrini et al. 4.2",
        min_length=2,
    )
    outlier_rate: float = param(
        0.03,
        "of a class's surest samples, in the estimate",
        source="Patrini code: CIFAR-10; CIFAR-100: 0",
        ge=0,
        lt=1,
    )


def forward_losses(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], matrix: Float[Tensor, "c c"]
) -> Float[Tensor, " b"]:
    """-log (p T)_y: cross-entropy of what the noise makes of the prediction (Theorem 2).

    Entries of T have the floor, so that a label which T calls impossible has a finite loss.
    """
    log_column = matrix.clamp(min=FLOOR).log().T[labels]
    return -(log_softmax(logits, dim=1) + log_column).logsumexp(dim=1)


def backward_losses(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], inverse: Float[Tensor, "c c"]
) -> Float[Tensor, " b"]:
    """-sum_j (T^-1)_yj log p_j: over the noise, in the mean, the cross-entropy with the clean label (Theorem 1).

    It may be negative; without the floor of p it had no lower bound.
    """
    log_probs = log_softmax(logits, dim=1).clamp(min=math.log(FLOOR))
    return -(inverse[labels] * log_probs).sum(dim=1)


def assumed_or_estimated(network: nn.Module, task: Task, params: CorrectionParams) -> Float[Tensor, "c c"]:
    """The matrix that the user gives, or what verified labels tell, or the network's predictions of the training samples."""
    if params.assumed_transition_matrix is not None:
        return given(params.assumed_transition_matrix, task.num_classes).to(task.device)
    if task.verified is not None:
        return counted(task.noisy_labels, verified_labels(task), task.num_classes)
    if not task.warmup_epochs:
        raise ParamsError(
            "assumed_transition_matrix is not given, and a warm-up of 0 epochs cannot tell it; "
            "give it, or start from a warm-up with epochs"
        )
    logits, _ = evaluate_train(network, task)
    return estimated(logits[task.train_index].softmax(dim=1), params.outlier_rate)


def estimated(probs: Float[Tensor, "n c"], outlier_rate: float) -> Float[Tensor, "c c"]:
    """Row i: the prediction for the sample that is surest to be of class i, after a share of outliers (Eq. 12, 13).

    No row is empty: that of a class which is never predicted is some sample's prediction, too.
    """
    outliers = min(int(outlier_rate * len(probs)), len(probs) - 1)
    rows = probs[probs.topk(outliers + 1, dim=0).indices[-1]]
    return rows / rows.sum(dim=1, keepdim=True)


def counted(
    noisy_labels: Int[Tensor, " n"], checked: Int[Tensor, " n"], num_classes: int
) -> Float[Tensor, "c c"]:
    """Row i: how often each label was given to the samples that were verified as class i; `checked` is -1 elsewhere.

    Raises ParamsError where a class has no verified sample.
    """
    known = checked >= 0
    pairs = checked[known] * num_classes + noisy_labels[known]
    counts = pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes).float()
    empty = (counts.sum(dim=1) == 0).nonzero()[:, 0].tolist()
    if empty:
        raise ParamsError(
            f"--verified has no training sample of class {', '.join(map(str, empty[:5]))}, whose row of the transition "
            "matrix it should tell; verify some of each class, or leave out --verified"
        )
    return counts / counts.sum(dim=1, keepdim=True)


def given(rows: list[list[float]], num_classes: int) -> Float[Tensor, "c c"]:
    """The user's matrix. Raises ParamsError where it is not one distribution for each class."""
    name, sizes = "assumed_transition_matrix", [len(row) for row in rows]
    if sizes != [num_classes] * num_classes:
        raise ParamsError(f"{name} has rows of {sizes} numbers; write {num_classes} rows of {num_classes}")
    for i, row in enumerate(rows):
        if not (min(row) >= 0 and abs(sum(row) - 1) < 1e-4):
            raise ParamsError(f"{name}: row {i} is {row}; write probabilities that sum to 1")
    return torch.tensor(rows)


def invertible(matrix: Float[Tensor, "c c"]) -> tuple[Float[Tensor, "c c"], float]:
    """(1 - w) T + w I with the least w of 0, 0.1, ..., 1 whose condition number is at most 100; and this w."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    for step in range(STEPS):
        mixed = torch.lerp(matrix, identity, step / STEPS)
        if float(torch.linalg.cond(mixed.double())) <= MAX_CONDITION:
            return mixed, step / STEPS
    return identity, 1.0
