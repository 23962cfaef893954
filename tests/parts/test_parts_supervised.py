"""The supervised loop: optimizers and schedules by hand, decay of kernels only, what the validation samples tell."""

import copy
import math

import pytest
import torch
from plain_views import PlainViews
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisyctl.errors import ParamsError
from noisyctl.methods import backward, forward
from noisyctl.methods import cross_entropy as method
from noisyctl.parts import supervised, transition
from noisyctl.seeds import stream
from noisyctl.task import Task


def task_of(held_out: tuple[int, ...] = (9, 10, 11)) -> Task:
    images = torch.randint(256, (12, 2, 2, 1), generator=stream(0, "supervised"), dtype=torch.uint8)
    held = torch.tensor(held_out) if held_out else None
    return Task(images, PlainViews(), 3, torch.device("cpu"), torch.arange(12) % 3, held_out=held)


def network_of() -> nn.Module:
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5)))
    network.add_module("head", nn.Linear(5, 3))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).mul(7).sin().roll(i).view_as(p))
    return network


def params_of(**values: object) -> method.Params:
    return method.Params(**({"batch_size": 12, "weight_decay": 0.0, "learning_rate": 0.1} | values))  # type: ignore[arg-type]


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


def run(params: method.Params, epochs: int, task: Task | None = None):  # type: ignore[no-untyped-def]
    task = task or task_of()
    state = supervised.start([network_of()], task, params, stream(0, "start"))
    records = [
        supervised.run_epoch(state, task, params, e, stream(0, "e", e), losses_of=ce) for e in range(epochs)
    ]
    return state, records


def test_the_first_step_of_adagrad_moves_every_weight_by_the_rate_against_its_gradient() -> None:
    """The sum of squares starts at 0, as in Keras: g / sqrt(g^2)."""
    task, twin = task_of(()), network_of().train()
    ce(twin(task.plain(torch.arange(12))), task.noisy_labels).mean().backward()
    state, _ = run(params_of(optimizer="adagrad", learning_rate=0.01), 1, task)
    for found, peer in zip(state.network.parameters(), twin.parameters(), strict=True):
        moved = torch.where(peer.grad.abs() > 1e-6, 0.01 * peer.grad.sign(), 0.0)  # type: ignore[union-attr]
        close = torch.isclose(found, peer - moved, atol=1e-5) | (peer.grad.abs() <= 1e-6)  # type: ignore[union-attr]
        assert close.all()


def test_the_rate_follows_the_validation_accuracy_down_to_its_floor() -> None:
    params = params_of(schedule="plateau", plateau_epochs=2, floor_rate=0.03, epochs=8)
    state, _ = run(params, 0)
    rates = []
    for accuracy in (0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7):
        supervised.follow(state, params, accuracy)
        rates.append(state.optimizer.param_groups[0]["lr"])
    # the third is better; the fourth and fifth are not, nor the sixth and seventh
    assert rates == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03]


def test_the_rate_falls_tenfold_at_each_step() -> None:
    _, records = run(params_of(schedule="steps", step_epochs=[2, 3], epochs=5), 5)
    assert [r.scalars["learning_rate"] for r in records] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_the_cosine_is_the_default_and_needs_no_validation() -> None:
    _, records = run(params_of(epochs=2), 2, task_of(()))
    assert [r.scalars for r in records] == [{"learning_rate": 0.1}, {"learning_rate": pytest.approx(0.05)}]


def test_a_plateau_without_validation_samples_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"validation_rate is 0; set validation_rate, for example 0\.1"):
        supervised.start([network_of()], task_of(()), params_of(schedule="plateau"), stream(0, "s"))


def test_decay_of_kernels_leaves_biases_and_batch_norm_alone() -> None:
    """With all samples of one image and every class as often the head's bias has no gradient at equal logits."""
    params = params_of(decayed="kernels", weight_decay=0.5)
    optimizer = supervised.make_optimizer(network_of(), params)
    decays = [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in optimizer.param_groups]
    assert decays == [(0.5, [2, 2]), (0.0, [1, 1, 1, 1])]
    (group,) = supervised.make_optimizer(network_of(), params_of(weight_decay=0.5)).param_groups
    assert group["weight_decay"] == 0.5 and len(group["params"]) == 6


def test_the_trace_has_loss_and_accuracy_on_the_held_out_labels() -> None:
    task = task_of()
    state, (record,) = run(params_of(), 1, task)
    logits = state.network.eval()(task.plain(torch.tensor([9, 10, 11]))).detach()
    right = (logits.argmax(dim=1) == task.noisy_labels[9:]).double().mean()
    assert record.scalars["validation_loss"] == pytest.approx(float(ce(logits, task.noisy_labels[9:]).mean()))
    assert record.scalars["validation_accuracy"] == pytest.approx(float(right))


# forward and backward: the estimate, then a new start


def correcting(**values: object) -> forward.Params:
    given = {
        "batch_size": 12,
        "epochs": 5,
        "estimation_epochs": 3,
        "outlier_rate": 0.0,
        "learning_rate": 0.05,
    }
    return forward.Params(**(given | values))  # type: ignore[arg-type]


def test_the_weights_of_least_validation_loss_tell_the_matrix_and_training_starts_anew() -> None:
    task, params = task_of(), correcting()
    network = network_of()
    first = copy.deepcopy(network.state_dict())
    state = forward.start([network], task, params, stream(0, "s"))
    least, best = math.inf, network
    for epoch in range(3):
        record = forward.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        assert record.scalars["stage"] == 1 and torch.equal(state.matrix, torch.eye(3))
        if record.scalars["validation_loss"] < least:
            least, best = record.scalars["validation_loss"], copy.deepcopy(network)
    probs = best.eval()(task.plain(task.train_index)).softmax(dim=1)
    expected = torch.stack([probs[probs[:, c].argmax()] for c in range(3)])
    before = state.optimizer
    transition.start_anew(state, task, params)
    torch.testing.assert_close(state.matrix, expected / expected.sum(dim=1, keepdim=True))
    assert all(torch.equal(first[k], v) for k, v in network.state_dict().items())
    assert state.optimizer is not before
    record = forward.run_epoch(state, task, params, 4, stream(4, "e"))
    assert record.scalars["stage"] == 2


def test_each_of_the_two_trainings_has_a_cosine_of_its_own() -> None:
    task = task_of()
    params = backward.Params(**correcting(epochs=5, estimation_epochs=2).model_dump())
    state = backward.start([network_of()], task, params, stream(0, "s"))
    rates = [
        backward.run_epoch(state, task, params, e, stream(e, "e")).scalars["learning_rate"] for e in range(5)
    ]
    own = [0.05 * (1 + math.cos(math.pi * e / 3)) / 2 for e in range(3)]
    assert rates == pytest.approx([0.05, 0.025, *own])


@pytest.mark.parametrize(
    ("values", "held_out", "said"),
    [
        ({}, (), "validation_rate is 0; set validation_rate"),
        ({"assumed_transition_matrix": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]}, (9,), "leave one of them out"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(
    values: dict[str, object], held_out: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ParamsError, match=said):
        forward.start([network_of()], task_of(held_out), correcting(**values), stream(0, "s"))
