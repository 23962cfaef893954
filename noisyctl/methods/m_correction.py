"""M-correction: mixup, whose labels give way to the prediction as far as two Betas on the losses call them wrong.

Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019. Steps (section 3):

  [1] two Betas on the losses of all samples -> P(clean), of the epoch's start (parts/beta_mixture.py)
  [2] up to the correction epoch: mixup with the given labels
  [3] m-dyr-h: then targets P(clean) y + (1 - P(clean)) z, z the predicted class, one-hot; both mixed alike
  [4] md-dyr-sh: images are mixed in proportion to their P(clean) instead; at first with given labels, from `guided_epochs`
      later on with targets as in [3], half of each, z a softmax whose temperature falls from 1
  [5] from the correction epoch of [3], and the second of [4], on: + a penalty on classes that are never predicted

z is the prediction for the image before mixing, in train mode and without gradients, as in the authors' code.
The first phase of the paper is [2] alone: start from a profile of `warmups:` with epochs 0 to have it so.
Traced, of the start of the epoch and on plain views: losses, clean_probability, selected (above a half), predictions, and
pseudo_labels, the given one where it is more clean than not. Held-out samples take no part: theirs are 0.
Differs from the paper: nothing known in the losses.
Differs from the authors' code: losses are those of plain views at the start of an epoch, there of augmented ones before it,
and P(clean) of a batch is computed anew; P(clean) is the posterior itself, there its value in a table of 100 losses (at most
.017 away).
As there, labels of [4] have random weights in its first phase, which are not those of the images.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluate_train
from noisyctl.parts import supervised
from noisyctl.parts.beta_mixture import clean_probability
from noisyctl.parts.losses import prior_penalty
from noisyctl.parts.mixing import draw_beta, draw_partners, mix_pair
from noisyctl.parts.schedules import linear, step_decay
from noisyctl.parts.targets import one_hot, soft_cross_entropy
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param

NEEDS = Needs(networks=1)
CLAMP = 1e-4  # of P(clean), as the authors' code: two samples that are surely noisy have finite weights
Phase = Literal["mixup", "guided", "hard", "soft"]


class Params(MethodParams):
    """`methods.m_correction` in params.yaml."""

    epochs: int = param(300, "after warm-up", source="official code", ge=0)
    batch_size: int = param(128, "images a step", source="official code", ge=2)
    learning_rate: float = param(0.1, "before the decay", source="official code", gt=0)
    decay_epochs: list[int] = param([100, 250], "of a tenth each, with warm-up", source="official code")
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="official code", ge=0
    )
    variant: Literal["m-dyr-h", "md-dyr-sh"] = param(
        "m-dyr-h", "md-dyr-sh: for very many wrong labels", source="official code"
    )
    correction_epoch: int = param(
        105, "from which labels give way, with warm-up", source="official code", ge=0
    )
    guided_epochs: int = param(5, "of given labels in md-dyr-sh, from there on", source="official code", ge=0)
    mixing_alpha: float = param(32.0, "of the Beta of mixing weights [alpha]", source="official code", gt=0)
    final_temperature: float = param(
        1e-3, "at the end of its fall, in md-dyr-sh [T]", source="official code", gt=0
    )
    temperature_epochs: int = param(89, "in which it falls from 1", source="official code: 200 - 111", ge=1)
    prior_weight: float = param(1.0, "of the penalty [eta]", source="official scripts", ge=0)


start, predict = supervised.start_sgd, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now = task.warmup_epochs + epoch
    phase, temperature = phase_of(now, params), temperature_of(now, params)
    rate = step_decay(now, params.decay_epochs, params.learning_rate, 0.1)
    task.set_learning_rate(state.optimizer, rate)
    logits, clean = divide(state.network, task)  # [1]
    state.network.train()
    for index in task.batches(params.batch_size, rng):
        images, targets = task.weak(index, rng), one_hot(task.noisy_labels[index], task.num_classes)
        weight, order = draw_beta(params.mixing_alpha, (1,), rng), draw_partners(len(index), rng)
        if phase in ("hard", "soft"):
            guess = guessed(state.network, images, temperature)
            targets = mix_pair(targets, guess, clean[index])  # [3]
        image_weight = weight if phase in ("mixup", "hard") else guided_weight(clean[index], order)
        label_weight = torch.full_like(weight, 0.5) if phase == "soft" else weight  # [4]
        mixed = state.network(mix_pair(images, images[order], image_weight))
        loss = soft_cross_entropy(mixed, mix_pair(targets, targets[order], label_weight)).mean()
        if phase in ("hard", "soft"):
            loss = loss + params.prior_weight * prior_penalty(mixed)  # [5]
        task.step(loss, state.optimizer)
    return recorded(logits, clean, task, learning_rate=rate, temperature=temperature)


def divide(network: nn.Module, task: Task) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"]]:
    """Logits of all samples, and P(clean), 0 where held out."""
    logits, _ = evaluate_train(network, task)
    losses, train = cross_entropy(logits, task.noisy_labels, reduction="none"), task.train_index
    clean = torch.zeros_like(losses)
    clean[train] = clean_probability(losses[train]).clamp(CLAMP, 1 - CLAMP)
    return logits, clean


def phase_of(now: int, params: Params) -> Phase:
    """Of an epoch counted from 0 with warm-up."""
    if now < params.correction_epoch:
        return "mixup"
    if params.variant == "m-dyr-h":
        return "hard"
    return "guided" if now < params.correction_epoch + params.guided_epochs else "soft"


def temperature_of(now: int, params: Params) -> float:
    """From 1 in the first epoch of soft targets to the final one, and then that; 0, a class, in m-dyr-h."""
    if params.variant == "m-dyr-h":
        return 0.0
    first = params.correction_epoch + params.guided_epochs
    last = first + params.temperature_epochs - 1
    return linear(now, first, last, 1.0, params.final_temperature) if now >= first else 1.0


@torch.no_grad()
def guessed(
    network: nn.Module, images: Float[Tensor, "b ch h w"], temperature: float
) -> Float[Tensor, "b c"]:
    """The network's prediction; at temperature 0 its class."""
    logits = network(images).float()
    if temperature == 0:
        return one_hot(logits.argmax(dim=1), logits.shape[1])
    return (logits / temperature).softmax(dim=1)


def guided_weight(clean: Float[Tensor, " b"], order: Tensor) -> Float[Tensor, " b"]:
    """Of the own image: its P(clean) over the sum with its partner's."""
    return clean / (clean + clean[order])


def recorded(logits: Tensor, clean: Tensor, task: Task, **scalars: float) -> EpochRecord:
    train, labels = task.train_index, task.noisy_labels
    record = EpochRecord(task, noisy_rate=float(1 - clean[train].mean()), **scalars)
    losses, predictions = cross_entropy(logits, labels, reduction="none"), logits.argmax(dim=1)
    selected = clean > 0.5
    pseudo_labels = torch.where(selected, labels, predictions)
    record.add(train, losses=losses[train], clean_probability=clean[train], selected=selected[train])
    record.add(train, predictions=predictions[train], pseudo_labels=pseudo_labels[train])
    return record
