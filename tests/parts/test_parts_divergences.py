"""Divergences: golden rows, properties, gradients at the corners."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisyctl.parts.divergences import jensen_shannon, kl, symmetric_kl
from noisyctl.seeds import stream

ALL = (kl, symmetric_kl, jensen_shannon)


def rows(seed: int, n: int = 5, c: int = 4) -> Tensor:
    """Probabilities in float64, from flat to nearly one-hot."""
    scale = torch.logspace(-1, 1.5, n, dtype=torch.float64)[:, None]
    return (scale * torch.randn(n, c, dtype=torch.float64, generator=stream(seed, "rows"))).softmax(dim=1)


def naive_kl(p: Tensor, q: Tensor) -> list[float]:
    pairs = zip(p.tolist(), q.tolist(), strict=True)
    return [sum(a * math.log(a / b) for a, b in zip(x, y, strict=True) if a > 0) for x, y in pairs]


def test_a_sure_prediction_against_a_coin_costs_log_2_nats() -> None:
    torch.testing.assert_close(
        kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])), torch.tensor([math.log(2)])
    )


def test_kl_takes_the_logarithm_of_p_over_q_and_not_of_q_over_p() -> None:
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])
    assert kl(p, q).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl(q, p).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))


def test_jensen_shannon_of_different_classes_is_one_bit() -> None:
    js = jensen_shannon(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(js, torch.tensor([1.0, 0.0]))


def test_jensen_shannon_of_a_sure_class_and_a_coin() -> None:
    """m = (3/4, 1/4): half of log2(4/3), and half of 1/2 log2(2/3) + 1/2 log2(2)."""
    js = jensen_shannon(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])).item()
    assert js == pytest.approx(0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25)


def test_divergences_equal_the_naive_sums() -> None:
    p, q = rows(0), rows(1)
    m = 0.5 * (p + q)
    forth, back = naive_kl(p, q), naive_kl(q, p)
    halves = zip(naive_kl(p, m), naive_kl(q, m), strict=True)
    assert kl(p, q).tolist() == pytest.approx(forth, abs=1e-6)
    assert symmetric_kl(p, q).tolist() == pytest.approx(
        [a + b for a, b in zip(forth, back, strict=True)], abs=1e-5
    )
    assert jensen_shannon(p, q).tolist() == pytest.approx(
        [(a + b) / 2 / math.log(2) for a, b in halves], abs=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), c=st.integers(2, 12))
def test_symmetry_range_and_rows_of_their_own(seed: int, c: int) -> None:
    p, q = rows(seed, c=c), rows(seed + 1, c=c)
    js = jensen_shannon(p, q)
    assert ((js > -1e-12) & (js < 1 + 1e-12)).all()  # to rounding
    torch.testing.assert_close(js, jensen_shannon(q, p))
    torch.testing.assert_close(symmetric_kl(p, q), symmetric_kl(q, p))
    for divergence in ALL:
        torch.testing.assert_close(divergence(p, p), torch.zeros(len(p), dtype=p.dtype))
        torch.testing.assert_close(divergence(p, q).flip(0), divergence(p.flip(0), q.flip(0)))


@pytest.mark.parametrize("divergence", ALL)
def test_gradients_are_finite_where_probabilities_are_0_and_1(divergence) -> None:  # type: ignore[no-untyped-def]
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    q = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    divergence(p, q).sum().backward()
    assert p.grad is not None and p.grad.isfinite().all()
    assert q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("divergence", ALL)
def test_gradients_are_right(divergence) -> None:  # type: ignore[no-untyped-def]
    p, q = rows(0, 3) + 0.1, rows(1, 3) + 0.1  # away from the floor, which has a corner
    assert torch.autograd.gradcheck(divergence, (p.requires_grad_(), q.requires_grad_()))
