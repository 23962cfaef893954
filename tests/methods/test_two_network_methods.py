"""Co-teaching and its kin: gradients of an epoch against naive loops, phases, batches that leave nothing to learn."""

import math
from types import ModuleType

import pytest
import torch
from plain_views import PlainViews

from noisyctl.config import Layer, resolve
from noisyctl.errors import ParamsError
from noisyctl.methods import co_teaching, co_teaching_plus, decoupling, jocor
from noisyctl.parts import small_loss
from noisyctl.seeds import stream
from noisyctl.task import Task

RATE = 0.5


def tiny_task(warmup_epochs: int = 0) -> Task:
    images = torch.randint(256, (12, 2, 2, 1), generator=stream(0, "images"), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    return Task(images, PlainViews(), 3, torch.device("cpu"), labels, warmup_epochs=warmup_epochs)


def tiny_network(seed: int) -> torch.nn.Module:
    network = torch.nn.Sequential()
    network.add_module("features", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 5)))
    network.add_module("head", torch.nn.Linear(5, 3))
    rng = stream(seed, "weights")
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=rng))
    return network


def smallest(losses: dict[int, torch.Tensor], keep: int) -> list[int]:
    return sorted(losses, key=lambda i: losses[i].item())[:keep]


def cross_entropies(probs: torch.Tensor) -> dict[int, torch.Tensor]:
    return {i: -probs[i, i % 3].log() for i in range(12)}


def exchanged(ce1: dict[int, torch.Tensor], ce2: dict[int, torch.Tensor], keep: int) -> torch.Tensor:
    """Algorithm 1 of Co-teaching: each learns the mean loss of what the other one chose."""
    if not keep:
        return 0 * ce1[0] if ce1 else torch.zeros(())
    first = sum(ce1[i] for i in smallest(ce2, keep)) / keep
    return first + sum(ce2[i] for i in smallest(ce1, keep)) / keep  # type: ignore[return-value]


def naive_loss(name: str, p1: torch.Tensor, p2: torch.Tensor, forget: float) -> torch.Tensor:
    ce1, ce2 = cross_entropies(p1), cross_entropies(p2)
    differ = [i for i in range(12) if p1[i].argmax() != p2[i].argmax()]
    if name == "co_teaching":
        return exchanged(ce1, ce2, int((1 - forget) * 12))
    if name == "co_teaching_plus":
        keep = max(int((1 - forget) * len(differ)), 1)
        return exchanged({i: ce1[i] for i in differ}, {i: ce2[i] for i in differ}, keep)
    if name == "decoupling":
        return sum(ce1[i] + ce2[i] for i in differ) / max(len(differ), 1.2)  # type: ignore[return-value]
    joint = {}
    for i in range(12):
        kl12 = sum(p1[i, c] * (p1[i, c] / p2[i, c]).log() for c in range(3))
        kl21 = sum(p2[i, c] * (p2[i, c] / p1[i, c]).log() for c in range(3))
        joint[i] = 0.1 * (ce1[i] + ce2[i]) + 0.9 * (kl12 + kl21)
    chosen = smallest(joint, int((1 - forget) * 12))
    return sum(joint[i] for i in chosen) / len(chosen)  # type: ignore[return-value]


def params_of(method: ModuleType, **given: object):  # type: ignore[no-untyped-def]
    rate = {} if method is decoupling else {"assumed_noise_rate": RATE}
    return method.Params(batch_size=12, **rate, **given)


def recorded(method: ModuleType) -> str:
    """What the trace calls the samples that were learned from."""
    return "learned_from" if method is co_teaching_plus else "selected"


