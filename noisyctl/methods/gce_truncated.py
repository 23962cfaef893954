"""Truncated GCE: generalized cross-entropy that stops learning from samples with a large loss.

Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018. Steps:

  [1] every tenth epoch from epoch 40 on: kept are the samples with a loss below that of p_y = k
  [2] w (1 - p_y^q) / q, w = 1 for kept samples and else 0; a mean over the whole batch
Where no sample would be kept, all are.
Differs from the paper: a cosine schedule instead of steps (`ours`); L_q(k), a constant, is left out of the loss.
Differs from the authors' code: the last network, not the one that was best on validation, says which samples are kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from noisyctl.nn.inference import evaluate_train
from noisyctl.parts import supervised
from noisyctl.parts.robust_losses import generalized_cross_entropy
from noisyctl.parts.schedules import cosine
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.gce_truncated` in params.yaml."""

    epochs: int = param(120, "after warm-up", source="GCE paper 4", ge=0)
    batch_size: int = param(128, "images a step", source="GCE paper 4", ge=2)
    learning_rate: float = param(0.01, "at the start of the cosine", source="GCE paper 4", gt=0)
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="GCE paper 4", ge=0
    )
    power: float = param(
        0.7, "to 0: cross-entropy, 1: mean absolute error [q]", source="GCE paper 4", gt=0, le=1
    )
    clean_threshold: float = param(
        0.5, "of p_y, above which a sample is kept [k]", source="GCE paper 4", gt=0, lt=1
    )
    prune_epoch: int = param(40, "of the first pruning, counted with warm-up", source="GCE paper 4", ge=0)
    prune_period: int = param(10, "epochs between prunings", source="GCE paper 4", ge=1)


@state
class State(supervised.State):
    kept: Tensor  # bool [n]


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    plain = supervised.start_sgd(networks, task, params, rng)
    kept = torch.ones(task.num_samples, dtype=torch.bool, device=task.device)
    return State(plain.network, plain.optimizer, plain.plateau, kept)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    pruning = task.warmup_epochs + epoch - params.prune_epoch
    if pruning >= 0 and pruning % params.prune_period == 0:  # [1]
        logits, _ = evaluate_train(state.network, task)
        state.kept = kept_samples(logits, task.noisy_labels, params.clean_threshold)
    record = EpochRecord(task, learning_rate=rate)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits = state.network(task.weak(index, rng))
        losses = generalized_cross_entropy(logits, task.noisy_labels[index], params.power)
        task.step((losses * state.kept[index]).mean(), state.optimizer)  # [2]
        record.add(index, losses=losses, predictions=logits, selected=state.kept[index])
    return record


predict = supervised.predict


def kept_samples(
    logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], threshold: float
) -> Bool[Tensor, " n"]:
    """Samples with p_y above the threshold: L_q falls in p_y, so the loss is below that of the threshold."""
    kept = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0] > threshold
    return kept | ~kept.any()
