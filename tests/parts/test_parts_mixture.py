"""Two Gaussians on losses: what is clean, invariance, and the cases that tell nothing apart."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch import Tensor

from noisyctl.errors import TrainingError
from noisyctl.parts import mixture
from noisyctl.seeds import draw_seed, stream


def two_groups(low: float = 0.2, high: float = 3.0) -> Tensor:
    near = torch.randn(200, generator=stream(0, "a")) * 0.1 + low
    return torch.cat([near, torch.randn(100, generator=stream(0, "b")) * 0.2 + high])


def posterior_by_em(losses: Tensor, max_iter: int = 200) -> np.ndarray:
    """EM by hand in float64 on losses scaled to [0, 1], from a cut at one half."""
    x = losses.double().numpy()
    x = (x - x.min()) / (x.max() - x.min())
    r = np.stack([x < 0.5, x >= 0.5], axis=1).astype(float)
    for _ in range(max_iter):
        weight = r.sum(axis=0)
        mean = (r * x[:, None]).sum(axis=0) / weight
        variance = (r * (x[:, None] - mean) ** 2).sum(axis=0) / weight + 5e-4
        density = np.exp(-((x[:, None] - mean) ** 2) / (2 * variance)) / np.sqrt(2 * math.pi * variance)
        r = weight / len(x) * density
        r /= r.sum(axis=1, keepdims=True)
    return r[:, int(mean.argmin())]


def test_small_losses_are_clean() -> None:
    clean = mixture.clean_probability(two_groups(), stream(0, "gmm"))
    assert (clean[:200] > 0.99).all()
    assert (clean[200:] < 0.01).all()


def test_the_posterior_is_that_of_em_by_hand() -> None:
    losses = two_groups(0.5, 1.2)
    found = mixture.clean_probability(losses, stream(0, "gmm"), max_iter=300, tol=1e-9)
    np.testing.assert_allclose(found.numpy(), posterior_by_em(losses), atol=2e-3)


def test_the_mean_of_scaled_losses_is_fitted_as_it_is() -> None:
    """As the official codes do: losses of each epoch to [0, 1], their mean over five epochs, two Gaussians of ten steps."""
    rng = stream(0, "epochs")
    every = torch.randn(5, 300, generator=rng).mul(0.6) + torch.where(torch.arange(300) < 180, 0.5, 1.6)
    scaled = (every - every.amin(1, keepdim=True)) / (
        every.amax(1, keepdim=True) - every.amin(1, keepdim=True)
    )
    mean = scaled.mean(dim=0)
    span = float(mean.max() - mean.min())
    assert span < 0.8
    column = mean.double().numpy()[:, None]
    seed = draw_seed(stream(0, "gmm"))
    gmm = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed).fit(column)
    expected = gmm.predict_proba(column)[:, gmm.means_.argmin()]
    found = mixture.scaled_clean_probability(mean, stream(0, "gmm"))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    stretched = mixture.clean_probability(mean, stream(0, "gmm"))
    assert (stretched - found).abs().max() > 1e-3  # what scaling once more would change
    regular = mixture.clean_probability(mean, stream(0, "gmm"), reg_covar=5e-4 / span**2)
    np.testing.assert_allclose(regular, expected, atol=1e-3)  # and why
    one_epoch = mixture.scaled_clean_probability(scaled[0], stream(0, "gmm"))
    np.testing.assert_allclose(one_epoch, mixture.clean_probability(scaled[0], stream(0, "gmm")), atol=1e-6)


def test_the_mixture_is_in_the_unit_of_the_losses_and_the_smaller_mean_is_first() -> None:
    fitted = mixture.fit_mixture(two_groups(), stream(0, "gmm"), reg_covar=1e-8)
    assert fitted.weights == pytest.approx((2 / 3, 1 / 3), abs=0.01)
    assert fitted.means == pytest.approx((0.2, 3.0), abs=0.05)
    assert [math.sqrt(v) for v in fitted.variances] == pytest.approx([0.1, 0.2], rel=0.2)


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-5, 5))
def test_clean_probability_is_unchanged_by_affine_maps(scale: float, shift: float) -> None:
    losses = torch.rand(100, generator=stream(0, "a")).double() ** 3
    plain = mixture.clean_probability(losses, stream(0, "g"))
    moved = mixture.clean_probability(losses * scale + shift, stream(0, "g"))
    torch.testing.assert_close(plain, moved, atol=1e-6, rtol=0)


def test_the_same_generator_gives_the_same_posterior_whatever_numpy_draws() -> None:
    losses = torch.rand(100, generator=stream(0, "a"))
    first = mixture.clean_probability(losses, stream(0, "g"))
    np.random.seed(5)  # noqa: NPY002
    assert torch.equal(first, mixture.clean_probability(losses, stream(0, "g")))
    assert first.dtype == losses.dtype


@pytest.mark.parametrize("losses", [[], [2.0], [0.0, 0.0], [1.0, 1.0 + 1e-7, 1.0]])
def test_losses_that_tell_nothing_apart_are_all_clean(losses: list[float]) -> None:
    assert mixture.clean_probability(torch.tensor(losses), stream(0, "g")).tolist() == [1.0] * len(losses)


def test_equal_losses_are_one_component() -> None:
    assert mixture.fit_mixture(torch.full((4,), 0.5), stream(0, "g")) == ((1, 0), (0.5, 0.5), (0, 0))


def test_two_samples_are_told_apart() -> None:
    clean = mixture.clean_probability(torch.tensor([5.0, 0.1]), stream(0, "g"))
    assert clean[0] < 0.01 and clean[1] > 0.99


@pytest.mark.parametrize(
    "fit", [mixture.clean_probability, mixture.scaled_clean_probability, mixture.fit_mixture]
)
def test_losses_that_are_not_finite_are_named(fit) -> None:  # type: ignore[no-untyped-def]
    losses = torch.tensor([1.0, math.nan, 2.0, math.inf])
    with pytest.raises(
        TrainingError, match=r"2 of 4 .* not finite \(samples \[1, 3\]\); lower learning_rate"
    ):
        fit(losses, stream(0, "g"))
