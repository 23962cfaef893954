"""ELR+: ELR of two networks on mixed images, each kept near what the other's averaged weights predict.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, there ELR+.
Steps, an epoch of one network, then one of the other:

  [1] targets: running average, of each sample, of the predictions of the peer's weight average
  [2] mixup of images, given labels and targets, one weight a batch
  [3] loss: cross-entropy + lambda mean log(1 - <target, prediction>)       (Eq. 6)
  [4] weight average: gamma of the old one, 1 - gamma of the network

Predictions of [1] are of weak views before mixing. A run's prediction is the sum of the logits of both networks, as the
authors' code has it on one GPU.
Traced: losses of both weight averages, predictions of the first, pseudo_labels of both networks' targets together.
Differs from the paper: weight averages predict in eval mode with the network's batch statistics (`ours`).
Differs from the authors' code: it ramps gamma and, for CIFAR-100, lambda: params here, whose ramp is Gaussian (`ours`); its
weight averages predict in train mode; with 100 classes it multiplies the mixed label by the mixed target and normalizes,
with which its values for CIFAR-100 were found.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.teacher import make_teacher, update_teacher
from noisyctl.parts.early_learning import clamped_softmax, early_learning_penalty
from noisyctl.parts.mixing import draw_beta, draw_partners, mix_pair
from noisyctl.parts.schedules import gaussian_ramp, step_decay
from noisyctl.parts.targets import one_hot, running_average, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(MethodParams):
    """`methods.elr_plus` in params.yaml."""

    epochs: int = param(200, "after warm-up", source="official code: CIFAR-10; CIFAR-100: 250", ge=0)
    batch_size: int = param(128, "images a step", source="official code", ge=2)
    learning_rate: float = param(0.02, "before the decay", source="official code", gt=0)
    decay_epoch: int = param(
        150, "of a tenth, with warm-up", source="official code: CIFAR-10; CIFAR-100: 200", ge=0
    )
    weight_decay: float = param(
        5e-4, "L2 penalty on all weights of the optimizer", source="official code", ge=0
    )
    target_momentum: float = param(
        0.7,
        "weight of the old target [beta]",
        source="official code: CIFAR-10 symmetric; asymmetric and CIFAR-100: 0.9",
        ge=0,
        lt=1,
    )
    penalty_weight: float = param(
        3.0, "[lambda]", source="official code: CIFAR-10 symmetric; asymmetric: 1, CIFAR-100: 7", ge=0
    )
    penalty_ramp_steps: int = param(
        0, "steps in which lambda rises", source="official code: CIFAR-10; CIFAR-100: 40000", ge=0
    )
    mixing_alpha: float = param(1.0, "of the Beta of mixing weights [alpha]", source="official code", gt=0)
    average_momentum: float = param(
        0.997, "weight of the old weight average [gamma]", source="official code", ge=0, lt=1
    )
    average_ramp_steps: int = param(
        0,
        "steps in which gamma rises from 0",
        source="ours: the paper has no ramp; official code: 40000",
        ge=0,
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    average1: nn.Module
    average2: nn.Module
    optimizers: list[torch.optim.SGD]
    targets: Tensor  # [2 n c]: of each network
    steps: int


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    rate, decay = params.learning_rate, params.weight_decay
    optimizers = [
        torch.optim.SGD(n.parameters(), lr=rate, momentum=0.9, weight_decay=decay) for n in networks
    ]
    first, second = networks
    targets = torch.zeros(2, task.num_samples, task.num_classes, device=task.device)
    return State(first, second, make_teacher(first), make_teacher(second), optimizers, targets, steps=0)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = step_decay(task.warmup_epochs + epoch, [params.decay_epoch], params.learning_rate, 0.1)
    record = EpochRecord(task, learning_rate=rate)
    networks, averages = (state.network1, state.network2), (state.average1, state.average2)
    for i, peer in ((0, 1), (1, 0)):
        step = state.steps
        task.set_learning_rate(state.optimizers[i], rate)
        networks[i].train()
        for index in task.batches(params.batch_size, rng):
            images, labels = task.weak(index, rng), task.noisy_labels[index]
            guess = averages[peer](images)
            targets = averaged_targets(state.targets[i, index], guess, params.target_momentum)
            state.targets[i, index] = targets  # [1]
            weight, order = draw_beta(params.mixing_alpha, (1,), rng), draw_partners(len(index), rng)
            given = one_hot(labels, task.num_classes)
            logits = networks[i](mix_pair(images, images[order], weight))  # [2]
            losses = soft_cross_entropy(logits, mix_pair(given, given[order], weight))
            penalty = early_learning_penalty(
                clamped_softmax(logits), mix_pair(targets, targets[order], weight)
            )
            penalty_weight = params.penalty_weight * gaussian_ramp(step, params.penalty_ramp_steps)
            task.step((losses + penalty_weight * penalty).mean(), state.optimizers[i])  # [3]
            momentum = params.average_momentum * gaussian_ramp(step, params.average_ramp_steps)
            update_teacher(averages[i], networks[i], momentum)  # [4]
            record.add(index, network=peer, losses=cross_entropy(guess, labels, reduction="none"))
            record.add(index, predictions=guess)
            step += 1
    state.steps = step
    found = state.targets.sum(dim=0).argmax(dim=1)
    record.add(task.train_index, pseudo_labels=found[task.train_index])
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def averaged_targets(
    old: Float[Tensor, "b c"], logits: Float[Tensor, "b c"], momentum: float
) -> Float[Tensor, "b c"]:
    """Running average of the targets and the prediction, which is clamped and sums to 1 again."""
    probs = clamped_softmax(logits)
    return running_average(old, probs / probs.sum(dim=1, keepdim=True), momentum)