def run(method: ModuleType, networks: list[torch.nn.Module], task: Task, params, epoch: int):  # type: ignore[no-untyped-def]
    state = method.start(networks, task, params, stream(0, "start"))
    return method.run_epoch(state, task, params, epoch, stream(0, "epoch"))


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor, decoupling])
@pytest.mark.parametrize(("epoch", "forget"), [(2, 0.15), (50, 0.5)])  # T = 3 of 10; after the ramp
def test_the_gradients_of_an_epoch_equal_naive_loops(method: ModuleType, epoch: int, forget: float) -> None:
    given = {"disagreement_epoch": 0} if method is co_teaching_plus else {}
    networks, twins = [tiny_network(1), tiny_network(5)], [tiny_network(1).double(), tiny_network(5).double()]
    task = tiny_task()
    p1, p2 = (twin(task.plain(torch.arange(12)).double()).softmax(dim=1) for twin in twins)
    assert 1 < (p1.argmax(dim=1) != p2.argmax(dim=1)).sum() < 12
    naive_loss(method.__name__.split(".")[-1], p1, p2, forget).backward()
    run(method, networks, task, params_of(method, **given), epoch)
    for network, twin in zip(networks, twins, strict=True):
        for found, peer in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(found.grad.double(), peer.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("warmup_epochs", "differs"), [(0, False), (5, True)])
def test_disagreement_counts_from_its_epoch_counted_with_warm_up(warmup_epochs: int, differs: bool) -> None:
    networks, task = [tiny_network(1), tiny_network(5)], tiny_task(warmup_epochs)
    images = task.plain(torch.arange(12))
    disagree = networks[0](images).argmax(dim=1) != networks[1](images).argmax(dim=1)
    record = run(co_teaching_plus, networks, task, params_of(co_teaching_plus), 15)
    learned_from = record.vectors["learned_from"]
    assert learned_from[:, ~disagree].any() != differs
    assert learned_from.sum(dim=1).tolist() == [max(int(disagree.sum()) // 2, 1) if differs else 6] * 2


@pytest.mark.parametrize("method", [co_teaching_plus, decoupling])
def test_without_a_disagreement_nothing_is_learned(method: ModuleType) -> None:
    networks = [tiny_network(0), tiny_network(0)]
    before = [p.clone() for network in networks for p in network.parameters()]
    record = run(method, networks, tiny_task(), params_of(method), 50)
    assert not record.vectors["learned_from"].any()
    assert (
        "selected" not in record.vectors
    )  # a sample is left out because two agree, not because its label is wrong
    for p, old in zip([p for network in networks for p in network.parameters()], before, strict=True):
        assert torch.equal(p, old)


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor])
def test_however_many_are_forgotten_one_sample_is_left(method: ModuleType) -> None:
    params = method.Params(batch_size=12, assumed_noise_rate=0.99)
    record = run(method, [tiny_network(1), tiny_network(5)], tiny_task(), params, 50)
    assert (record.vectors[recorded(method)].view(-1, 12).sum(dim=1) == 1).all()


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor])
def test_the_noise_rate_is_estimated_where_it_is_not_given(method: ModuleType) -> None:
    networks, params = [tiny_network(1), tiny_network(5)], method.Params()
    state = method.start(networks, tiny_task(warmup_epochs=1), params, stream(0, "start"))
    assert 0 <= state.noise_rate < 1
    assert (12 * state.noise_rate) % 1 == pytest.approx(0, abs=1e-5)
    with pytest.raises(ParamsError, match="give --assumed-noise-rate"):
        method.start(networks, tiny_task(), params, stream(0, "start"))


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor])
@pytest.mark.parametrize("assumed", [0.25, None])
def test_a_run_s_scalars_say_the_noise_rate_and_where_it_is_from(
    method: ModuleType, assumed: float | None
) -> None:
    networks, params = [tiny_network(1), tiny_network(5)], method.Params(assumed_noise_rate=assumed)
    task = tiny_task(warmup_epochs=1)
    state = method.start(networks, task, params, stream(0, "start"))
    scalars = method.run_epoch(state, task, params, 0, stream(0, "epoch")).scalars
    assert scalars["noise_rate"] == (state.noise_rate if assumed is None else 0.25)
    assert scalars["noise_rate_is_estimated"] == (assumed is None)


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor])
def test_a_rate_of_0_forgets_nothing_and_one_of_1_is_refused(method: ModuleType) -> None:
    given = {"disagreement_epoch": 100} if method is co_teaching_plus else {}
    params = method.Params(batch_size=12, assumed_noise_rate=0.0, **given)
    record = run(method, [tiny_network(1), tiny_network(5)], tiny_task(), params, 50)
    assert record.vectors[recorded(method)].all()
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ParamsError, match=r"methods\.m\.assumed_noise_rate is"):
            resolve(method.Params, [Layer({"assumed_noise_rate": rate}, "x.yaml")], "methods.m")


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor])
def test_an_estimate_that_calls_all_labels_wrong_leaves_one_sample_a_batch(
    method: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_loss, "clean_probability", lambda losses, rng: torch.zeros_like(losses))
    params = method.Params(batch_size=12)
    record = run(method, [tiny_network(1), tiny_network(5)], tiny_task(warmup_epochs=1), params, 50)
    assert record.scalars["noise_rate"] == 1.0
    assert (record.vectors[recorded(method)].view(-1, 12).sum(dim=1) == 1).all()


