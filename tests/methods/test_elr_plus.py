"""ELR+: an epoch of both networks against naive loops, golden rows, ramps, gradients at the corners."""

import math
from typing import Any

import pytest
import torch
from tiny_runs import CLASSES, SIZE, assert_moved, linear_network, make_task

from noisyctl.methods import elr_plus
from noisyctl.parts.early_learning import clamped_softmax, early_learning_penalty
from noisyctl.parts.mixing import draw_beta
from noisyctl.seeds import stream

RATE = 0.02


def params_of(**values: Any) -> elr_plus.Params:
    return elr_plus.Params(**{"batch_size": SIZE, "weight_decay": 0.0} | values)


def naive_epoch(
    learner: torch.nn.Module, peer_average: torch.nn.Module, x: torch.Tensor, rng: torch.Generator
) -> list[list[float]]:
    """Gradients of one batch of all samples in the learner; the targets, from 0."""
    samples = torch.randperm(SIZE, generator=rng).tolist()
    weight = float(draw_beta(1.0, (1,), rng))
    partners = [samples[j] for j in torch.randperm(SIZE, generator=rng).tolist()]
    targets = [[0.3 * v for v in row] for row in peer_average(x).softmax(dim=1).tolist()]
    total = torch.zeros((), dtype=torch.float64)
    for i, j in zip(samples, partners, strict=True):
        probs = learner((weight * x[i] + (1 - weight) * x[j])[None])[0].softmax(dim=0)
        total = total - (weight * probs[i % CLASSES].log() + (1 - weight) * probs[j % CLASSES].log()) / SIZE
        agreement = sum(
            (weight * targets[i][c] + (1 - weight) * targets[j][c]) * probs[c] for c in range(CLASSES)
        )
        total = total + 3 * torch.log(1 - agreement) / SIZE
    total.backward()
    return targets


def test_an_epoch_equals_naive_loops() -> None:
    task, params = make_task(), params_of(average_momentum=0.9)
    networks = [linear_network(1), linear_network(2)]
    first, second = (linear_network(seed).double() for seed in (1, 2))
    x, rng = task.plain(torch.arange(SIZE)).double(), stream(0, "epoch")
    expected = [
        naive_epoch(first, linear_network(2).double(), x, rng)
    ]  # the peer's average is as warm-up left it
    average = linear_network(1).double()
    with torch.no_grad():  # the first network's average has moved when the second one learns
        for a, p in zip(average.parameters(), first.parameters(), strict=True):
            assert p.grad is not None
            a.copy_(0.9 * a + 0.1 * (p - RATE * p.grad))
    expected.append(naive_epoch(second, average, x, rng))
    state = elr_plus.start(networks, task, params, stream(0, "start"))
    record = elr_plus.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert_moved(networks[0], first, RATE)
    assert_moved(networks[1], second, RATE)
    for found, peer in zip(state.average1.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(found.double(), peer, atol=1e-6, rtol=1e-5)
    both = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(state.targets.double(), both, atol=1e-5, rtol=1e-4)
    assert record.vectors["pseudo_labels"].tolist() == both.sum(dim=0).argmax(dim=1).tolist()
    # the losses of a network are those of its average when the other one learned from it
    told = [linear_network(2).double(), average]
    for network, k in ((told[0], 1), (told[1], 0)):
        losses = torch.nn.functional.cross_entropy(network(x), task.noisy_labels, reduction="none")
        torch.testing.assert_close(record.vectors["losses"][k].double(), losses, atol=1e-5, rtol=1e-5)
    assert state.steps == 1


def test_targets_are_clamped_and_average() -> None:
    old = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    logits = torch.tensor([[0.2, 0.8], [0.2, 0.8]]).log()
    # a tenth of the new one
    expected = torch.tensor([[0.47, 0.53], [0.02, 0.08]])
    torch.testing.assert_close(elr_plus.averaged_targets(old, logits, 0.9), expected)
    sure = elr_plus.averaged_targets(torch.zeros(1, 2), torch.tensor([[90.0, -90.0]]), 0.0)
    torch.testing.assert_close(sure, torch.tensor([[0.9999, 0.0001]]))


def test_the_penalty_of_three_quarters_for_three_quarters() -> None:
    # 1 - 9/16 - 1/16
    row = torch.tensor([[0.75, 0.25]])
    torch.testing.assert_close(early_learning_penalty(row, row), torch.tensor([math.log(0.375)]))


def test_the_penalty_and_its_gradient_are_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    penalty = early_learning_penalty(clamped_softmax(logits), torch.tensor([[1.0, 0.0]])).sum()
    penalty.backward()
    assert torch.isfinite(penalty)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("epoch", "rate"), [(139, 0.02), (140, 0.002)])
def test_the_learning_rate_falls_at_150_counted_with_warm_up(epoch: int, rate: float) -> None:
    task, params = make_task(warmup_epochs=10), params_of()
    state = elr_plus.start([linear_network(1), linear_network(2)], task, params, stream(0, "start"))
    assert elr_plus.run_epoch(state, task, params, epoch, stream(0, "e")).scalars[
        "learning_rate"
    ] == pytest.approx(rate)
    assert [o.param_groups[0]["lr"] for o in state.optimizers] == pytest.approx([rate] * 2)


def test_gamma_rises_over_its_steps() -> None:
    task, params = make_task(), params_of(average_momentum=0.5, average_ramp_steps=4)
    networks = [linear_network(1), linear_network(2)]
    state = elr_plus.start(networks, task, params, stream(0, "start"))
    for step, part in enumerate(
        (math.exp(-5), math.exp(-5 * 0.75**2), math.exp(-1.25), math.exp(-0.3125), 1, 1)
    ):
        before = [p.clone() for p in state.average2.parameters()]
        elr_plus.run_epoch(state, task, params, step, stream(0, "e", step))
        assert state.steps == step + 1
        for a, old, p in zip(state.average2.parameters(), before, networks[1].parameters(), strict=True):
            torch.testing.assert_close(a, 0.5 * part * old + (1 - 0.5 * part) * p, atol=1e-6, rtol=1e-5)


def test_lambda_rises_over_its_steps() -> None:
    """In the first step of a long ramp the penalty is next to nothing: the gradient is that of cross-entropy."""
    task = make_task()
    moved = []
    for given in ({"penalty_weight": 3 * math.exp(-5)}, {"penalty_ramp_steps": 100}):
        networks, params = [linear_network(1), linear_network(2)], params_of(**given)
        state = elr_plus.start(networks, task, params, stream(0, "start"))
        elr_plus.run_epoch(state, task, params, 0, stream(0, "e"))
        moved.append(torch.cat([p.detach().ravel() for p in networks[1].parameters()]))
    torch.testing.assert_close(*moved)


def test_predictions_are_the_sum_of_the_networks_logits() -> None:
    task, params = make_task(), params_of()
    state = elr_plus.start([linear_network(1), linear_network(2)], task, params, stream(0, "start"))
    elr_plus.run_epoch(state, task, params, 0, stream(0, "e"))
    x = task.plain(torch.arange(SIZE))
    torch.testing.assert_close(elr_plus.predict(state, x), state.network1(x) + state.network2(x))
    assert not torch.equal(elr_plus.predict(state, x), state.average1(x) + state.average2(x))
