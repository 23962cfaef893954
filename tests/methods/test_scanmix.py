"""ScanMix's own functions: golden rows by hand, Eq. 10-12 by naive loops, the choice of the rate, degenerate data."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from noisyctl.methods import scanmix
from noisyctl.nn.networks import build
from noisyctl.parts.losses import mean_entropy
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import Views

CLASSES, SIZE, K = 3, 24, 4
SPEC = {
    "backbone": "small_cnn",
    "width": 1,
    "channels": 1,
    "size": [8, 8],
    "num_outputs": CLASSES,
    "head": "linear",
}


def make_task(**known: Any) -> Task:
    images = torch.randint(256, (SIZE, 8, 8, 1), generator=stream(0, "images"), dtype=torch.uint8)
    near = torch.stack([(torch.arange(SIZE) + i + 1) % SIZE for i in range(K)], dim=1)
    views = Views("digits", (0.5,), (0.5,))
    about = {"labels": torch.arange(SIZE) % CLASSES, "neighbors": near} | known
    return Task(images, views, CLASSES, torch.device("cpu"), **about)


def begin(task: Task, **values: Any) -> tuple[scanmix.State, scanmix.Params]:
    params = scanmix.Params(**{"batch_size": 8, "cluster_batch_size": 8} | values)
    networks: list[nn.Module] = [build(SPEC, stream(seed, "init")) for seed in (0, 1)]
    return scanmix.start(networks, task, params, stream(0, "start")), params


def certain(*classes: int) -> torch.Tensor:
    return 100.0 * torch.nn.functional.one_hot(torch.tensor(classes), CLASSES).float()


def test_eq_11_by_hand() -> None:
    anchors = torch.stack([certain(0)[0], torch.zeros(3)])
    others = torch.stack([torch.stack([certain(0)[0], torch.zeros(3)]), torch.zeros(2, 3)])
    every, none, first = (
        torch.ones(2, 2, dtype=torch.bool),
        torch.zeros(2, 2, dtype=torch.bool),
        torch.eye(2) > 0,
    )
    # sure and alike costs nothing; a uniform neighbor, or two uniform ones, agree with probability 1/3
    expected = torch.tensor([0 + math.log(3), 2 * math.log(3)])
    torch.testing.assert_close(scanmix.neighborhood_losses(anchors, others, every), expected)
    torch.testing.assert_close(scanmix.neighborhood_losses(anchors, others, none), torch.zeros(2))
    torch.testing.assert_close(
        scanmix.neighborhood_losses(anchors, others, first), torch.tensor([0.0, math.log(3)])
    )


def test_eq_10_to_12_equal_naive_loops() -> None:
    rng = stream(0, "oracle")
    anchors = torch.randn(5, CLASSES, generator=rng, dtype=torch.float64)
    others = torch.randn(5, K, CLASSES, generator=rng, dtype=torch.float64)
    alike = torch.rand(5, K, generator=rng) > 0.5
    p, q = anchors.softmax(dim=1), others.softmax(dim=2)
    pull = 0.0
    for i in range(5):
        for j in range(K):
            if alike[i, j]:
                pull -= math.log(sum(float(p[i, c] * q[i, j, c]) for c in range(CLASSES))) / 5
    mean = [sum(float(p[i, c]) for i in range(5)) / 5 for c in range(CLASSES)]
    spread = sum(m * math.log(m) for m in mean)  # Eq. 12: added, times lambda_e
    found = scanmix.neighborhood_losses(anchors, others, alike).mean() - 2.0 * mean_entropy(anchors)
    assert float(found) == pytest.approx(pull + 2.0 * spread)


def test_clustering_has_the_right_gradient() -> None:
    anchors = torch.randn(3, CLASSES, dtype=torch.float64, requires_grad=True)
    others = torch.randn(3, 2, CLASSES, dtype=torch.float64, requires_grad=True)
    alike = torch.tensor([[True, False], [True, True], [False, False]])
    assert torch.autograd.gradcheck(lambda a, o: scanmix.neighborhood_losses(a, o, alike), (anchors, others))


def test_a_sure_network_that_disagrees_has_finite_gradients() -> None:
    anchors = certain(0, 1).requires_grad_()
    loss = scanmix.neighborhood_losses(
        anchors, certain(1, 1)[:, None], torch.ones(2, 1, dtype=torch.bool)
    ).sum()
    (loss - mean_entropy(anchors)).backward()
    assert anchors.grad is not None and torch.isfinite(anchors.grad).all()


def test_drawn_neighbors_are_different_ones_and_scaled_to_all() -> None:
    near = torch.arange(12).view(2, 6)
    found, scale = scanmix.drawn(near, 2, stream(0, "d"))
    assert scale == 3.0
    for row, (a, b) in zip(near.tolist(), found.tolist(), strict=True):
        assert a != b and {a, b} <= set(row)
    counts = torch.zeros(6)
    for seed in range(300):
        counts[scanmix.drawn(near, 2, stream(seed, "d"))[0][0]] += 1
    assert (counts - 100).abs().max() < 40  # uniform: 100 each, five deviations of a binomial(300, 1/3)
    for number in (0, 6, 7):
        every, factor = scanmix.drawn(near, number, stream(0, "d"))
        assert torch.equal(every, near) and factor == 1.0


@pytest.mark.parametrize(("noise", "rate"), [(0.59, 1e-5), (0.6, 1e-5), (0.61, 1e-3)])
def test_the_rate_of_the_clustering_on_both_sides_of_the_threshold(noise: float, rate: float) -> None:
    assert scanmix.cluster_rate(noise, scanmix.Params()) == rate


def test_the_rate_is_chosen_once_and_survives_in_the_state() -> None:
    task = make_task()
    state, params = begin(task, noise_threshold=0.0, epochs=2)
    first = scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    assert state.cluster_rate == first.scalars["cluster_rate"] == params.high_noise_rate
    low = params.model_copy(update={"noise_threshold": 1.0})
    assert (
        scanmix.run_epoch(state, task, low, 1, stream(0, 1)).scalars["cluster_rate"] == params.high_noise_rate
    )


def test_only_neighbors_predicted_alike_and_in_training_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(held_out=torch.tensor([3]))
    state, params = begin(task)
    seen: list[torch.Tensor] = []

    def losses(anchors: torch.Tensor, others: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
        seen.append(alike)
        return original(anchors, others, alike)

    original = scanmix.neighborhood_losses
    monkeypatch.setattr(scanmix, "neighborhood_losses", losses)
    predictions = (torch.arange(SIZE) >= 12).long()  # two blocks: neighbors are the next four
    network, optimizer = state.network1, state.optimizers[0]
    scanmix.cluster(network, optimizer, predictions, task, params, stream(0, "c"))
    # of 24 x 4 pairs 12 -> 24 and the ring's end each cut 4 + 3 + 2 + 1 = 10; 3 is held out: no anchor (4 pairs less),
    # and no neighbor of 0, 1, 2 and 23, of which 23 is predicted otherwise already
    assert int(torch.cat([a.ravel() for a in seen]).sum()) == 96 - 20 - 4 - 3


def test_the_mean_is_the_sum_over_the_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step on one batch from one start: without entropy and momentum the steps are in proportion K to 1."""
    moved = {}
    for kind in ("sum", "mean"):
        task = make_task()
        state, params = begin(
            task, neighbor_losses=kind, entropy_weight=0.0, weight_decay=0.0, cluster_batch_size=SIZE
        )
        before = torch.cat([p.detach().ravel().clone() for p in state.network1.parameters()])
        scanmix.cluster(
            state.network1,
            state.optimizers[0],
            torch.zeros(SIZE, dtype=torch.long),
            task,
            params,
            stream(0, "c"),
        )
        moved[kind] = torch.cat([p.detach().ravel() for p in state.network1.parameters()]) - before
    torch.testing.assert_close(moved["sum"], K * moved["mean"], rtol=1e-3, atol=1e-7)


def test_no_neighbor_predicted_alike_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    state, params = begin(task)
    scanmix.cluster(state.network1, state.optimizers[0], torch.arange(SIZE), task, params, stream(0, "c"))
    task.monitor.check(0)
    assert all(torch.isfinite(p).all() for p in state.network1.parameters())


def test_the_clustering_of_a_network_uses_its_own_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    state, params = begin(task)
    asked: list[tuple[nn.Module, torch.Tensor]] = []
    monkeypatch.setattr(
        scanmix, "cluster", lambda network, o, predictions, *rest: asked.append((network, predictions))
    )
    own = [
        net.eval()(task.plain(torch.arange(SIZE))).argmax(dim=1) for net in (state.network1, state.network2)
    ]
    scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    assert [network for network, _ in asked] == [state.network1, state.network2]
    for (_, found), expected in zip(asked, own, strict=True):
        assert torch.equal(found, expected)


def test_both_networks_logits_are_summed() -> None:
    class Says(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((1, 2), self.value)

    state = scanmix.State(Says(1.0), Says(-3.0), [], torch.zeros(0), None)
    assert scanmix.predict(state, torch.zeros(1)).tolist() == [[-2.0, -2.0]]
