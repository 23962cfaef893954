"""Noise: promised and measured rates, both conventions, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from noisyctl import noise
from noisyctl.errors import DataError, ParamsError
from noisyctl.noise import pairflip, symmetric

CLEAN = np.arange(20000) % 10


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize(("include", "wrong"), [(True, 0.9), (False, 1.0)])
def test_measured_rate_is_the_convention_s(rate: float, include: bool, wrong: float) -> None:
    params = symmetric.Params(rate=rate, include_true_class=include)
    noisy = symmetric.corrupt(CLEAN, 10, params, np.random.default_rng(0))
    expected = rate * wrong
    assert abs((noisy != CLEAN).mean() - expected) < 5 * (expected * (1 - expected) / len(CLEAN)) ** 0.5


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 1), include=st.booleans(), classes=st.integers(2, 12))
def test_matrices_are_stochastic_and_exact_draws_exact(rate: float, include: bool, classes: int) -> None:
    params = symmetric.Params(rate=rate, include_true_class=include, draw="exact")
    matrix = symmetric.transition_matrix(classes, params)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    flip = pairflip.transition_matrix(classes, pairflip.Params(rate=rate))
    np.testing.assert_allclose(flip.sum(axis=1), 1)
    if not include:
        clean = np.arange(50 * classes) % classes
        noisy = symmetric.corrupt(clean, classes, params, np.random.default_rng(0))
        assert all((noisy[clean == c] != c).sum() == round(rate * 50) for c in range(classes))


def test_pairflip_goes_to_the_next_class_only() -> None:
    noisy = pairflip.corrupt(CLEAN, 10, pairflip.Params(rate=0.45), np.random.default_rng(0))
    assert set(np.unique((noisy - CLEAN) % 10)) == {0, 1}


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_outside_0_1_is_refused(rate: float) -> None:
    with pytest.raises(ValidationError):
        symmetric.Params(rate=rate, include_true_class=True)


def test_symmetric_noise_needs_its_convention() -> None:
    with pytest.raises(ValidationError):
        symmetric.Params(rate=0.5)  # type: ignore[call-arg]


def test_labels_outside_the_classes_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(DataError, match=r"outside 0\.\.4"):
        pairflip.corrupt(CLEAN, 5, pairflip.Params(rate=0.1), np.random.default_rng(0))
    with pytest.raises(ParamsError, match="did you mean 'symmetric'"):
        noise.load("symetric")
