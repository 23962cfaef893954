"""MixNN as its code runs: phases on both sides of E_s, golden rows, whole epochs by naive loops, degenerate data."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_views import PlainViews
from torch import Tensor, nn

from noisyctl.methods import mixnn_official
from noisyctl.methods.mixnn_official import Phase
from noisyctl.parts.mixing import draw_beta
from noisyctl.parts.mixture import clean_probability, scaled_clean_probability
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import checkpoint

CPU = torch.device("cpu")


def tiny_task(labels: Tensor | None = None, warmup_epochs: int = 0) -> Task:
    labels = torch.arange(12) % 3 if labels is None else labels
    rng = stream(0, "mixnn_official", "images")
    images = torch.randint(256, (len(labels), 2, 2, 1), generator=rng, dtype=torch.uint8)
    return Task(images, PlainViews(), 3, CPU, labels, warmup_epochs=warmup_epochs)


def tiny_network() -> nn.Module:
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh()))
    network.add_module("head", nn.Linear(5, 3))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).mul(5).sin().roll(i).view_as(p))
    return network


def params_of(**values) -> mixnn_official.Params:  # type: ignore[no-untyped-def]
    return mixnn_official.Params(**({"batch_size": 12, "weight_decay": 0.0} | values))


# the phases


def test_epoch_60_has_random_partners_and_the_soft_loss() -> None:
    params = mixnn_official.Params()
    linear = Phase("random", "linear", updates=False)
    nearest = Phase("nearest", "soft", updates=False)
    found = {e: mixnn_official.phase(e, params) for e in range(1, 301)}
    assert all(found[e] == linear for e in range(1, 60))  # 10 to 50 are multiples of 10 and update nothing
    assert found[60] == Phase("random", "soft", updates=True)
    assert found[61] == found[69] == found[71] == found[299] == nearest
    assert found[70] == found[300] == Phase("nearest", "soft", updates=True)
    assert sum(phase.updates for phase in found.values()) == 25


def test_epochs_count_from_1_with_the_warm_up_and_so_does_the_schedule() -> None:
    params, seen = params_of(correction_epoch=11, update_period=11), []
    task = tiny_task(warmup_epochs=9)  # epochs 10, 11 and 12
    state = mixnn_official.start([tiny_network()], task, params, stream(0, "s"))
    first = state.targets.clone()
    for epoch in range(3):
        record = mixnn_official.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        moved = not torch.equal(state.targets, first)
        seen.append((record.scalars["nearest_partners"], record.scalars["soft_loss"], moved))
        if epoch == 1:  # the eleventh scheduler step restarts
            assert record.scalars["learning_rate"] == 0.02
    assert seen == [(0.0, 0.0, False), (0.0, 1.0, True), (1.0, 1.0, True)]


# own functions


def test_the_linear_loss_is_minus_the_probability_of_the_target() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0], [math.log(3.0), 0.0]])  # p = .75, .25
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]])
    # right: -.75; wrong: -.25; mixed: -(.4 * .75 + .6 * .25)
    torch.testing.assert_close(
        mixnn_official.linear_loss(logits, targets), torch.tensor([-0.75, -0.25, -0.45])
    )


def test_losses_and_gradients_are_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    for loss in (mixnn_official.linear_loss, mixnn_official.soft_cross_entropy):
        (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([[0.0, 1.0]])).sum(), logits)
        assert torch.isfinite(gradient).all()


def test_lambda_is_the_share_of_the_sample_s_clean_probability() -> None:
    own, partner = torch.tensor([0.9, 0.5, 0.0, 0.0]), torch.tensor([0.1, 0.5, 1.0, 0.0])
    # clean with a wrong neighbor; equals; wrong: all to the neighbor; both surely wrong: 1e-10 / 1e-10, its own image
    expected = torch.tensor([0.9, 0.5, 0.0, 1.0])
    torch.testing.assert_close(mixnn_official.own_weight(own, partner), expected, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), d=st.integers(1, 5), far=st.sampled_from([0.0, 1e3]))
def test_the_nearest_in_the_batch_by_naive_loops(seed: int, n: int, d: int, far: float) -> None:
    rows = (
        torch.randn(n, d, generator=stream(seed, "rows")) + far
    )  # far from 0 a product of matrices would cancel
    found, exact = mixnn_official.nearest_in_batch(rows), rows.double()
    for i in range(n):
        distances = [math.inf if i == j else float((exact[i] - exact[j]).norm()) for j in range(n)]
        assert found[i] != i
        assert distances[int(found[i])] == pytest.approx(min(distances), rel=1e-5, abs=1e-12)


def test_a_single_row_is_its_own_neighbor_and_twins_find_each_other() -> None:
    assert mixnn_official.nearest_in_batch(torch.ones(1, 2)).tolist() == [0]
    twins = torch.tensor([[1.0], [5.0], [1.0]])
    assert mixnn_official.nearest_in_batch(twins)[[0, 2]].tolist() == [2, 0]


# whole epochs


def naive_epoch(network: nn.Module, task: Task, params: mixnn_official.Params, e: int):  # type: ignore[no-untyped-def]
    """One batch of the whole set, sample by sample, as METHODS.md section 7 tells the code. Gives loss and targets."""
    n = task.num_samples
    rng = stream(0, "epoch")
    x, y = task.plain(torch.arange(n)).double(), task.noisy_labels
    with torch.no_grad():
        features, probs = network.get_submodule("features")(x), network(x).softmax(dim=1)
    losses = torch.stack([-probs[i, y[i]].log() for i in range(n)])
    clean = clean_probability(losses.float(), rng).double()
    order = torch.randperm(n, generator=rng)  # the batch: position k holds sample order[k]
    targets = torch.eye(3, dtype=torch.float64)[y]
    if e >= params.correction_epoch and e % params.update_period == 0:
        targets = params.target_momentum * targets + (1 - params.target_momentum) * probs
    if e <= params.correction_epoch:
        places = torch.randperm(n, generator=rng)
        weight = float(draw_beta(1.0, (1,), rng))
        pairs = [(int(order[k]), int(order[places[k]]), weight) for k in range(n)]
    else:
        pairs = []
        for i in range(n):
            others = [j for j in range(n) if j != i]
            j = min(others, key=lambda j: float((features[i] - features[j]).norm()))
            pairs.append((i, j, float((clean[i] + 1e-10) / (clean[i] + clean[j] + 1e-10))))
    total = torch.zeros((), dtype=torch.float64)
    for i, j, w in pairs:
        logits = network((w * x[i] + (1 - w) * x[j])[None])[0]
        if e < params.correction_epoch:
            p = logits.softmax(dim=0)
            total = total - (w * p[y[i]] + (1 - w) * p[y[j]]) / n
        else:
            log_p = logits.log_softmax(dim=0)
            total = (
                total - sum((w * targets[i, c] + (1 - w) * targets[j, c]) * log_p[c] for c in range(3)) / n
            )
    return total, targets


@pytest.mark.parametrize("e", [9, 10, 11, 12])
def test_an_epoch_equals_the_code_by_naive_loops(e: int) -> None:
    """E_s = 10 and targets that move in multiples of 2: linear; soft with random partners; nearest; with an update."""
    params = params_of(correction_epoch=10, update_period=2)
    task, twin, network = tiny_task(warmup_epochs=e - 1), tiny_network().double(), tiny_network()
    loss, targets = naive_epoch(twin, task, params, e)
    loss.backward()
    state = mixnn_official.start([network], task, params, stream(0, "start"))
    record = mixnn_official.run_epoch(state, task, params, 0, stream(0, "epoch"))
    rate = record.scalars["learning_rate"]
    expected = [p - rate * p.grad for p in twin.parameters()]  # type: ignore[operator]
    torch.testing.assert_close(state.targets.double(), targets, atol=1e-6, rtol=0)
    for found, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-7, rtol=1e-5)


def test_a_state_saved_at_any_epoch_goes_on_equally() -> None:
    task, params = tiny_task(), params_of(correction_epoch=2, update_period=2, averaged_losses=3)

    def run(state: mixnn_official.State, epochs: range) -> mixnn_official.State:
        for epoch in epochs:
            mixnn_official.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        return state

    whole = run(mixnn_official.start([tiny_network()], task, params, stream(0, "s")), range(5))
    for stop in (1, 2, 4):
        half = run(mixnn_official.start([tiny_network()], task, params, stream(0, "s")), range(stop))
        other = mixnn_official.start([tiny_network()], task, params, stream(0, "s"))
        checkpoint.unpack(other, *checkpoint.pack(half))
        run(other, range(stop, 5))
        assert torch.equal(whole.history, other.history)
        for a, b in zip(whole.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)


# METHODS.md section 10


def test_trap_5_losses_are_averaged_by_a_parameter_and_not_by_the_true_rate() -> None:
    task, params = tiny_task(), params_of(averaged_losses=5, correction_epoch=99, learning_rate=3.0)
    state = mixnn_official.start([tiny_network()], task, params, stream(0, "s"))
    past = []
    for epoch in range(7):
        record = mixnn_official.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        losses = record.vectors["losses"].double()
        past.append((losses - losses.min()) / (losses.max() - losses.min()))
        mean = torch.stack(past[-5:]).mean(dim=0).float()  # fewer at the start
        expected = scaled_clean_probability(mean, stream(epoch, "e"))  # of the mean as it is
        torch.testing.assert_close(record.vectors["clean_probability"], expected, atol=1e-4, rtol=0)
    assert state.history.shape == (5, 12)


def test_trap_10_the_mixture_sees_the_corrected_labels_and_a_replaced_label_is_not_clean() -> None:
    """The rest of trap 10 is above: linear loss, random partners, neighbors in the batch, tenth epochs."""
    task, params = tiny_task(warmup_epochs=20), params_of(correction_epoch=10)
    network = tiny_network()
    state = mixnn_official.start([network], task, params, stream(0, "s"))
    state.targets[0] = torch.tensor([0.1, 0.8, 0.1])  # sample 0 was given class 0
    corrected = task.noisy_labels.clone()
    corrected[0] = 1
    log_p = network(task.plain(torch.arange(12))).log_softmax(dim=1).detach()
    record = mixnn_official.run_epoch(state, task, params, 0, stream(0, "e"))
    expected = torch.stack([-log_p[i, corrected[i]] for i in range(12)])
    torch.testing.assert_close(record.vectors["losses"], expected)
    assert record.vectors["clean_probability"][0] == 0
    assert record.vectors["clean_probability"][1:].any()
    assert record.vectors["pseudo_labels"][0] == 1


# degenerate data


@pytest.mark.parametrize(
    "labels",
    [torch.arange(12) % 3, torch.zeros(12).long(), torch.tensor([0] * 10 + [1, 1]), torch.tensor([0])],
    ids=["any", "one class", "two samples in a class", "one sample"],
)
@pytest.mark.parametrize("warmup_epochs", [0, 1, 2])
def test_strange_labels_go_on_in_every_phase(labels: Tensor, warmup_epochs: int) -> None:
    task, params = tiny_task(labels, warmup_epochs), params_of(correction_epoch=2, update_period=1)
    state = mixnn_official.start([tiny_network()], task, params, stream(0, "s"))
    record = mixnn_official.run_epoch(state, task, params, 0, stream(0, "e"))
    task.monitor.check(0)
    assert torch.isfinite(state.targets).all()
    torch.testing.assert_close(state.targets.sum(dim=1), torch.ones(len(labels)))
    assert torch.isfinite(record.vectors["clean_probability"]).all()


def test_equal_losses_call_every_label_clean() -> None:
    """All clean, or all wrong alike: the losses tell nothing apart, so lambda is a half and training goes on."""
    task, params = tiny_task(warmup_epochs=5), params_of(correction_epoch=2)
    network = tiny_network()
    with torch.no_grad():
        for p in network.get_submodule("head").parameters():
            p.zero_()
    state = mixnn_official.start([network], task, params, stream(0, "s"))
    record = mixnn_official.run_epoch(state, task, params, 0, stream(0, "e"))
    assert record.vectors["clean_probability"].tolist() == [1.0] * 12
    assert all(torch.isfinite(p).all() for p in network.parameters())
