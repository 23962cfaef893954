"""DivideMix: two networks divide the data for each other and learn from both sides by MixMatch.

Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. Steps:

  [1] two Gaussians on each network's losses -> P(clean)                                      (section 3.1)
  [2] co-divide: a network learns on its peer's division; labeled: P(clean) > tau             (section 3.1)
  [3] co-refine labeled targets, co-guess unlabeled ones, sharpen                             (section 3.2, Eq. 3, 4)
  [4] mix all rows, images and targets                                                        (section 3.2)
  [5] cross-entropy + lambda_u squared error + prior penalty                                  (section 3.2)

Both divisions are made before either network learns. The learner makes targets in train mode, one forward a view, the peer
in eval mode. An epoch is one pass over the labeled side; unlabeled batches start again when used up. `epochs` counts those
after warm-up: 301 in all in the paper, 291 after 10 (CIFAR-10), 271 after 30 (CIFAR-100); `decay_epoch` counts with
warm-up, the ramp of lambda_u without. Values of the paper's rows: papers/dividemix/params.yaml.
Traced, of the start of the epoch: each network's losses, clean_probability and selected, on which the other one learns; the
predictions of both together and their co-refined pseudo_labels. Held-out samples take no part: theirs are 0.
No sample above tau: the batch_size most probable ones are labeled. None below, as when losses are equal: labeled rows
only. A side of one sample: it counts twice. One mode, or a class without labeled samples: as usual.
Differs from the paper: the squared error is divided by the number of classes, as in the authors' code, for which the
values of lambda_u hold.
Differs from the authors' code: averaging of losses is a parameter, not `r == 0.9`, and the average is scaled to [0, 1]
again before the fit; optimizers start anew after warm-up.
Shapes: n = training set, t = its samples that are not held out, l and u = labeled and unlabeled side.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.inference import evaluating
from noisyctl.parts.mixing import mix_pair
from noisyctl.parts.mixmatch import labeled_side, make_targets, mixmatch, mixmatch_loss, two_sides, unit_range
from noisyctl.parts.mixture import clean_probability
from noisyctl.parts.schedules import linear, step_decay
from noisyctl.parts.targets import one_hot
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=2)


class Params(MethodParams):
    """`methods.dividemix` in params.yaml."""

    epochs: int = param(291, "after warm-up", source="official code: 301 in all, CIFAR-10", ge=0)
    batch_size: int = param(64, "labeled images a step, and as many unlabeled", source="official code", ge=2)
    learning_rate: float = param(0.02, "before the decay", source="paper 4.1", gt=0)
    decay_epoch: int = param(150, "counted with warm-up", source="paper 4.1", ge=0)
    decay_factor: float = param(0.1, "of the learning rate", source="paper 4.1", gt=0)
    weight_decay: float = param(5e-4, "", source="paper 4.1", ge=0)
    clean_threshold: float = param(0.5, "[tau]", source="paper 4.1; 0.6 at 90 %", ge=0, lt=1)
    averaged_losses: int = param(1, "epochs that are averaged", source="official code; 5 at 90 %", ge=1)
    temperature: float = param(0.5, "of the sharpening [T]", source="paper 4.1", gt=0)
    mixing_alpha: float = param(4.0, "of the Beta of mixing weights [alpha]", source="paper 4.1", gt=0)
    unlabeled_weight: float = param(25.0, "after the ramp [lambda_u]", source="paper Table 7", ge=0)
    ramp_epochs: int = param(16, "of the unlabeled weight", source="official code", ge=0)
    prior_weight: float = param(1.0, "of the prior penalty [lambda_r]", source="paper 4.1", ge=0)
    unlabeled: Literal["learned", "mixed_in"] = param(
        "learned", "mixed_in: only partners of labeled rows", source="official code: mixed_in beyond CIFAR"
    )


@state
class State:
    network1: nn.Module
    network2: nn.Module
    optimizers: list[torch.optim.SGD]
    history: Tensor  # [epochs 2 t] scaled losses of the last epochs


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    rate, decay = params.learning_rate, params.weight_decay
    optimizers = [
        torch.optim.SGD(n.parameters(), lr=rate, momentum=0.9, weight_decay=decay) for n in networks
    ]
    history = torch.zeros(0, 2, len(task.train_index), device=task.device)
    return State(networks[0], networks[1], optimizers, history)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    now, weight = task.warmup_epochs + epoch, unlabeled_weight(float(epoch), params)
    rate = step_decay(now, [params.decay_epoch], params.learning_rate, params.decay_factor)
    networks, train = [state.network1, state.network2], task.train_index
    losses, probs = losses_and_probs(networks, task)
    state.history = torch.cat([state.history, unit_range(losses[:, train])[None]])[-params.averaged_losses :]
    clean = torch.zeros_like(losses)
    clean[:, train] = torch.stack([clean_probability(row, rng) for row in state.history.mean(dim=0)])  # [1]
    sides = [labeled_side(row, params.clean_threshold, params.batch_size) for row in clean[:, train]]
    selected = torch.stack(sides)
    labeled_rate = float(selected.float().mean())
    record = EpochRecord(task, learning_rate=rate, labeled_rate=labeled_rate, unlabeled_weight=weight)
    for i, peer in ((0, 1), (1, 0)):
        own = {"losses": losses[i, train], "clean_probability": clean[i, train], "selected": selected[i]}
        record.add(train, network=i, **own)
        division = (*two_sides(train, selected[peer]), clean[peer])  # [2]
        task.set_learning_rate(state.optimizers[i], rate)
        for loss in steps(networks[i], networks[peer], division, task, params, epoch, rng):
            task.step(loss, state.optimizers[i])
    refined = mix_pair(one_hot(task.noisy_labels, task.num_classes), probs, clean.mean(dim=0))
    record.add(train, predictions=probs[train], pseudo_labels=refined[train].argmax(dim=1))
    return record


def predict(state: State, images: Tensor) -> Tensor:
    return state.network1(images) + state.network2(images)


def losses_and_probs(
    networks: list[nn.Module], task: Task
) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "n c"]]:
    """Cross-entropy with the given labels of each network and their mean prediction, on plain views in eval mode."""
    losses, probs = [], []
    with evaluating(*networks):
        for index in task.in_order():
            images, labels = task.plain(index), task.noisy_labels[index]
            logits = [network(images) for network in networks]
            losses.append(torch.stack([cross_entropy(z, labels, reduction="none") for z in logits]))
            probs.append(torch.stack(logits).softmax(dim=2).mean(dim=0))
    return torch.cat(losses, dim=1), torch.cat(probs)


def steps(
    learner: nn.Module,
    peer: nn.Module,
    division: tuple[Int[Tensor, " l"], Int[Tensor, " u"], Float[Tensor, " n"]],
    task: Task,
    params: Params,
    epoch: int,
    rng: Generator,
) -> Iterator[Float[Tensor, ""]]:
    """The loss of each step of an epoch, computed when it is asked for: after the step before."""
    labeled, unlabeled, clean = division
    given, size = one_hot(task.noisy_labels, task.num_classes), params.batch_size
    others = task.endless(size, rng, among=unlabeled) if len(unlabeled) else repeat(unlabeled)
    batches = zip(task.batches(size, rng, among=labeled), others, strict=False)
    learner.train()
    peer.eval()
    for step, (index, other) in enumerate(batches):
        images = task.weak(torch.cat([index, index, other, other]), rng)
        targets = make_targets(learner, peer, images, given[index], clean[index], params.temperature)  # [3]
        images, targets = mixmatch(images, targets, params.mixing_alpha, rng)  # [4]
        labeled_rows = 2 * len(index)
        rows = labeled_rows if params.unlabeled == "mixed_in" else len(images)
        weight = unlabeled_weight(epoch + step / (len(labeled) // size + 1), params)
        logits = learner(images[:rows])
        yield mixmatch_loss(logits, targets[:rows], labeled_rows, weight, params.prior_weight)  # [5]


def unlabeled_weight(epoch: float, params: Params) -> float:
    """lambda_u at an epoch and a fraction of it, counted from the end of warm-up."""
    return linear(epoch, 0, params.ramp_epochs, 0.0, params.unlabeled_weight)
