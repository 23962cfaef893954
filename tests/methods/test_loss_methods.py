"""The methods whose paper is a loss: an epoch of each against naive loops with the default params, and their own phases."""

import copy
import math

import naive_losses as naive
import pytest
import tiny
import torch
from plain_views import PlainViews

from noisyctl import methods
from noisyctl.errors import ParamsError
from noisyctl.methods import backward, forward, gce_truncated
from noisyctl.seeds import stream
from noisyctl.task import Task

MATRIX = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]]
ORACLES = {  # logits of a sample, its probabilities, its label
    "cross_entropy": lambda z, p, y: naive.ce(p, y),
    "gce": lambda z, p, y: naive.gce(p, y, 0.7),
    "gce_truncated": lambda z, p, y: naive.gce(p, y, 0.7),
    "sce": lambda z, p, y: 0.1 * naive.ce(p, y) + naive.rce(p, y),
    "nfl_mae": lambda z, p, y: naive.nfl(p, y, 0.5) + naive.mae(p, y),
    "nce_rce": lambda z, p, y: naive.nce(p, y) + naive.rce(p, y),
    "bootstrap_soft": lambda z, p, y: naive.soft_bootstrap(p, y, 0.95),
    "bootstrap_hard": lambda z, p, y: naive.hard_bootstrap(p, y, 0.8),
    "label_smoothing": lambda z, p, y: naive.smoothed(p, y, 0.1),
    "unhinged": lambda z, p, y: naive.unhinged(naive.standardized(z), y),
    "sigmoid": lambda z, p, y: naive.sigmoid(naive.standardized(z), y),
    "savage": lambda z, p, y: naive.savage(p, y),
    "forward": lambda z, p, y: naive.forward(p, y, MATRIX),
    "backward": lambda z, p, y: naive.backward(p, y, MATRIX),
}
OTHER_WEIGHTS = {  # which weight belongs to which half
    "sce": (
        {"cross_entropy_weight": 6.0, "reverse_weight": 0.1},
        lambda z, p, y: 6 * naive.ce(p, y) + 0.1 * naive.rce(p, y),
    ),
    "nfl_mae": (
        {"active_weight": 10.0, "passive_weight": 2.0, "focus": 2.0},
        lambda z, p, y: 10 * naive.nfl(p, y, 2) + 2 * naive.mae(p, y),
    ),
    "nce_rce": (
        {"active_weight": 10.0, "passive_weight": 0.1},
        lambda z, p, y: 10 * naive.nce(p, y) + 0.1 * naive.rce(p, y),
    ),
}


def tiny_task(warmup_epochs: int = 0) -> Task:
    images = torch.randint(256, (12, 2, 2, 1), generator=stream(0, "images"), dtype=torch.uint8)
    return Task(
        images, PlainViews(), 3, torch.device("cpu"), torch.arange(12) % 3, warmup_epochs=warmup_epochs
    )


def tiny_network() -> torch.nn.Module:
    network = torch.nn.Sequential()
    network.add_module("features", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 5)))
    network.add_module("head", torch.nn.Linear(5, 3))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).sin().roll(i).view_as(p))
    return network


