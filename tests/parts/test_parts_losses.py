"""Losses: golden rows, oracles, gradients where predictions are certain."""

import math

import pytest
import torch
from torch import Tensor

from noisyctl.parts.losses import (
    mean_entropy,
    negative_entropy,
    pair_consistency,
    prior_penalty,
    squared_error,
)
from noisyctl.seeds import stream

CERTAIN = torch.tensor([[1e4, 0.0, 0.0], [1e4, 0.0, 0.0], [1e4, -1e4, 0.0]])  # class 0, and no other ever


def draw(name: str, n: int = 4, c: int = 3) -> Tensor:
    return torch.randn(n, c, dtype=torch.float64, generator=stream(0, name))


def probs(logits: Tensor) -> list[list[float]]:
    return [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits.tolist()]


def test_negative_entropy_of_flat_and_of_certain_rows() -> None:
    flat = negative_entropy(torch.zeros(2, 4))
    torch.testing.assert_close(flat, torch.full((2,), -math.log(4)))
    torch.testing.assert_close(negative_entropy(CERTAIN), torch.zeros(3))


def test_negative_entropy_equals_torch() -> None:
    logits = draw("a")
    torch.testing.assert_close(
        negative_entropy(logits), -torch.distributions.Categorical(logits=logits).entropy()
    )


def test_squared_error_is_a_mean_over_the_classes() -> None:
    """A sure class 0 against class 1: (1 + 1 + 0) / 3; a coin's half against a class: (1/4 + 1/4 + 0) / 3."""
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 0.0, -1e4]])
    targets = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(squared_error(logits, targets), torch.tensor([2 / 3, 1 / 6]))


def test_pair_consistency_by_hand() -> None:
    """Both sure of one class: 0; flat over two: log 2; flat against sure: log 2 as well."""
    sure, flat = torch.tensor([[1e4, 0.0]]), torch.zeros(1, 2)
    assert pair_consistency(sure, sure).item() == 0
    assert pair_consistency(flat, flat).item() == pytest.approx(math.log(2))
    assert pair_consistency(sure, flat).item() == pytest.approx(math.log(2))


def test_pair_consistency_is_minus_the_log_of_the_inner_product() -> None:
    p, q = draw("p"), draw("q")
    pairs = zip(probs(p), probs(q), strict=True)
    expected = [-math.log(sum(a * b for a, b in zip(x, y, strict=True))) for x, y in pairs]
    assert pair_consistency(p, q).tolist() == pytest.approx(expected)


def test_mean_entropy_is_of_the_mean_and_not_the_mean_of_entropies() -> None:
    """Two sure and different rows have no entropy each, and their mean has log 2."""
    assert mean_entropy(torch.tensor([[1e4, 0.0], [0.0, 1e4]])).item() == pytest.approx(math.log(2))
    assert mean_entropy(torch.tensor([[1e4, 0.0], [1e4, 0.0]])).item() == 0


def test_prior_penalty_is_0_for_classes_equally_used() -> None:
    assert prior_penalty(torch.tensor([[1e4, 0.0], [0.0, 1e4]])).item() == pytest.approx(0, abs=1e-6)


def test_prior_penalty_by_hand() -> None:
    """One row (3/4, 1/4): 1/2 log(2/3) + 1/2 log 2."""
    logits = torch.tensor([[0.75, 0.25]]).log()
    assert prior_penalty(logits).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))


def test_batch_losses_equal_the_naive_sums() -> None:
    logits = draw("a", 5, 4)
    mean = [sum(column) / 5 for column in zip(*probs(logits), strict=True)]
    assert mean_entropy(logits).item() == pytest.approx(-sum(m * math.log(m) for m in mean))
    assert prior_penalty(logits).item() == pytest.approx(sum(0.25 * math.log(0.25 / m) for m in mean))


@pytest.mark.parametrize("loss", [negative_entropy, mean_entropy, prior_penalty])
def test_gradients_of_certain_rows_are_finite(loss) -> None:  # type: ignore[no-untyped-def]
    logits = CERTAIN.clone().requires_grad_()
    value = loss(logits).sum()
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_a_class_that_vanished_is_still_pulled_back() -> None:
    logits = CERTAIN.clone().requires_grad_()
    prior_penalty(logits).backward()
    assert logits.grad is not None and (logits.grad[:, 1].sum() < 0)


def test_certain_and_opposite_pairs_have_finite_gradients() -> None:
    logits = torch.tensor([[1e4, 0.0]], requires_grad=True)
    pair_consistency(logits, torch.tensor([[0.0, 1e4]])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_gradients_are_right() -> None:
    a, b = draw("a", 3).requires_grad_(), draw("b", 3).requires_grad_()
    for loss in (negative_entropy, mean_entropy, prior_penalty):
        assert torch.autograd.gradcheck(loss, a)
    assert torch.autograd.gradcheck(pair_consistency, (a, b))
    assert torch.autograd.gradcheck(squared_error, (a, draw("t", 3).softmax(dim=1)))
