"""SimCLR's loss against loops and closed forms, its anchors, and that it learns."""

import math
from pathlib import Path

import pytest
import torch
import toys
from torch import nn

from noisyctl.pretraining import simclr


def by_loops(rows: list[list[float]], temperature: float) -> list[float]:
    """Eq. 1 as printed, one product at a time; rows i and i + m/2 show one image."""

    def similarity(a: list[float], b: list[float]) -> float:
        product = square_a = square_b = 0.0
        for x, y in zip(a, b, strict=True):
            product, square_a, square_b = product + x * y, square_a + x * x, square_b + y * y
        return product / math.sqrt(square_a) / math.sqrt(square_b)

    losses = []
    for i in range(len(rows)):
        partner = (i + len(rows) // 2) % len(rows)
        denominator = 0.0
        for k in range(len(rows)):
            if k != i:
                denominator += math.exp(similarity(rows[i], rows[k]) / temperature)
        losses.append(-math.log(math.exp(similarity(rows[i], rows[partner]) / temperature) / denominator))
    return losses


def embeddings(b: int, d: int = 3) -> torch.Tensor:
    return torch.randn(2 * b, d, generator=torch.Generator().manual_seed(b), dtype=torch.float64)


@pytest.mark.parametrize("b", [1, 2, 5, 16])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 10.0])
def test_the_loss_is_that_of_loops(b: int, temperature: float) -> None:
    rows = embeddings(b)
    expected = torch.tensor(by_loops(rows.tolist(), temperature), dtype=torch.float64)
    torch.testing.assert_close(simclr.contrastive_losses(rows, temperature), expected)


def test_closed_forms() -> None:
    one_image = simclr.contrastive_losses(torch.tensor([[1.0, 2.0], [-2.0, 1.0]]), 0.1)
    torch.testing.assert_close(one_image, torch.zeros(2))  # no other image to take it for
    all_alike = simclr.contrastive_losses(torch.ones(8, 3), 0.1)
    torch.testing.assert_close(all_alike, torch.full((8,), math.log(7)))  # a guess among the other seven
    perfect = simclr.contrastive_losses(torch.eye(4).repeat(2, 1), 0.5)  # views equal, images orthogonal
    torch.testing.assert_close(perfect, torch.full((8,), math.log(1 + 6 * math.exp(-2))))


def test_the_views_are_alike_and_lengths_do_not_count() -> None:
    rows = embeddings(6)
    losses = simclr.contrastive_losses(rows, 0.2)
    torch.testing.assert_close(simclr.contrastive_losses(rows.roll(6, dims=0), 0.2), losses.roll(6))
    lengths = torch.linspace(0.1, 9, 12, dtype=torch.float64)[:, None]
    torch.testing.assert_close(simclr.contrastive_losses(lengths * rows, 0.2), losses)


def test_gradients_are_those_of_finite_differences() -> None:
    rows = embeddings(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: simclr.contrastive_losses(x, 0.5), rows)


def test_autocast_does_not_round_the_similarities() -> None:
    rows = embeddings(4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = simclr.contrastive_losses(rows, 0.1)
    assert torch.equal(rounded, simclr.contrastive_losses(rows, 0.1))


class Table(nn.Module):
    """The same embeddings whatever it sees."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rows


@pytest.mark.parametrize(("anchors", "count"), [("both", 8), ("first", 4)])
def test_whose_loss_is_averaged(anchors: str, count: int) -> None:
    rows = embeddings(4).float()
    params = simclr.Params(batch_size=4, temperature=0.5, anchors=anchors)
    task, rng = toys.numbered(4), torch.Generator()
    state = simclr.start([Table(rows.clone())], task, params, rng)
    loss = simclr.run_epoch(state, task, params, 0, rng).scalars["loss"]
    assert loss == pytest.approx(sum(by_loops(rows.tolist(), 0.5)[:count]) / count, rel=1e-5)


def test_the_learning_rate_rises_then_falls_to_its_floor() -> None:
    params = simclr.Params(epochs=6, warmup_epochs=2, learning_rate=0.4, floor_rate=0.1)
    task, rng = toys.numbered(2), torch.Generator()
    state = simclr.start([Table(embeddings(2).float())], task, params, rng)
    rates = [simclr.run_epoch(state, task, params, e, rng).scalars["learning_rate"] for e in range(6)]
    # 2 epochs up; then 0.1 + 0.3 (1 + cos(pi e / 4)) / 2 for e = 0..3
    half = math.sqrt(0.5)
    expected = [0.2, 0.4, 0.4, 0.1 + 0.15 * (1 + half), 0.25, 0.1 + 0.15 * (1 - half)]
    assert rates == pytest.approx(expected)


def test_learning_brings_views_of_digits_of_a_kind_together(tmp_path: Path) -> None:
    params = simclr.Params(epochs=12, batch_size=64, learning_rate=0.05, temperature=0.2, embedding_size=16)
    task = toys.digits_task(512)
    before = toys.run(simclr, task, params, tmp_path / "untrained", epochs=0).network
    after = toys.run(simclr, task, params, tmp_path / "trained").network
    # about 42% and 61% when this was written
    assert toys.knn_accuracy(after.features, task) > toys.knn_accuracy(before.features, task) + 0.1