def one_step(name: str, oracle, given: dict[str, object]) -> None:  # type: ignore[no-untyped-def]
    """An epoch of one batch of all samples moves the weights by learning rate times the oracle's gradient."""
    method, task = methods.load(name), tiny_task()
    params = method.Params(batch_size=12, weight_decay=0.0, **given)
    network, twin = tiny_network(), tiny_network().double()
    logits = twin(task.plain(torch.arange(12)).double())
    probs = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    losses = torch.stack([oracle(list(logits[i]), list(probs[i]), i % 3) for i in range(12)])
    (losses.sum() / 12).backward()
    state = method.start([network], task, params, stream(0, "start"))
    record = method.run_epoch(state, task, params, 0, stream(0, "epoch"))
    torch.testing.assert_close(record.vectors["losses"].double(), losses.detach(), atol=1e-5, rtol=1e-5)
    for found, peer in zip(network.parameters(), twin.parameters(), strict=True):
        expected = (peer - params.learning_rate * peer.grad).detach()
        torch.testing.assert_close(found.detach().double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_an_epoch_equals_naive_loops(name: str) -> None:
    given = {"assumed_transition_matrix": MATRIX} if name in ("forward", "backward") else {}
    one_step(name, ORACLES[name], given)


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_each_weight_weighs_its_own_half(name: str) -> None:
    given, oracle = OTHER_WEIGHTS[name]
    one_step(name, oracle, given)


@pytest.mark.parametrize("name", ["unhinged", "sigmoid"])
def test_scores_of_a_head_that_ends_with_a_batch_norm_are_its_outputs(name: str) -> None:
    method, task, network = methods.load(name), tiny_task(), tiny_network()
    params = method.Params(batch_size=12, weight_decay=0.0, scores="head")
    with pytest.raises(ParamsError, match="set `head: batch_norm` in the warm-up profile and warm up again"):
        method.start([network], task, params, stream(0, "start"))
    network.add_module("norm", torch.nn.BatchNorm1d(3))
    scores = copy.deepcopy(network)(task.plain(torch.arange(12)))
    torch.testing.assert_close(
        scores.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0
    )  # each class, not each sample
    state = method.start([network], task, params, stream(0, "start"))
    record = method.run_epoch(state, task, params, 0, stream(0, "epoch"))
    at_label = scores.gather(1, task.noisy_labels[:, None])[:, 0].double()
    expected = 1 - at_label / 3 if name == "unhinged" else ((-at_label).sigmoid() + 1) / 3
    torch.testing.assert_close(record.vectors["losses"].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [forward, backward])
def test_the_matrix_is_estimated_with_the_network_that_the_method_starts_from(method) -> None:  # type: ignore[no-untyped-def]
    task, network = tiny_task(warmup_epochs=1), tiny_network()
    probs = network(task.plain(torch.arange(12))).softmax(dim=1)
    rows = torch.stack([probs[probs[:, c].argmax()] for c in range(3)])
    state = method.start([network], task, method.Params(outlier_rate=0.0), stream(0, "start"))
    torch.testing.assert_close(state.matrix, rows, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", [forward, backward])
def test_an_untrained_network_cannot_tell_the_matrix(method) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        ParamsError,
        match="after a warm-up of 0 epochs it cannot be estimated; give it, or start from a warm-up",
    ):
        method.start([tiny_network()], tiny_task(), method.Params(), stream(0, "start"))


def test_a_singular_matrix_is_mixed_with_the_identity_and_the_trace_says_so() -> None:
    params = backward.Params(
        batch_size=12, assumed_transition_matrix=[[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]
    )
    state = backward.start([tiny_network()], tiny_task(), params, stream(0, "start"))
    record = backward.run_epoch(state, tiny_task(), params, 0, stream(0, "epoch"))
    # eigenvalues of 0.9 T + 0.1 I: 1, 0.1, 1, condition 10
    assert record.scalars["identity_weight"] == 0.1


@pytest.mark.parametrize("method", [forward, backward])
def test_a_matrix_of_another_size_is_refused(method) -> None:  # type: ignore[no-untyped-def]
    params = method.Params(assumed_transition_matrix=[[1, 0], [0, 1]])
    with pytest.raises(ParamsError, match="write 3 rows of 3"):
        method.start([tiny_network()], tiny_task(), params, stream(0, "start"))


def test_kept_are_samples_whose_loss_is_below_that_of_the_threshold() -> None:
    logits = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]]).log()
    # p_y is 0.6, 0.4, 0.5: only the first is above a half
    assert gce_truncated.kept_samples(logits, torch.zeros(3, dtype=torch.int64), 0.5).tolist() == [
        True,
        False,
        False,
    ]
    # no sample reaches 0.9: all are kept
    assert gce_truncated.kept_samples(logits, torch.zeros(3, dtype=torch.int64), 0.9).all()


@pytest.mark.parametrize(
    ("warmup_epochs", "epoch", "prunes"), [(0, 39, False), (0, 40, True), (0, 41, False), (10, 40, True)]
)
def test_pruning_comes_every_tenth_epoch_from_the_fortieth_on(
    warmup_epochs: int, epoch: int, prunes: bool
) -> None:
    task, params = tiny_task(warmup_epochs), gce_truncated.Params(batch_size=12, weight_decay=0.0)
    network, twin = tiny_network(), tiny_network()
    state = gce_truncated.start([network], task, params, stream(0, "start"))
    probs = twin(task.plain(torch.arange(12))).softmax(dim=1)
    at_label = probs[torch.arange(12), task.noisy_labels]
    kept = at_label > 0.5 if prunes else torch.ones(12, dtype=torch.bool)
    assert not prunes or 0 < kept.sum() < 12
    record = gce_truncated.run_epoch(state, task, params, epoch, stream(0, "epoch"))
    assert record.vectors["selected"].tolist() == kept.tolist()
    (sum((1 - p**0.7) / 0.7 for p, keep in zip(at_label, kept, strict=True) if keep) / 12).backward()
    rate = 0.01 * (1 + math.cos(math.pi * epoch / 120)) / 2
    for found, peer in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, peer - rate * peer.grad, atol=1e-6, rtol=1e-4)


def test_verified_labels_tell_the_matrix_without_a_warm_up() -> None:
    """SMP Table 1, row 6: the network has learned nothing yet."""
    task = tiny.task_of(verified=(torch.arange(24), (tiny.TRUTH + 1) % 4), warmup_epochs=0)
    state = forward.start(tiny.networks_of(forward), task, forward.Params(), stream(0, "start"))
    # every sample of class c was given c - 1
    torch.testing.assert_close(state.matrix, torch.eye(4).roll(-1, dims=1))
