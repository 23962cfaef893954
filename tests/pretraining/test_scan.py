"""SCAN: both terms by hand and against loops, the signs, the draw of the neighbor, corners."""

import math

import pytest
import torch
import toys
from torch import nn

from noisyctl.pretraining import scan
from noisyctl.seeds import stream


def logits_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_consistency_by_hand() -> None:
    anchors = logits_of([0.9, 0.1], [0.5, 0.5], [0.25, 0.75], [1.0, 0.0])
    neighbors = logits_of([0.2, 0.8], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0])
    # confident and apart: 0.18 + 0.08; both undecided; one undecided: still a half; both sure and alike: no loss
    expected = [-math.log(0.26), math.log(2), math.log(2), 0.0]
    losses = scan.pair_consistency(anchors, neighbors.clamp(min=-1e3))
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def test_entropy_by_hand() -> None:
    sure = 1e3 * torch.eye(4)
    torch.testing.assert_close(scan.mean_entropy(sure), torch.tensor(math.log(4)))  # one image a cluster
    torch.testing.assert_close(scan.mean_entropy(sure[[0, 0, 0]]), torch.tensor(0.0))  # all in one
    torch.testing.assert_close(scan.mean_entropy(torch.zeros(3, 4)), torch.tensor(math.log(4)))  # undecided
    three_to_one = scan.mean_entropy(sure[[0, 0, 0, 1]])
    torch.testing.assert_close(three_to_one, torch.tensor(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(x) for x in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("b", "c"), [(1, 2), (5, 3), (8, 20)])
def test_both_terms_are_those_of_loops(b: int, c: int) -> None:
    rng = stream(0, "logits")
    anchors, neighbors = (3 * torch.randn(b, c, generator=rng, dtype=torch.float64) for _ in range(2))
    losses, mean = [], [0.0] * c
    for anchor, neighbor in zip(anchors.tolist(), neighbors.tolist(), strict=True):
        p, q = softmax(anchor), softmax(neighbor)
        losses.append(-math.log(sum(p[k] * q[k] for k in range(c))))
        mean = [mean[k] + p[k] / b for k in range(c)]
    entropy = -sum(m * math.log(m) for m in mean)
    found = scan.pair_consistency(anchors, neighbors)
    torch.testing.assert_close(found, torch.tensor(losses, dtype=torch.float64))
    torch.testing.assert_close(scan.mean_entropy(anchors), torch.tensor(entropy, dtype=torch.float64))


def test_gradients_are_those_of_finite_differences() -> None:
    anchors = torch.randn(3, 4, generator=stream(0, "a"), dtype=torch.float64).requires_grad_()
    neighbors = torch.randn(3, 4, generator=stream(0, "n"), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(scan.pair_consistency, (anchors, neighbors))
    assert torch.autograd.gradcheck(scan.mean_entropy, (anchors,))


def test_where_the_network_is_sure_and_wrong_loss_and_gradient_are_finite() -> None:
    anchors = torch.tensor([[400.0, 0.0]], requires_grad=True)
    losses = scan.pair_consistency(anchors, torch.tensor([[0.0, 400.0]]))
    torch.testing.assert_close(losses, torch.tensor([400 - math.log(2)]))  # 2 e^-400, below any float32
    (losses.sum() - scan.mean_entropy(anchors)).backward()
    assert torch.isfinite(anchors.grad).all()


def test_one_neighbor_is_always_drawn_and_many_alike() -> None:
    only = torch.arange(5)[:, None]
    assert scan.draw_one(only, stream(0, "draw")).tolist() == [0, 1, 2, 3, 4]
    drawn = scan.draw_one(torch.tensor([[3, 1, 4, 6]]).expand(40_000, 4), stream(0, "draw"))
    counts = drawn.bincount(minlength=7)[[3, 1, 4, 6]]
    assert counts.sum() == 40_000
    # binomial with n = 40000, p = 1/4: five standard deviations
    assert ((counts - 10_000).abs() < 5 * math.sqrt(40_000 * 3 / 16)).all()


class Watching(nn.Module):
    """Keeps the pixels it is shown, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shown = nn.Linear(1, 3), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images.flatten().long())
        return self.layer(images.flatten(1))


def pairs(views: str = "weak", **params):
    """Anchors and neighbors of an epoch over 60 images whose one neighbor is the next."""
    task = toys.numbered(60, neighbors=(torch.arange(60) + 1)[:, None] % 60)
    network, chosen = Watching(), scan.Params(batch_size=20, views=views, **params)
    state = scan.start([network], task, chosen, stream(0, "start"))
    scan.run_epoch(state, task, chosen, 0, stream(0, "epoch"))
    return torch.cat(network.shown[::2]), torch.cat(network.shown[1::2])


@pytest.mark.parametrize("views", ["weak", "simclr", "strong"])
def test_every_anchor_comes_with_its_neighbor(views: str) -> None:
    anchors, neighbors = pairs(views)
    assert sorted(anchors.tolist()) == list(range(60))
    assert torch.equal(neighbors, (anchors + 1) % 60)


def test_with_itself_among_the_candidates_an_image_is_its_own_neighbor_half_the_time() -> None:
    anchors, neighbors = pairs(include_self=True)
    itself = neighbors == anchors
    assert (itself | (neighbors == (anchors + 1) % 60)).all()
    assert 15 < int(itself.sum()) < 45  # 30 of 60, give or take four standard deviations


@pytest.mark.parametrize(("weight", "spreads"), [(5.0, True), (0.0, False)])
def test_the_entropy_term_keeps_clusters_apart(weight: float, spreads: bool) -> None:
    task = toys.digits_task(200)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    nn.init.normal_(network[1].weight, std=0.02, generator=stream(0, "weight"))
    network[1].bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])  # most fall into the first cluster
    params = scan.Params(batch_size=50, epochs=20, learning_rate=0.02, entropy_weight=weight, views="weak")
    state = scan.start([network], task, params, stream(0, "start"))
    records = [scan.run_epoch(state, task, params, e, stream(0, e)).scalars for e in range(20)]
    first, last = records[0]["entropy"], records[-1]["entropy"]
    assert last > 1.3 if spreads else last < 0.1 < first  # log 4 is 1.386; without the term all fall into one
    if spreads:
        assert records[-1]["consistency"] < 1.35  # nor by staying undecided, which costs log 4
        assert len(scan.predict(state, task.plain(torch.arange(200))).argmax(dim=1).unique()) == 4


def test_images_that_are_all_alike_stay_undecided_and_finite() -> None:
    task = toys.numbered(1)
    images = task.images.expand(40, 1, 1, 1)
    task = toys.Task(images, toys.Pixels(), 3, toys.CPU, neighbors=torch.zeros(40, 1, dtype=torch.int64))
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 3))
    params = scan.Params(batch_size=10, learning_rate=0.05, views="weak")
    state = scan.start([network], task, params, stream(0, "start"))
    for epoch in range(30):
        record = scan.run_epoch(state, task, params, epoch, stream(0, epoch))
    # nothing tells them apart, and lambda = 5 outweighs agreement: the mean prediction is uniform
    assert record.scalars["entropy"] == pytest.approx(math.log(3), abs=1e-3)
    assert record.scalars["consistency"] == pytest.approx(math.log(3), abs=1e-2)
