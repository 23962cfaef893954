"""MixNN's own functions: golden rows by hand, and both sides of its phase boundary."""

import math
from dataclasses import replace
from typing import Any

import pytest
import scipy.stats
import torch
from plain_views import PlainViews

from noisyctl.methods import mixnn
from noisyctl.parts.mixture import clean_probability
from noisyctl.seeds import stream
from noisyctl.task import Task


def weights(params: mixnn.Params, own: list[float], partners: list[list[float]]) -> tuple[torch.Tensor, ...]:
    return mixnn.weights_of(params)(torch.tensor(own), torch.tensor(partners), stream(0, "w"))


def test_weights_are_the_shares_of_the_clean_probabilities() -> None:
    own, partners = weights(mixnn.Params(), [0.9, 0.5, 0.0], [[0.1], [0.5], [1.0]])
    # clean sample with a wrong neighbor: 0.9 / (0.9 + 0.1); equals: a half each; wrong sample: all to the neighbor
    torch.testing.assert_close(own, torch.tensor([0.9, 0.5, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(partners[:, 0], torch.tensor([0.1, 0.5, 1.0]), atol=1e-6, rtol=0)


def test_two_surely_wrong_samples_share_evenly() -> None:
    own, partners = weights(mixnn.Params(), [0.0], [[0.0, 0.0, 0.0]])
    torch.testing.assert_close(own, torch.tensor([0.25]))
    torch.testing.assert_close(partners, torch.full((1, 3), 0.25))


def test_average_weights_are_equal_whatever_is_clean() -> None:
    own, partners = weights(mixnn.Params(weights="average"), [0.9, 0.0], [[0.1, 0.0, 0.7], [0.0, 1.0, 1.0]])
    torch.testing.assert_close(own, torch.full((2,), 0.25))
    torch.testing.assert_close(partners, torch.full((2, 3), 0.25))


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_random_weights_are_of_the_beta_distribution_one_a_sample(alpha: float) -> None:
    params = mixnn.Params(weights="random", random_alpha=alpha)
    own, partners = weights(params, [1.0] * 2000, [[0.0]] * 2000)
    torch.testing.assert_close(own + partners[:, 0], torch.ones(2000))
    assert scipy.stats.kstest(own.numpy(), scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_random_partners_are_any_other_sample() -> None:
    """Of 5 samples each of the 4 others, and never itself, a quarter of 4000 draws."""
    drawn = mixnn.random_others(torch.zeros(5, 2), 4000, stream(0, "r"))
    for i, row in enumerate(drawn):
        counts = row.bincount(minlength=5)
        assert counts[i] == 0
        assert scipy.stats.chisquare(counts[counts > 0]).pvalue > 0.001 and (counts > 0).sum() == 4


def test_correction_starts_at_its_epoch_counted_with_warm_up(home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pipeline

    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import TRACE

    pipeline.train(
        home, "mixnn", tmp_path / "run"
    )  # one epoch of warm-up, correction_epoch 2: epochs 1, 2, 3 of all
    assert store.read(tmp_path / "run/trace.zarr", TRACE).array("scalar_correcting").tolist() == [
        0.0,
        1.0,
        1.0,
    ]


def tiny_task(correcting: bool) -> Task:
    rng = stream(0, "mixnn", "oracle")
    images = torch.randint(256, (12, 2, 2, 1), generator=rng, dtype=torch.uint8)
    labels = torch.arange(12) % 3
    return Task(images, PlainViews(), 3, torch.device("cpu"), labels, warmup_epochs=7 if correcting else 0)


def tiny_network() -> torch.nn.Module:
    network = torch.nn.Sequential()
    network.add_module(
        "features", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 5), torch.nn.Tanh())
    )
    network.add_module("head", torch.nn.Linear(5, 3))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).sin().roll(i).view_as(p))
    return network


def naive_epoch(
    network: torch.nn.Module, task: Task, params: mixnn.Params
) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1 for one batch of the whole set, sample by sample. Gives the loss and the targets."""
    x, y, n = task.plain(torch.arange(12)).double(), task.noisy_labels, 12
    with torch.no_grad():
        features, probs = network.features(x), network(x).softmax(dim=1)
    losses = torch.stack([-probs[i, y[i]].log() for i in range(n)])
    clean = clean_probability(losses, stream(0, "epoch"))  # line 4
    targets = torch.eye(3, dtype=torch.float64)[y]
    total = torch.zeros((), dtype=torch.float64)
    if task.warmup_epochs >= params.correction_epoch:  # lines 10, 11
        targets = params.target_momentum * targets + (1 - params.target_momentum) * probs
    for i in range(n):
        order = sorted(
            (j for j in range(n) if j != i), key=lambda j: float((features[i] - features[j]).norm())
        )
        near = order[: params.num_neighbors]  # line 5
        weights = [max(float(clean[j]), 1e-10) for j in (i, *near)]  # the floor that the file states
        if params.weights == "average":
            weights = [1.0] * len(weights)
        weights = [w / sum(weights) for w in weights]  # line 12: Eq. 10, 11
        mixed = sum(w * x[j] for w, j in zip(weights, (i, *near), strict=True))  # line 13
        theirs = targets if params.neighbor_targets == "soft" else torch.eye(3, dtype=torch.float64)[y]
        rows = [targets[i], *theirs[near]]
        target = sum(w * row for w, row in zip(weights, rows, strict=True))  # line 14
        log_p = network(mixed[None])[0].log_softmax(dim=0)
        total = total - sum(target[c] * log_p[c] for c in range(3)) / n  # line 15
    return total, targets


@pytest.mark.parametrize("correcting", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"num_neighbors": 3},
        {"num_neighbors": 3, "weights": "average"},
        {"num_neighbors": 2, "neighbor_targets": "noisy"},
    ],
    ids=str,
)
def test_an_epoch_equals_algorithm_1_by_naive_loops(correcting: bool, values: dict[str, Any]) -> None:
    params = mixnn.Params(correction_epoch=7, batch_size=12, weight_decay=0.0, **values)
    task = tiny_task(correcting)
    twin, network = tiny_network().double(), tiny_network()
    loss, targets = naive_epoch(twin, task, params)
    loss.backward()
    at = math.pi * task.warmup_epochs / 10  # the cosine counts the epochs of the warm-up
    rate = 0.001 + (0.02 - 0.001) * (1 + math.cos(at)) / 2
    expected = [p - rate * p.grad for p in twin.parameters()]  # the first step has no momentum yet
    state = mixnn.start([network], task, params, stream(0, "start"))
    mixnn.run_epoch(state, task, params, 0, stream(0, "epoch"))
    torch.testing.assert_close(state.targets.double(), targets, atol=1e-6, rtol=0)
    for found, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("partners", ["nearest", "random"])
def test_held_out_labels_change_nothing(partners: Any) -> None:
    out = torch.tensor([0, 7])
    task = replace(tiny_task(True), held_out=out)
    labels = task.noisy_labels.clone()
    labels[out] = (labels[out] + 1) % 3
    trained = []
    for each in (task, replace(task, labels=labels)):
        params = mixnn.Params(num_neighbors=3, partners=partners, batch_size=5, correction_epoch=7)
        state = mixnn.start([tiny_network()], each, params, stream(0, "start"))
        mixnn.run_epoch(state, each, params, 0, stream(0, "epoch"))
        trained.append(torch.cat([p.detach().ravel() for p in state.network.parameters()]))
    assert torch.equal(*trained)


def test_epoch_batches_train_on_a_balanced_part_and_trace_all() -> None:
    """Eight samples of class 0: two batches of 3 take 2 of each class, and their targets alone move."""
    task = replace(tiny_task(True), labels=torch.tensor([0] * 8 + [1, 1, 2, 2]))
    params = mixnn.Params(batch_size=3, epoch_batches=2, correction_epoch=0)
    state = mixnn.start([tiny_network()], task, params, stream(0, "start"))
    before = state.targets.clone()
    record = mixnn.run_epoch(state, task, params, 0, stream(0, "epoch"))
    moved = (state.targets != before).any(dim=1)
    assert task.noisy_labels[moved].bincount().tolist() == [2, 2, 2]
    assert (record.vectors["losses"] > 0).all() and (record.vectors["clean_probability"] > 0).any()
