"""Joint-Optim: learn weights and labels in turn, then a new network from the labels found.

Tanaka et al., "Joint Optimization Framework for Learning with Noisy Labels", CVPR 2018. Steps (section 3):

  [1] step 1, a high learning rate: cross-entropy with the labels of now + alpha prior + beta entropy
  [2] from an epoch on the labels are the average prediction of the last ten epochs
  [3] step 2: the labels stay, and a network that starts anew learns from them by cross-entropy alone

The predictions of [2] are those of training, on weak views, as in the authors' code; before the first epoch there are none
and the given labels stay. Labels are distributions (soft labels); the prior is uniform. The network of [3] has random
weights, whatever the warm-up started from.
Differs from the paper: cross-entropy, not the divergence from the labels: the gradient is the same.
Differs from the authors' code: nothing known in the losses; it has no warm-up before [1], as with a profile of epochs 0.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.networks import Classifier, build
from noisyctl.parts.losses import negative_entropy, prior_penalty
from noisyctl.parts.schedules import step_decay
from noisyctl.parts.targets import one_hot, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=1)


class Params(MethodParams):
    """`methods.joint_optim` in params.yaml."""

    epochs: int = param(320, "of both steps, after warm-up", source="official code: 200 and 120", ge=0)
    batch_size: int = param(128, "images a step", source="official code", ge=2)
    learning_rate: float = param(
        0.08, "of step 1", source="official code: symmetric 70 %; asymmetric: 0.03", gt=0
    )
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="official code", ge=0
    )
    prior_weight: float = param(1.2, "[alpha]", source="official code: symmetric 70 %; asymmetric: 0.8", ge=0)
    entropy_weight: float = param(
        0.8, "[beta]", source="official code: symmetric 70 %; asymmetric: 0.4", ge=0
    )
    correction_epoch: int = param(
        70, "from which labels are replaced, with warm-up", source="official code", ge=0
    )
    averaged_epochs: int = param(10, "whose predictions are the labels", source="official code", ge=1)
    retrain_epoch: int = param(200, "of the start of step 2, with warm-up", source="official code", ge=0)
    retrain_rate: float = param(0.2, "learning rate of step 2", source="official code", gt=0)
    decay_epochs: list[int] = param([40, 80], "of step 2, of a tenth each", source="official code")


@state
class State:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    targets: Tensor  # [n c]: the labels of now
    history: Tensor  # [epochs n c]: predictions of the last epochs; none in step 2
    retraining: bool


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    targets = one_hot(task.noisy_labels, task.num_classes)
    optimizer = make_optimizer(networks[0], params)
    history = torch.zeros(0, *targets.shape, device=task.device)
    return State(networks[0], optimizer, targets, history, retraining=False)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now = task.warmup_epochs + epoch
    if now >= params.correction_epoch and len(state.history):
        state.targets = state.history.mean(dim=0)  # [2]
    if now >= params.retrain_epoch and not state.retraining:
        begin_step2(state, params, rng)  # [3]
    rate = params.learning_rate
    if state.retraining:
        rate = step_decay(now - params.retrain_epoch, params.decay_epochs, params.retrain_rate, 0.1)
    task.set_learning_rate(state.optimizer, rate)
    record = EpochRecord(task, learning_rate=rate, retraining=float(state.retraining))
    probs = torch.zeros_like(state.targets)
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        logits, targets = state.network(task.weak(index, rng)), state.targets[index]
        if state.retraining:
            loss = soft_cross_entropy(logits, targets).mean()
        else:
            loss = joint_loss(logits, targets, params.prior_weight, params.entropy_weight)  # [1]
        task.step(loss, state.optimizer)
        probs[index] = logits.detach().float().softmax(dim=1)
        losses = cross_entropy(logits, task.noisy_labels[index], reduction="none")
        record.add(index, losses=losses, predictions=logits, pseudo_labels=targets.argmax(dim=1))
    if not state.retraining:
        state.history = torch.cat([state.history, probs[None]])[-params.averaged_epochs :]
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def begin_step2(state: State, params: Params, rng: Generator) -> None:
    """New weights in the same network, a new optimizer; the history is used up."""
    fresh = build(cast(Classifier, state.network).spec, rng)
    state.network.load_state_dict(fresh.state_dict())
    state.optimizer = make_optimizer(state.network, params)
    state.history, state.retraining = state.history[:0], True


def make_optimizer(network: nn.Module, params: Params) -> torch.optim.Optimizer:
    """Of both steps: each epoch sets its rate."""
    rate, decay = params.learning_rate, params.weight_decay
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=decay)


def joint_loss(
    logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"], prior_weight: float, entropy_weight: float
) -> Float[Tensor, ""]:
    """Cross-entropy, plus a penalty on classes that are never predicted, plus the entropy of each prediction."""
    supervised, entropy = soft_cross_entropy(logits, targets).mean(), -negative_entropy(logits).mean()
    return supervised + prior_weight * prior_penalty(logits) + entropy_weight * entropy
