"""Losses corrected by a transition matrix, the matrix estimated from a network's predictions, and the two trainings.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. T[i, j] is
P(given label j | clean label i); its rows sum to 1. Shapes: n = training set, b = batch, c = classes.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from noisyctl.errors import ParamsError
from noisyctl.nn.inference import evaluate_train
from noisyctl.parts import supervised
from noisyctl.parts.supervised import LossesOf, SupervisedParams
from noisyctl.parts.verified import verified_labels
from noisyctl.task import EpochRecord, Task, param, state

FLOOR = 1e-7  # inside a logarithm, as the authors' code
MAX_CONDITION = 100.0  # of a matrix that is inverted (ours): noise in T grows by no more
STEPS = 10  # weights of the identity that are tried (ours): 0, 1/10, ..., 1


class CorrectionParams(SupervisedParams):
    """What a method that corrects its loss has in params.yaml."""

    epochs: int = param(
        120, "epochs after warm-up, including those of the estimate", source="Patrini code: CIFAR-10", ge=0
    )
    estimation_epochs: int = param(
        0,
        "number of these epochs that train with cross-entropy to estimate T, after which training starts "
        "anew; 0: the warm-up network estimates T and is trained further",
        source="ours: 0; Patrini code: as many as after it",
        ge=0,
    )
    batch_size: int = param(128, "images in a batch", source="Patrini code: CIFAR-10", ge=2)
    learning_rate: float = param(
        0.1, "learning rate at the start of training", source="Patrini code: CIFAR-10", gt=0
    )
    weight_decay: float = param(
        2e-4,
        "weight decay (L2 penalty) of the optimizer",
        source="Patrini code: gradient of its L2 of 1e-4",
        ge=0,
    )
    assumed_transition_matrix: list[list[float]] | None = param(
        None,
        "transition matrix [T], where row i holds P(given label | clean label i); none: it is estimated",
        source="Patrini et al. 4.2",
        min_length=2,
    )
    outlier_rate: float = param(
        0.03,
        "share of the samples that are left out as outliers when row i of T is estimated, those with the "
        "largest p_i",
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


@state
class State(supervised.State):
    matrix: Tensor  # [c c]: T; the identity as long as it is not known
    first: dict[str, Tensor]  # the weights that training starts anew from, where it does
    best: dict[str, Tensor]  # those of the least validation loss of the estimate
    least: float  # this loss


def start(networks: list[nn.Module], task: Task, params: CorrectionParams, rng: Generator) -> State:
    plain = supervised.start(networks, task, params, rng)
    if not params.estimation_epochs:
        matrix, first = assumed_or_estimated(plain.network, task, params), {}
    elif params.assumed_transition_matrix is not None:
        raise ParamsError(
            f"estimation_epochs is {params.estimation_epochs}, and assumed_transition_matrix is given: it needs no "
            "estimate; leave one of them out"
        )
    elif not len(task.validation_index):
        raise ParamsError(
            "estimation_epochs chooses weights by their loss on held-out noisy labels, and validation_rate is 0; "
            "set validation_rate, for example 0.1"
        )
    else:
        matrix, first = torch.eye(task.num_classes, device=task.device), copied(plain.network)
    return State(plain.network, plain.optimizer, {}, matrix, first, best={}, least=math.inf)


def run_epoch(
    state: State,
    task: Task,
    params: CorrectionParams,
    epoch: int,
    rng: Generator,
    *,
    corrected: Callable[[Tensor], LossesOf],
) -> EpochRecord:
    """An epoch of cross-entropy while T is being estimated, then of the loss that `corrected` makes of T.

    The trace says which: scalar `stage`, 1 or 2.
    """
    own, estimation = params.epochs - params.estimation_epochs, params.estimation_epochs
    if epoch < estimation:
        alone = params.model_copy(update={"epochs": estimation})
        record = supervised.run_epoch(state, task, alone, epoch, rng, losses_of=_cross_entropy)
        if record.scalars["validation_loss"] < state.least:
            state.best, state.least = copied(state.network), record.scalars["validation_loss"]
    else:
        if estimation and epoch == estimation:
            start_anew(state, task, params)
        alone = params.model_copy(update={"epochs": own})
        record = supervised.run_epoch(
            state, task, alone, epoch - estimation, rng, losses_of=corrected(state.matrix)
        )
    record.scalars["stage"] = 1.0 if epoch < estimation else 2.0
    return record


def start_anew(state: State, task: Task, params: CorrectionParams) -> None:
    """T from the best weights, then the first weights and a fresh optimizer."""
    state.network.load_state_dict(state.best)
    logits, _ = evaluate_train(state.network, task)
    state.matrix.copy_(estimated(logits[task.train_index].softmax(dim=1), params.outlier_rate))
    state.network.load_state_dict(state.first)
    state.optimizer, state.plateau = supervised.make_optimizer(state.network, params), {}


def copied(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return cross_entropy(logits, labels, reduction="none")


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
