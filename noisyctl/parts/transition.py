"""Loss correction by a transition matrix: the losses, the estimate of the matrix, and the training around them.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. T[i, j] is
P(given label j | clean label i); its rows sum to 1.

Shapes: n = training set, b = batch, c = classes.
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

FLOOR = 1e-7  # least value inside a logarithm, as in the authors' code
MAX_CONDITION = (
    100.0  # largest condition number of a matrix that is inverted (ours); errors of T grow by at most this
)
STEPS = 10  # the weights of the identity that are tried are 0, 1/10, ..., 1 (ours)


class CorrectionParams(SupervisedParams):
    """The params of methods that correct their loss with a transition matrix."""

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
    """-log (p T)_y: cross-entropy of the given label with the prediction after the noise (Theorem 2).

    The entries of T are at least 1e-7, so that a label which T calls impossible has a finite loss.
    """
    log_column = matrix.clamp(min=FLOOR).log().T[labels]
    return -(log_softmax(logits, dim=1) + log_column).logsumexp(dim=1)


def backward_losses(
    logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], inverse: Float[Tensor, "c c"]
) -> Float[Tensor, " b"]:
    """-sum_j (T^-1)_yj log p_j, whose mean over the noise is the cross-entropy with the clean label (Theorem 1).

    It may be negative. Probabilities are at least 1e-7; otherwise the loss would have no lower bound.
    """
    log_probs = log_softmax(logits, dim=1).clamp(min=math.log(FLOOR))
    return -(inverse[labels] * log_probs).sum(dim=1)


@state
class State(supervised.State):
    matrix: Tensor  # [c c]: T; the identity until T is known
    first: dict[str, Tensor]  # the weights from which training starts anew, if it does; else empty
    best: dict[str, Tensor]  # the weights with the least validation loss during the estimate
    least: float  # the least validation loss during the estimate


def start(networks: list[nn.Module], task: Task, params: CorrectionParams, rng: Generator) -> State:
    """The state before the first epoch, with T if it is known or can be estimated already.

    Raises ParamsError if the params contradict each other, or if T should be estimated on validation samples and
    there are none.
    """
    plain = supervised.start(networks, task, params, rng)
    if not params.estimation_epochs:
        matrix, first = assumed_or_estimated(plain.network, task, params), {}
    elif params.assumed_transition_matrix is not None:
        raise ParamsError(
            f"estimation_epochs is {params.estimation_epochs}, but assumed_transition_matrix is given and "
            "needs no estimate; leave one of them out"
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
    """One epoch: of cross-entropy while T is being estimated, then of the loss that `corrected` makes of T.

    The trace's scalar `stage` says which one: 1 or 2.
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
    """Estimate T with the best weights, then go back to the first weights, with a new optimizer."""
    state.network.load_state_dict(state.best)
    logits, _ = evaluate_train(state.network, task)
    state.matrix.copy_(estimated(logits[task.train_index].softmax(dim=1), params.outlier_rate))
    state.network.load_state_dict(state.first)
    state.optimizer, state.plateau = supervised.make_optimizer(state.network, params), {}


def copied(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the network's weights."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return cross_entropy(logits, labels, reduction="none")


def assumed_or_estimated(network: nn.Module, task: Task, params: CorrectionParams) -> Float[Tensor, "c c"]:
    """T, as the user gives it, or counted on verified labels, or estimated from the network's predictions.

    Raises ParamsError if it would have to be estimated after a warm-up of 0 epochs.
    """
    if params.assumed_transition_matrix is not None:
        return given(params.assumed_transition_matrix, task.num_classes).to(task.device)
    if task.verified is not None:
        return counted(task.noisy_labels, verified_labels(task), task.num_classes)
    if not task.warmup_epochs:
        raise ParamsError(
            "assumed_transition_matrix is not given, and after a warm-up of 0 epochs it cannot be estimated; "
            "give it, or start from a warm-up with epochs"
        )
    logits, _ = evaluate_train(network, task)
    return estimated(logits[task.train_index].softmax(dim=1), params.outlier_rate)


def estimated(probs: Float[Tensor, "n c"], outlier_rate: float) -> Float[Tensor, "c c"]:
    """Estimate of T: row i is the prediction for the sample that is most confidently of class i (Eq. 12, 13).

    A share `outlier_rate` of the samples, those with the largest p_i, is left out first. No row is empty: also for a
    class that is never predicted, some sample has the largest p_i.
    """
    outliers = min(int(outlier_rate * len(probs)), len(probs) - 1)
    rows = probs[probs.topk(outliers + 1, dim=0).indices[-1]]
    return rows / rows.sum(dim=1, keepdim=True)


def counted(
    noisy_labels: Int[Tensor, " n"], checked: Int[Tensor, " n"], num_classes: int
) -> Float[Tensor, "c c"]:
    """T counted on verified samples: row i is how often each label was given to those of class i.

    `checked` holds the verified labels; -1 where there is none. Raises ParamsError if a class has no verified sample.
    """
    known = checked >= 0
    pairs = checked[known] * num_classes + noisy_labels[known]
    counts = pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes).float()
    empty = (counts.sum(dim=1) == 0).nonzero()[:, 0].tolist()
    if empty:
        raise ParamsError(
            f"--verified has no training sample of class {', '.join(map(str, empty[:5]))}, but its row of the "
            "transition matrix is counted on them; verify some samples of each class, or leave out --verified"
        )
    return counts / counts.sum(dim=1, keepdim=True)


def given(rows: list[list[float]], num_classes: int) -> Float[Tensor, "c c"]:
    """The user's matrix. Raises ParamsError unless it has one distribution for each class."""
    name, sizes = "assumed_transition_matrix", [len(row) for row in rows]
    if sizes != [num_classes] * num_classes:
        raise ParamsError(f"{name} has rows of {sizes} numbers; write {num_classes} rows of {num_classes}")
    for i, row in enumerate(rows):
        if not (min(row) >= 0 and abs(sum(row) - 1) < 1e-4):
            raise ParamsError(f"{name}: row {i} is {row}; write probabilities that sum to 1")
    return torch.tensor(rows)


def invertible(matrix: Float[Tensor, "c c"]) -> tuple[Float[Tensor, "c c"], float]:
    """T with as little of the identity mixed in as makes it well-conditioned, and the share of the identity.

    It is (1 - w) T + w I with the least w of 0, 0.1, ..., 1 for which the condition number is at most 100.
    """
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    for step in range(STEPS):
        mixed = torch.lerp(matrix, identity, step / STEPS)
        if float(torch.linalg.cond(mixed.double())) <= MAX_CONDITION:
            return mixed, step / STEPS
    return identity, 1.0
