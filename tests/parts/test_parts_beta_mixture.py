"""Two Betas: recovery of known ones, a step of EM against naive loops, degenerate losses, the message."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from noisyctl.errors import TrainingError
from noisyctl.parts import beta_mixture
from noisyctl.seeds import numpy_stream, stream


def betas(*pieces: tuple[float, float, int]) -> torch.Tensor:
    rng = numpy_stream(0, "betas")
    return torch.cat([torch.as_tensor(rng.beta(a, b, size)) for a, b, size in pieces])


def test_betas_that_lie_apart_are_found() -> None:
    found = beta_mixture.fit(betas((2.0, 20.0, 6000), (12.0, 4.0, 4000)))
    torch.testing.assert_close(
        found.weights, torch.tensor([0.6, 0.4], dtype=torch.float64), atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        found.means, torch.tensor([1 / 11, 3 / 4], dtype=torch.float64), atol=0.02, rtol=0
    )
    torch.testing.assert_close(found.alpha, torch.tensor([2.0, 12.0], dtype=torch.float64), rtol=0.25, atol=0)


def naive_density(x: float, a: float, b: float) -> float:
    return x ** (a - 1) * (1 - x) ** (b - 1) * math.gamma(a + b) / (math.gamma(a) * math.gamma(b))


def test_em_equals_naive_loops() -> None:
    x = [0.05, 0.1, 0.3, 0.7, 0.9]
    weights, alpha, beta = [0.5, 0.5], [1.0, 2.0], [2.0, 1.0]
    for _ in range(beta_mixture.ITERATIONS):
        joint = [[weights[k] * naive_density(v, alpha[k], beta[k]) for v in x] for k in (0, 1)]
        shares = [[joint[k][i] / (joint[0][i] + joint[1][i]) for i in range(5)] for k in (0, 1)]
        for k in (0, 1):
            total = sum(shares[k])
            mean = sum(s * v for s, v in zip(shares[k], x, strict=True)) / total
            variance = sum(s * (v - mean) ** 2 for s, v in zip(shares[k], x, strict=True)) / total
            alpha[k] = mean * (mean * (1 - mean) / variance - 1)
            beta[k] = alpha[k] * (1 - mean) / mean
            weights[k] = total / 5
    found = beta_mixture.fit(torch.tensor(x, dtype=torch.float64))
    expected = torch.tensor([weights, alpha, beta], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([*found]), expected)


def test_a_component_without_samples_takes_the_moments_of_all() -> None:
    x = torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = beta_mixture.from_moments(torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64), x)
    # mean 1/2, variance 1/16: alpha + beta = (1/4) / (1/16) - 1 = 3
    torch.testing.assert_close(found.alpha, torch.full((2,), 1.5, dtype=torch.float64))
    assert 0 < found.weights[1] < 1e-9


def test_small_losses_are_clean_and_large_ones_are_not() -> None:
    losses = 7 * betas((2.0, 20.0, 600), (12.0, 4.0, 400)).float()
    clean = beta_mixture.clean_probability(losses)
    wrong = torch.arange(1000) >= 600
    assert roc_auc_score(wrong.numpy(), (1 - clean).numpy()) > 0.99
    assert clean[losses < 0.5].min() > 0.9
    # the largest losses lie in the tail of both: they stay noisy
    assert clean[losses.topk(50).indices].max() < 0.1


def test_where_the_posterior_turns_the_largest_losses_stay_noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = torch.linspace(0, 1, 101)
    # a wide clean Beta around 0.45 has both tails; the narrow noisy one lies at 0.7
    turning = [torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0.5], [0.9, 70.0], [1.1, 30.0])]
    monkeypatch.setattr(beta_mixture, "fit", lambda scaled: beta_mixture.BetaMixture(*turning))
    clean = beta_mixture.clean_probability(losses)
    lowest = int(clean.argmin())
    assert 60 < lowest < 80
    assert torch.equal(clean[lowest:], clean[lowest].expand(101 - lowest))
    plain = beta_mixture.responsibilities(
        beta_mixture.BetaMixture(*turning), losses.double().clamp(1e-4, 0.9999)
    )
    assert plain[1, -1] < 0.01 < plain[1, lowest]  # what it would say without


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 5))
def test_only_the_order_and_the_distances_of_losses_count(factor: float, shift: float, seed: int) -> None:
    losses = torch.rand(50, generator=stream(seed, "losses"), dtype=torch.float64) ** 2
    clean = beta_mixture.clean_probability(losses)
    torch.testing.assert_close(
        beta_mixture.clean_probability(losses * factor + shift), clean, atol=1e-6, rtol=1e-6
    )
    order = torch.randperm(50, generator=stream(seed, "order"))
    torch.testing.assert_close(beta_mixture.clean_probability(losses[order]), clean[order], atol=1e-9, rtol=0)


@pytest.mark.parametrize("losses", [[0.3], [2.0, 2.0, 2.0], [0.1, 0.1 + 1e-9]])
def test_equal_losses_tell_nothing_apart(losses: list[float]) -> None:
    assert beta_mixture.clean_probability(torch.tensor(losses)).tolist() == [1.0] * len(losses)


@pytest.mark.parametrize(
    "losses",
    [
        [0.0, 1.0],
        [0.0] * 50 + [1.0] * 50,  # two points: the variance of each component is 0
        [0.0] * 99 + [1.0],  # both percentiles are 0
        [0.0] * 60 + [1.0] * 3,
        [1e-30, 1e30],
    ],
)
def test_degenerate_losses_have_finite_posteriors_in_order(losses: list[float]) -> None:
    values = torch.tensor(losses)
    clean = beta_mixture.clean_probability(values)
    assert torch.isfinite(clean).all()
    assert ((clean >= 0) & (clean <= 1)).all()
    assert clean[values.argmin()] > clean[values.argmax()]


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"1 of 3 per-sample losses are not finite \(samples \[1\]\)"):
        beta_mixture.clean_probability(torch.tensor([0.1, math.nan, 0.3]))
