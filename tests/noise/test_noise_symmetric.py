"""Symmetric noise: the rates that both conventions promise, exact draws, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from noisyctl.errors import DataError
from noisyctl.noise import symmetric

CLEAN = np.arange(50000) % 10


def corrupt(clean: np.ndarray, classes: int, seed: int = 0, **fields: object) -> np.ndarray:
    params = symmetric.Params.model_validate(fields)
    return symmetric.corrupt(clean, classes, params, np.random.default_rng(seed))


@pytest.mark.parametrize("draw", ["iid", "exact", "exact_total"])
@pytest.mark.parametrize(
    ("classes", "rate", "include", "wrong"),
    [
        # DivideMix, ScanMix: r (1 - 1/C) are wrong
        (10, 0.2, True, 0.18),
        (10, 0.5, True, 0.45),
        (10, 0.8, True, 0.72),
        (10, 0.9, True, 0.81),
        (100, 0.2, True, 0.198),
        (100, 0.5, True, 0.495),
        (100, 0.8, True, 0.792),
        (100, 0.9, True, 0.891),
        # Patrini, Co-teaching, Jo-SRC: r are wrong
        (10, 0.2, False, 0.2),
        (10, 0.8, False, 0.8),
        (100, 0.5, False, 0.5),
    ],
)
def test_measured_rate_is_the_convention_s(
    classes: int, rate: float, include: bool, wrong: float, draw: str
) -> None:
    clean = np.repeat(np.arange(classes), 50000 // classes)
    noisy = corrupt(clean, classes, rate=rate, include_true_class=include, draw=draw)
    measured = (noisy != clean).mean()
    if draw == "iid" or include:
        assert abs(measured - wrong) < 5 * (wrong * (1 - wrong) / len(clean)) ** 0.5
    else:  # RoG, Active-Passive: exactly
        assert measured == wrong


def test_scanmix_s_label_files_are_within_the_promise() -> None:
    # Their measured rates are draws of the first convention: .2, .5, .8, .9 of 50,000 labels touched exactly.
    for rate, theirs in ((0.2, 0.18006), (0.5, 0.45054), (0.8, 0.72094), (0.9, 0.80998)):
        promised = (
            1 - symmetric.transition_matrix(10, symmetric.Params(rate=rate, include_true_class=True))[0, 0]
        )
        assert abs(theirs - promised) < 5 * (rate * 0.1 * 0.9 / 50000) ** 0.5


def test_matrices_by_hand() -> None:
    # Half of the labels are touched; with the true class, a third of those keep it: 1 - 1/2 + 1/6.
    with_true = symmetric.transition_matrix(3, symmetric.Params(rate=0.5, include_true_class=True))
    np.testing.assert_allclose(with_true[0], [2 / 3, 1 / 6, 1 / 6])
    # Without it, all of them change, to either of two classes.
    without = symmetric.transition_matrix(3, symmetric.Params(rate=0.5, include_true_class=False))
    np.testing.assert_allclose(without[1], [1 / 4, 1 / 2, 1 / 4])


@settings(deadline=None)
@given(rate=st.floats(0, 1), include=st.booleans(), classes=st.integers(2, 12))
def test_promised_matrices_are_stochastic(rate: float, include: bool, classes: int) -> None:
    params = symmetric.Params(rate=rate, include_true_class=include)
    matrix = symmetric.transition_matrix(classes, params)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix >= -1e-15).all()


@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0, 1), sizes=st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_exact_without_the_true_class_is_exact_in_every_class(rate: float, sizes: list[int]) -> None:
    clean = np.repeat(np.arange(len(sizes)), sizes)
    noisy = corrupt(clean, len(sizes), rate=rate, include_true_class=False, draw="exact")
    for c, size in enumerate(sizes):
        assert (noisy[clean == c] != c).sum() == round(rate * size)


def test_exact_total_with_the_true_class_touches_int_of_r_n() -> None:
    # With very many classes a touched label all but never keeps its class, so that touched and wrong are the same.
    clean = np.zeros(999, np.int64)
    noisy = corrupt(clean, 10**12, rate=0.5, include_true_class=True, draw="exact_total")
    assert (noisy != clean).sum() == 499


@pytest.mark.parametrize("draw", ["iid", "exact", "exact_total"])
@pytest.mark.parametrize("include", [True, False])
def test_rate_0_changes_nothing_and_seeds_decide(include: bool, draw: str) -> None:
    same = {"include_true_class": include, "draw": draw}
    assert (corrupt(CLEAN, 10, rate=0.0, **same) == CLEAN).all()
    once, again, other = (corrupt(CLEAN, 10, seed, rate=0.5, **same) for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()
    assert once.dtype == np.int64


def test_rate_1_without_the_true_class_leaves_no_label_right() -> None:
    assert (corrupt(CLEAN, 10, rate=1.0, include_true_class=False) != CLEAN).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_rate_outside_0_1_is_refused(rate: float) -> None:
    with pytest.raises(ValidationError, match="rate"):
        symmetric.Params(rate=rate, include_true_class=True)


def test_the_convention_must_be_said() -> None:
    with pytest.raises(ValidationError, match="include_true_class"):
        symmetric.Params(rate=0.5)  # type: ignore[call-arg]


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"outside 0\.\.4"):
        corrupt(CLEAN, 5, rate=0.1, include_true_class=True)
    with pytest.raises(DataError, match="two classes"):
        corrupt(CLEAN * 0, 1, rate=0.1, include_true_class=False)
