"""M-correction: mixup, whose labels give way to the prediction as far as two Betas on the losses call them wrong.

A mixture of two Beta distributions is fitted to the losses of all samples and gives each sample a probability that its
label is clean. The network trains on mixed pairs of images (mixup). After some epochs the target of a sample is a mixture
of its given label and the network's prediction, with the clean probability as the weight of the label.

Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019. Steps (section 3):

  [1] at the start of the epoch, two Betas on the losses of all samples give P(clean) (parts/beta_mixture.py)
  [2] up to the correction epoch: mixup with the given labels
  [3] m-dyr-h, from the correction epoch on: targets P(clean) y + (1 - P(clean)) z, where z is the one-hot predicted class;
      images and targets are mixed with the same weight
  [4] md-dyr-sh, from the correction epoch on: images are mixed in proportion to their P(clean); for `guided_epochs` with
      given labels, then with the targets of [3], half of each, where z is a softmax whose temperature falls from 1
  [5] in [3], and in the second phase of [4], a penalty on classes that are never predicted is added

z is the prediction for the image before mixing, in train mode and without gradients, as in the authors' code. The first
phase of the paper is [2] alone; to have it so, start from a profile of `warmups:` with `epochs: 0`.

The trace holds what was found at the start of the epoch on plain views: losses, clean_probability, selected (P(clean)
above a half), predictions, and pseudo_labels, which are the given labels of selected samples and the predictions of the
others.

Differs from the paper:
  - Nothing known in the losses.
Differs from the authors' code:
  - The losses of [1] are those of plain views at the start of an epoch. The code takes those of augmented views in the
    epoch before, and computes P(clean) of a batch anew.
  - P(clean) is the posterior itself. The code reads it from a table of 100 losses, which is at most .017 away.
As in the authors' code, the labels in the first phase of [4] are mixed with random weights, which are not those of the
images.
Edge cases:
  - Held-out samples take no part; their values in the trace are 0.
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
CLAMP = 1e-4  # least P(clean), as in the authors' code, so that two surely noisy samples still have finite weights
Phase = Literal["mixup", "guided", "hard", "soft"]


class Params(MethodParams):
    """`methods.m_correction` in params.yaml."""

    epochs: int = param(300, "epochs after warm-up", source="official code", ge=0)
    batch_size: int = param(128, "images in a batch", source="official code", ge=2)
    learning_rate: float = param(0.1, "learning rate before it falls", source="official code", gt=0)
    decay_epochs: list[int] = param(
        [100, 250],
        "epochs at which the learning rate falls to a tenth, counted from the start of warm-up",
        source="official code",
    )
    weight_decay: float = param(
        1e-4, "weight decay (L2 penalty) of the optimizer", source="official code", ge=0
    )
    variant: Literal["m-dyr-h", "md-dyr-sh"] = param(
        "m-dyr-h", "how labels are corrected; md-dyr-sh is for very many wrong labels", source="official code"
    )
    correction_epoch: int = param(
        105,
        "first epoch whose labels give way to predictions, counted from the start of warm-up",
        source="official code",
        ge=0,
    )
    guided_epochs: int = param(
        5,
        "epochs of md-dyr-sh, from correction_epoch on, that still use the given labels",
        source="official code",
        ge=0,
    )
    mixing_alpha: float = param(
        32.0, "parameter of the Beta distribution of mixing weights [alpha]", source="official code", gt=0
    )
    final_temperature: float = param(
        1e-3,
        "softmax temperature of predictions in md-dyr-sh at the end of its fall [T]",
        source="official code",
        gt=0,
    )
    temperature_epochs: int = param(
        89,
        "epochs in which this temperature falls from 1 to its final value",
        source="official code: 200 - 111",
        ge=1,
    )
    prior_weight: float = param(
        1.0,
        "weight of the penalty on classes that are never predicted [eta]",
        source="official scripts",
        ge=0,
    )


start, predict = supervised.start_sgd, supervised.predict


def run_epoch(state: supervised.State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now = task.warmup_epochs + epoch
    phase, temperature = phase_of(now, params), temperature_of(now, params)
    rate = step_decay(now, params.decay_epochs, params.learning_rate, 0.1)
    task.set_learning_rate(state.optimizer, rate)
    logits, clean = clean_by_loss(state.network, task)  # [1]
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


def clean_by_loss(network: nn.Module, task: Task) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"]]:
    """Logits of all samples, and P(clean) by two Betas on their losses, 0 where held out."""
    logits, _ = evaluate_train(network, task)
    losses, train = cross_entropy(logits, task.noisy_labels, reduction="none"), task.train_index
    clean = torch.zeros_like(losses)
    clean[train] = clean_probability(losses[train]).clamp(CLAMP, 1 - CLAMP)
    return logits, clean


def phase_of(now: int, params: Params) -> Phase:
    """The phase of an epoch that is counted from 0 at the start of warm-up."""
    if now < params.correction_epoch:
        return "mixup"
    if params.variant == "m-dyr-h":
        return "hard"
    return "guided" if now < params.correction_epoch + params.guided_epochs else "soft"


def temperature_of(now: int, params: Params) -> float:
    """The softmax temperature of z in md-dyr-sh; 0, which stands for the predicted class, in m-dyr-h.

    It falls linearly from 1 in the first epoch of soft targets to `final_temperature`, and then stays there.
    """
    if params.variant == "m-dyr-h":
        return 0.0
    first = params.correction_epoch + params.guided_epochs
    last = first + params.temperature_epochs - 1
    return linear(now, first, last, 1.0, params.final_temperature) if now >= first else 1.0


@torch.no_grad()
def guessed(
    network: nn.Module, images: Float[Tensor, "b ch h w"], temperature: float
) -> Float[Tensor, "b c"]:
    """The network's prediction at a temperature; at temperature 0 the one-hot predicted class."""
    logits = network(images).float()
    if temperature == 0:
        return one_hot(logits.argmax(dim=1), logits.shape[1])
    return (logits / temperature).softmax(dim=1)


def guided_weight(clean: Float[Tensor, " b"], order: Tensor) -> Float[Tensor, " b"]:
    """The weight of the own image: its P(clean), divided by the sum of its and its partner's P(clean)."""
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
