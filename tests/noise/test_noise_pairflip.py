"""Pair flip: to the next class only, at the promised rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from noisyctl.errors import DataError
from noisyctl.noise import pairflip

CLEAN = np.arange(20000) % 10


def test_labels_go_to_the_next_class_and_the_last_to_the_first() -> None:
    params = pairflip.Params(rate=1.0)
    assert pairflip.corrupt(np.array([0, 1, 2]), 3, params, np.random.default_rng(0)).tolist() == [1, 2, 0]


def test_matrix_by_hand() -> None:
    matrix = pairflip.transition_matrix(3, pairflip.Params(rate=0.45))
    np.testing.assert_allclose(matrix, [[0.55, 0.45, 0], [0, 0.55, 0.45], [0.45, 0, 0.55]])


def test_two_classes_swap() -> None:
    np.testing.assert_allclose(
        pairflip.transition_matrix(2, pairflip.Params(rate=0.2)), [[0.8, 0.2], [0.2, 0.8]]
    )


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0, 1), sizes=st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_exact_draws_are_exact_in_every_class(rate: float, sizes: list[int]) -> None:
    clean = np.repeat(np.arange(len(sizes)), sizes)
    params = pairflip.Params(rate=rate, draw="exact")
    noisy = pairflip.corrupt(clean, len(sizes), params, np.random.default_rng(0))
    for c, size in enumerate(sizes):
        assert (noisy[clean == c] != c).sum() == round(rate * size)
    np.testing.assert_allclose(pairflip.transition_matrix(len(sizes), params).sum(axis=1), 1)


def test_bad_rates_and_labels_are_refused() -> None:
    with pytest.raises(ValidationError, match="rate"):
        pairflip.Params(rate=1.5)
    with pytest.raises(DataError, match=r"outside 0\.\.4"):
        pairflip.corrupt(CLEAN, 5, pairflip.Params(rate=0.1), np.random.default_rng(0))
    with pytest.raises(DataError, match="two classes"):
        pairflip.corrupt(CLEAN * 0, 1, pairflip.Params(rate=0.1), np.random.default_rng(0))