@pytest.mark.parametrize("method", [co_teaching, co_teaching_plus, jocor, decoupling])
def test_adam_slows_down_and_forgets_faster_from_its_epoch_on(method: ModuleType) -> None:
    task, params = tiny_task(), params_of(method)
    state = method.start([tiny_network(1), tiny_network(5)], task, params, stream(0, "start"))
    optimizer = state.optimizer if method is jocor else state.optimizer2
    plan = []
    for epoch in (0, 79, 80, 140):  # constant to 80, then a line to 0 at 200
        method.run_epoch(state, task, params, epoch, stream(0, "epoch"))
        plan.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
    assert plan == [(1e-3, 0.9), (1e-3, 0.9), (1e-3, 0.1), (pytest.approx(5e-4), 0.1)]


def test_joint_losses_by_hand() -> None:
    logits1, logits2 = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.8, 0.2]]).log()
    # cross-entropies log 2 and log 1.25; the two divergences sum to (0.5 - 0.8) log(0.5/0.8) + (0.5 - 0.2) log(0.5/0.2)
    apart = -0.3 * math.log(0.625) + 0.3 * math.log(2.5)
    expected = 0.75 * math.log(2.5) + 0.25 * apart
    found = jocor.joint_losses(logits1, logits2, torch.tensor([0]), 0.25)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_the_joint_loss_is_finite_where_both_are_sure_and_apart() -> None:
    logits1 = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = jocor.joint_losses(logits1, torch.tensor([[-200.0, 200.0]]), torch.tensor([0]), 0.9).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits1.grad is not None
    assert torch.isfinite(logits1.grad).all()


def test_a_lone_disagreement_does_not_weigh_as_a_whole_batch() -> None:
    losses, updated = torch.full((20,), 4.0), torch.arange(20) < 1
    # one of twenty: divided by a tenth of the batch, 2
    torch.testing.assert_close(decoupling.mean_of_updated(losses, updated), torch.tensor(2.0))
    # ten of twenty: divided by ten
    torch.testing.assert_close(decoupling.mean_of_updated(losses, torch.arange(20) < 10), torch.tensor(4.0))


def test_co_teaching_that_forgets_nothing_is_plain_training_with_adam_and_jocor_s_schedule() -> None:
    """What "Standard" of JoCoR's tables is here: cross-entropy of all samples, each network by itself."""
    task, networks, twin = tiny_task(), [tiny_network(1), tiny_network(5)], tiny_network(1)
    params = co_teaching.Params(batch_size=4, epochs=4, decay_start=2, assumed_noise_rate=0.0)
    state = co_teaching.start(networks, task, params, stream(0, "start"))
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for epoch in range(4):
        co_teaching.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch))
        for group in adam.param_groups:  # constant, then on a line to 0
            group["lr"] = 1e-3 * min(1, (4 - epoch) / 2)
            group["betas"] = (0.9 if epoch < 2 else 0.1, 0.999)
        for index in task.batches(4, stream(0, "epoch", epoch)):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(twin(task.plain(index)), task.noisy_labels[index]).backward()
            adam.step()
    for p, q in zip(networks[0].parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
