"""Joint-Optim: both steps against naive loops, the labels it finds, both sides of each boundary."""

import math
from typing import Any

import pytest
import torch
from tiny_runs import CLASSES, SIZE, assert_moved, linear_network, make_task

from noisyctl.methods import joint_optim
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.seeds import stream
from noisyctl.task import Task

RATE = 0.08
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=1,
    channels=1,
    size=(8, 8),
    num_outputs=CLASSES,
    head="linear",
)


def params_of(**values: Any) -> joint_optim.Params:
    return joint_optim.Params(**{"batch_size": SIZE, "weight_decay": 0.0} | values)


def naive_loss(probs: torch.Tensor, targets: list[list[float]]) -> torch.Tensor:
    """Section 3.1 and 3.3 with alpha 1.2 and beta 0.8, the constant entropy of the labels left out."""
    total, mean = torch.zeros((), dtype=torch.float64), probs.mean(dim=0)
    for i in range(len(targets)):
        for c in range(CLASSES):
            total = total - targets[i][c] * probs[i, c].log() / len(targets)
            total = total - 0.8 * probs[i, c] * probs[i, c].log() / len(targets)
    for c in range(CLASSES):
        total = total + 1.2 / CLASSES * torch.log(1 / CLASSES / mean[c])
    return total


def test_step_1_equals_naive_loops_and_keeps_its_predictions() -> None:
    task, params = make_task(), params_of()
    network, twin = linear_network(1), linear_network(1).double()
    probs = twin(task.plain(torch.arange(SIZE)).double()).softmax(dim=1)
    given = [[float(i % CLASSES == c) for c in range(CLASSES)] for i in range(SIZE)]
    naive_loss(probs, given).backward()
    state = joint_optim.start([network], task, params, stream(0, "start"))
    joint_optim.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert_moved(network, twin, RATE)
    torch.testing.assert_close(state.history[-1].double(), probs.detach(), atol=1e-5, rtol=1e-5)


def run(
    state: joint_optim.State, task: Task, params: joint_optim.Params, epochs: range
) -> list[dict[str, Any]]:
    """Labels and scalars of each epoch."""
    found = []
    for epoch in epochs:
        record = joint_optim.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch))
        found.append({"targets": state.targets.clone(), "history": state.history.clone(), **record.scalars})
    return found


def test_labels_are_the_mean_of_the_last_predictions_from_their_epoch_on() -> None:
    task, params = make_task(warmup_epochs=1), params_of(correction_epoch=4, averaged_epochs=2)
    state = joint_optim.start([linear_network(1)], task, params, stream(0, "start"))
    given = state.targets.clone()
    found = run(state, task, params, range(5))
    assert all(torch.equal(found[e]["targets"], given) for e in (0, 1, 2))  # epoch 3 counted with warm-up
    # epoch 4 counted with warm-up learns from the two epochs before it, the next one from the next two
    torch.testing.assert_close(found[3]["targets"], found[2]["history"].mean(dim=0))
    torch.testing.assert_close(found[4]["targets"], found[3]["history"].mean(dim=0))
    assert [len(f["history"]) for f in found] == [1, 2, 2, 2, 2]


def test_without_predictions_the_given_labels_stay() -> None:
    task, params = make_task(), params_of(correction_epoch=0)
    state = joint_optim.start([linear_network(1)], task, params, stream(0, "start"))
    first, second = run(state, task, params, range(2))
    assert first["targets"].argmax(dim=1).tolist() == task.noisy_labels.tolist()
    torch.testing.assert_close(second["targets"], first["history"][0])


def test_step_2_starts_a_new_network_on_the_labels_found_and_leaves_them() -> None:
    task = make_task(warmup_epochs=1)
    params = params_of(correction_epoch=2, retrain_epoch=3, retrain_rate=1e-12, epochs=4)
    network = build(SPEC, stream(1, "init"))
    state = joint_optim.start([network], task, params, stream(0, "start"))
    before, found = state.optimizer, run(state, task, params, range(4))
    assert [f["retraining"] for f in found] == [0.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(found[2]["targets"], found[1]["history"].mean(dim=0))
    assert torch.equal(found[3]["targets"], found[2]["targets"])
    assert len(state.history) == 0
    assert state.optimizer is not before
    fresh = build(SPEC, stream(0, "epoch", 2))  # the epoch's first draw
    for p, expected in zip(network.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(p, expected, atol=1e-9, rtol=1e-6)


def test_step_2_is_cross_entropy_with_the_labels_found() -> None:
    task, params = make_task(), params_of(retrain_rate=RATE, retrain_epoch=1)
    network, twin = linear_network(1), linear_network(1).double()
    state = joint_optim.start([network], task, params, stream(0, "start"))
    state.retraining, state.targets = True, torch.rand(SIZE, CLASSES, generator=stream(0, "t")).softmax(dim=1)
    log_probs = twin(task.plain(torch.arange(SIZE)).double()).log_softmax(dim=1)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(SIZE):
        for c in range(CLASSES):
            total = total - float(state.targets[i, c]) * log_probs[i, c] / SIZE
    total.backward()
    joint_optim.run_epoch(state, task, params, 1, stream(0, "epoch"))
    assert_moved(network, twin, RATE)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(198, 0.08), (199, 0.2), (238, 0.2), (239, 0.02), (278, 0.02), (279, 0.002)]
)
def test_the_rates_of_both_steps_counted_with_warm_up(epoch: int, rate: float) -> None:
    task, params = make_task(warmup_epochs=1), params_of()
    state = joint_optim.start([build(SPEC, stream(1, "init"))], task, params, stream(0, "start"))
    record = joint_optim.run_epoch(state, task, params, epoch, stream(0, "epoch"))
    assert record.scalars["learning_rate"] == pytest.approx(rate)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_the_joint_loss_by_hand() -> None:
    logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
    targets = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    supervised = (-math.log(0.75) - 0.5 * math.log(0.25) - 0.5 * math.log(0.75)) / 2
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    # the mean prediction is uniform: no prior penalty
    found = joint_optim.joint_loss(logits, targets, 5.0, 2.0)
    torch.testing.assert_close(found, torch.tensor(supervised + 2 * entropy))
    # one class for all: log of a half over the mean prediction, of both classes
    same = torch.tensor([[0.8, 0.2]]).log()
    prior = (math.log(0.5 / 0.8) + math.log(0.5 / 0.2)) / 2
    found = joint_optim.joint_loss(same, torch.tensor([[1.0, 0.0]]), 3.0, 0.0)
    torch.testing.assert_close(found, torch.tensor(-math.log(0.8) + 3 * prior))


def test_the_joint_loss_is_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]], requires_grad=True)
    loss = joint_optim.joint_loss(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 1.2, 0.8)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
