"""Every noise model: found by its file's name, called in one way, measured without NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisyctl import noise
from noisyctl.errors import DataError, ParamsError
from noisyctl.params import module_spec


def test_kinds_are_the_files_of_the_folder() -> None:
    assert noise.available() == ("file", "matrix", "pairflip", "symmetric")


@pytest.mark.parametrize("kind", noise.available())
def test_every_kind_tells_its_fields_without_an_import_and_has_the_same_functions(kind: str) -> None:
    module = noise.load(kind)
    spec = module_spec(f"noisyctl.noise.{kind}")
    assert [field.name for field in spec.fields] == list(module.Params.model_fields)
    assert all(field.meaning for field in spec.fields)
    assert callable(module.corrupt)
    assert callable(module.transition_matrix)


def test_an_unknown_kind_gets_a_proposal_or_the_list() -> None:
    with pytest.raises(ParamsError, match="did you mean 'symmetric'"):
        noise.load("symetric")
    with pytest.raises(ParamsError, match="file, matrix, pairflip, symmetric"):
        noise.load("qqq")


def test_measure_by_hand() -> None:
    wrong, matrix = noise.measure(np.array([0, 0, 0, 0, 2]), np.array([0, 1, 1, 2, 2]), 4)
    assert wrong.tolist() == [False, True, True, True, False]
    # Class 0: one label of four stays, two become 1, one becomes 2.
    assert matrix[0].tolist() == [0.25, 0.5, 0.25, 0]
    # Classes 1 and 3 have no sample: nothing was seen of them, so zeros and not NaN.
    assert matrix[1].tolist() == matrix[3].tolist() == [0, 0, 0, 0]
    assert matrix[2].tolist() == [0, 0, 1, 0]


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
