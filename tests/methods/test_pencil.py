"""PENCIL: weights and labels of each stage against the derivatives by hand, both sides of each boundary."""

import math
from typing import Any

import pytest
import torch
from tiny_runs import CLASSES, SIZE, assert_moved, linear_network, make_task

from noisyctl.methods import pencil
from noisyctl.seeds import stream

RATE = 0.06


def params_of(**values: Any) -> pencil.Params:
    return pencil.Params(**{"batch_size": SIZE, "weight_decay": 0.0, "compatibility_weight": 0.4} | values)


def naive_loss(stage: int, probs: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """A batch of all samples: loops over samples and classes, alpha 0.4 and beta 0.1."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(SIZE):
        y = i % CLASSES
        if stage == 1:
            total = total - probs[i, y].log() / SIZE
            continue
        label = [float(v) for v in u[i].softmax(dim=0)]
        for c in range(CLASSES):
            total = total + probs[i, c] * (probs[i, c] / label[c]).log() / CLASSES / SIZE
            if stage == 2:
                total = total - 0.1 * probs[i, c] * probs[i, c].log() / CLASSES / SIZE
    return total


def naive_labels(p: torch.Tensor, u: torch.Tensor, form: str, label_rate: float) -> torch.Tensor:
    """u - lambda dL/du of a batch's mean, by hand.

    d KL(p, softmax u) / du = softmax u - p. d(-log softmax(u)_y) / du = softmax u - onehot y; of the softmax q of the
    softmax s of u it is s (g - <s, g>) with g = q - onehot y.
    """
    moved = u.clone()
    for i in range(SIZE):
        s = u[i].softmax(dim=0)
        one = torch.eye(CLASSES, dtype=u.dtype)[i % CLASSES]
        g = s - one
        if form == "code":
            q = s.softmax(dim=0) - one
            g = s * (q - (s * q).sum())
        moved[i] = u[i] - label_rate / SIZE * ((s - p[i]) / CLASSES + 0.4 * g)
    return moved


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_weights_and_labels_of_each_stage_equal_the_derivatives_by_hand(stage: int, form: str) -> None:
    starts = {"correction_epoch": 0 if stage > 1 else 9, "finetune_epoch": 0 if stage > 2 else 9}
    rate = 0.2 if stage == 3 else RATE
    params, task = params_of(compatibility=form, label_rate=5.0, label_scale=2.0, **starts), make_task()
    network, twin = linear_network(1), linear_network(1).double()
    state = pencil.start([network], task, params, stream(0, "start"))
    u = state.label_logits.double()
    assert u[0].tolist() == [2.0, 0.0, 0.0]
    probs = twin(task.plain(torch.arange(SIZE)).double()).softmax(dim=1)
    naive_loss(stage, probs, u).backward()
    record = pencil.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert_moved(network, twin, rate)
    expected = naive_labels(probs.detach(), u, form, 5.0) if stage == 2 else u
    torch.testing.assert_close(state.label_logits.double(), expected, atol=1e-5, rtol=1e-5)
    assert record.scalars["stage"] == stage
    assert record.vectors["pseudo_labels"].tolist() == expected.argmax(dim=1).tolist()


@pytest.mark.parametrize(
    ("epoch", "stage", "rate"),
    [
        (68, 1, 0.06),
        (69, 2, 0.06),
        (198, 2, 0.06),
        (199, 3, 0.2),
        (239, 3, 0.2),  # 240 of 321 counted with warm-up: 40 of 121 epochs
        (240, 3, 0.02),  # a third of 121 is 40.3
        (279, 3, 0.02),
        (280, 3, 0.002),  # 80.7: where the code has 0
        (319, 3, 0.002),
    ],
)
def test_both_sides_of_every_boundary_counted_with_warm_up(epoch: int, stage: int, rate: float) -> None:
    task, params = make_task(warmup_epochs=1), params_of()
    state = pencil.start([linear_network(1)], task, params, stream(0, "start"))
    record = pencil.run_epoch(state, task, params, epoch, stream(0, "epoch"))
    assert record.scalars["stage"] == stage
    assert record.scalars["learning_rate"] == pytest.approx(rate)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_losses_by_hand() -> None:
    logits, label_logits = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    kl = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2  # of two classes
    torch.testing.assert_close(pencil.classification_losses(logits, label_logits), torch.tensor([kl]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2
    # the label gives the given class a half: the softmax of that is a half again
    for form in ("paper", "code"):
        params = params_of(compatibility_weight=3.0, entropy_weight=7.0, compatibility=form)
        found = pencil.pencil_losses(logits, label_logits, torch.tensor([0]), params)
        torch.testing.assert_close(found, torch.tensor([kl + 3 * math.log(2) + 7 * entropy]))
    # a label sure of the given class: log(1 + 1 / e) of a softmax of 1 and 0, nothing as printed
    sure = torch.tensor([[60.0, 0.0]])
    for form, expected in (("paper", 0.0), ("code", math.log(1 + math.exp(-1)))):
        params = params_of(compatibility_weight=1.0, entropy_weight=0.0, compatibility=form)
        found = pencil.pencil_losses(sure, sure, torch.tensor([0]), params)
        torch.testing.assert_close(found, torch.tensor([expected]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "alpha", "turns"),
    [("paper", 0.05, True), ("paper", 0.15, False), ("code", 0.15, True), ("code", 0.25, False)],
)
def test_a_label_turns_to_a_sure_prediction_below_a_bound_of_alpha(
    form: str, alpha: float, turns: bool
) -> None:
    """Ten classes, a network sure of class 1, given class 0; the bounds are 1 / 10 as printed and 2 / 10 as coded."""
    logits, labels, u = 30 * torch.eye(10)[1:2], torch.tensor([0]), 10 * torch.eye(10)[:1]
    params = params_of(compatibility=form, compatibility_weight=alpha)
    for _ in range(400):
        u = u.detach().requires_grad_()
        pencil.pencil_losses(logits, u, labels, params).sum().backward()
        u = pencil.moved(u, 5.0)
    label = u.softmax(dim=1)[0]
    assert int(label.argmax()) == turns
    if form == "paper":  # at rest: (1 / 10) / (1 / 10 + alpha) of the predicted class
        torch.testing.assert_close(label[1], torch.tensor(0.1 / (0.1 + alpha)), atol=0.01, rtol=0)


def test_losses_and_their_gradients_are_finite_where_all_are_sure_and_apart() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    label_logits = torch.tensor([[-300.0, 300.0], [-300.0, 300.0]], requires_grad=True)
    loss = pencil.pencil_losses(logits, label_logits, torch.tensor([0, 1]), params_of()).sum()
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in (logits, label_logits):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_labels_of_held_out_samples_stay() -> None:
    out = torch.tensor([2, 3])
    task, params = make_task(held_out=out), params_of(correction_epoch=0)
    state = pencil.start([linear_network(1)], task, params, stream(0, "start"))
    before = state.label_logits.clone()
    pencil.run_epoch(state, task, params, 0, stream(0, "epoch"))
    moved = (state.label_logits != before).any(dim=1)
    assert moved.tolist() == [i not in (2, 3) for i in range(SIZE)]
