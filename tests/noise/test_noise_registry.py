"""Every noise model: found by its file's name, called in one way, measured without NaN."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl import noise
from noisyctl.errors import DataError, ParamsError
from noisyctl.params import module_spec

KINDS = (
    "asymmetric",
    "cifar_n",
    "file",
    "instance_dependent",
    "matrix",
    "open_set",
    "pairflip",
    "semantic",
    "symmetric",
)
CIFAR10, CIFAR100 = np.repeat(np.arange(10), 5000), np.repeat(np.arange(100), 500)
# Every model that promises a matrix, with the labels it is drawn on; DESIGN's conventions, all ways to draw.
DRAWS = [{"draw": d} for d in ("iid", "exact", "exact_total")]
PROMISES = [
    *[
        ("symmetric", CIFAR10, {"rate": 0.5, "include_true_class": i, **d})
        for i in (True, False)
        for d in DRAWS
    ],
    *[("pairflip", CIFAR10, {"rate": 0.45, **d}) for d in DRAWS],
    *[("asymmetric", CIFAR10, {"rate": 0.4, "map": m, **d}) for m in ("cifar10", "mnist") for d in DRAWS],
    ("asymmetric", CIFAR100, {"rate": 0.3, "map": "cifar100_superclass"}),
    ("asymmetric", CIFAR10, {"rate": 0.3, "map": "custom", "pairs": {0: 9}}),
    ("open_set", CIFAR100, {"rate": 0.5}),
    ("open_set", CIFAR10, {"rate": 0.4, "num_unknown": 3, "closed": "pairflip"}),
]


def test_kinds_are_the_files_of_the_folder() -> None:
    assert noise.available() == KINDS


@pytest.mark.parametrize("kind", noise.available())
def test_every_kind_tells_its_fields_without_an_import_and_has_the_same_functions(kind: str) -> None:
    module = noise.load(kind)
    spec = module_spec(f"noisyctl.noise.{kind}")
    assert [field.name for field in spec.fields] == list(module.Params.model_fields)
    assert all(field.meaning for field in spec.fields)
    assert callable(module.transition_matrix)
    # corrupt takes exactly the keyword arguments that NEEDS names, all of them known to the stage.
    parameters = inspect.signature(module.corrupt).parameters
    keywords = tuple(n for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY)
    assert keywords == module.NEEDS
    assert set(module.NEEDS) <= {"sample_ids", "sample_paths", "images", "probabilities"}
    assert list(parameters)[:4] == ["clean", "num_classes", "params", "rng"]


@pytest.mark.parametrize(("kind", "clean", "fields"), PROMISES)
def test_what_is_measured_is_what_was_promised(kind: str, clean: np.ndarray, fields: dict[str, Any]) -> None:
    model, classes = noise.load(kind), int(clean.max()) + 1
    params = model.Params(**fields)
    once, again, other = (
        model.corrupt(clean, classes, params, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert (once == again).all()
    assert (once != other).any()
    promised = model.transition_matrix(classes, params)
    np.testing.assert_allclose(promised.sum(axis=1), 1)
    known = noise.num_noisy_classes(model, classes, params)
    assert promised.shape == (classes, known)
    wrong, measured = noise.measure(clean, once, classes, known)
    # Each entry is a mean over the samples of its class: within five deviations, and what is promised 0 is 0.
    deviation = np.sqrt(promised * (1 - promised) / (len(clean) / classes))
    assert (np.abs(measured - promised) <= 5 * deviation + 1e-12).all()
    right = promised[np.arange(known), np.arange(known)].sum() / classes
    assert abs(wrong.mean() - (1 - right)) < 5 * (right * (1 - right) / len(clean)) ** 0.5


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5), rate=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_draws_touch_as_many_as_they_say(sizes: list[int], rate: float, seed: int) -> None:
    clean, rng = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(seed)
    exact = noise.touch(clean, rate, "exact", rng)
    assert [exact[clean == c].sum() for c in range(len(sizes))] == [round(rate * size) for size in sizes]
    assert noise.touch(clean, rate, "exact_total", rng).sum() == int(rate * len(clean))
    assert noise.touch(clean, 1.0, "iid", rng).all()
    assert not noise.touch(clean, 0.0, "iid", rng).any()


def test_exact_draws_are_not_always_the_same_samples() -> None:
    # Over 200 seeds each of 10 samples is touched about 100 times.
    clean = np.repeat([0, 1], 5)
    for draw in ("exact", "exact_total"):
        counts = sum(noise.touch(clean, 0.4, draw, np.random.default_rng(s)).astype(int) for s in range(200))
        assert counts.sum() == 200 * 4
        assert (np.abs(counts - 80) < 5 * (200 * 0.4 * 0.6) ** 0.5).all()


def test_an_unknown_kind_gets_a_proposal_or_the_list() -> None:
    with pytest.raises(ParamsError, match="did you mean 'symmetric'"):
        noise.load("symetric")
    with pytest.raises(ParamsError, match=", ".join(KINDS)):
        noise.load("qqq")


def test_measure_by_hand() -> None:
    wrong, matrix = noise.measure(np.array([0, 0, 0, 0, 2]), np.array([0, 1, 1, 2, 2]), 4)
    assert wrong.tolist() == [False, True, True, True, False]
    # Class 0: one label of four stays, two become 1, one becomes 2.
    assert matrix[0].tolist() == [0.25, 0.5, 0.25, 0]
    # Classes 1 and 3 have no sample: nothing was seen of them, so zeros and not NaN.
    assert matrix[1].tolist() == matrix[3].tolist() == [0, 0, 0, 0]
    assert matrix[2].tolist() == [0, 0, 1, 0]


def test_measure_of_fewer_noisy_classes_by_hand() -> None:
    # Class 2 has no label of its own: all its samples are wrong.
    wrong, matrix = noise.measure(np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1]), 3, 2)
    assert wrong.tolist() == [False, True, True, True]
    assert matrix.tolist() == [[1, 0], [1, 0], [0.5, 0.5]]


def test_measure_of_no_samples_is_all_zero() -> None:
    none = np.zeros(0, np.int64)
    wrong, matrix = noise.measure(none, none, 2)
    assert len(wrong) == 0
    assert not matrix.any()


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_measured_rows_are_distributions_or_empty(pairs: list[tuple[int, int]]) -> None:
    clean, noisy = np.array([c for c, _ in pairs], np.int64), np.array([n for _, n in pairs], np.int64)
    _, matrix = noise.measure(clean, noisy, 5)
    np.testing.assert_allclose(matrix.sum(axis=1), np.isin(np.arange(5), clean).astype(float))


def test_labels_outside_the_classes_and_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 labels lie outside 0\.\.4 \(first at sample 1: 5\)"):
        noise.check_labels(np.array([0, 5, -1]), 5)
    with pytest.raises(DataError, match="at least two classes, not 1"):
        noise.check_labels(np.array([0, 0]), 1)
