"""Semantic noise: predictions as labels, or the likeliest mistakes up to a rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from noisyctl.errors import DataError
from noisyctl.noise import semantic

CLEAN = np.array([0, 1, 2, 0])
# Sure and right; sure and wrong (lead .7); nearly right (lead -.1); unsure and wrong (lead .2).
PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.05, 0.425, 0.525], [0.3, 0.2, 0.5]])


def corrupt(rate: float | None) -> list[int]:
    params = semantic.Params(rate=rate)
    rng = np.random.default_rng(0)
    return semantic.corrupt(CLEAN, 3, params, rng, probabilities=PROBABILITIES).tolist()


def test_without_a_rate_labels_are_predictions() -> None:
    assert corrupt(None) == [0, 0, 2, 2]


def test_a_rate_takes_the_most_confident_mistakes_first() -> None:
    assert corrupt(0.0) == [0, 1, 2, 0]
    assert corrupt(0.25) == [0, 0, 2, 0]  # the lead of .7
    assert corrupt(0.5) == [0, 0, 2, 2]  # then that of .2: all the classifier's mistakes
    assert corrupt(0.75) == [0, 0, 1, 2]  # then a right prediction with the closest rival
    assert corrupt(1.0) == [1, 0, 1, 2]  # a tie goes to the first class


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_rate_is_met_exactly_and_order_does_not_matter(rate: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clean, probabilities = rng.integers(0, 4, 50), rng.dirichlet(np.ones(4), 50)
    params, order = semantic.Params(rate=rate), rng.permutation(50)
    noisy = semantic.corrupt(clean, 4, params, rng, probabilities=probabilities)
    assert (noisy != clean).sum() == round(rate * 50)
    moved = semantic.corrupt(clean[order], 4, params, rng, probabilities=probabilities[order])
    assert (moved == noisy[order]).all()


def test_bad_rates_shares_and_labels_are_refused() -> None:
    for fields in ({"rate": 1.5}, {"clean_share": 0.0}, {"clean_share": 1.0}, {"classifier": "svm"}):
        with pytest.raises(ValidationError):
            semantic.Params.model_validate(fields)
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        semantic.corrupt(CLEAN, 2, semantic.Params(), np.random.default_rng(0), probabilities=PROBABILITIES)


def test_no_matrix_is_promised() -> None:
    assert semantic.transition_matrix(3, semantic.Params()) is None
