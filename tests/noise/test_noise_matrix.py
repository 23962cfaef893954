"""Noise of a given transition matrix: drawn by its rows, read from files that are checked."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl import noise
from noisyctl.errors import DataError
from noisyctl.noise import matrix

ROWS = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
CLEAN = np.arange(30000) % 3


def write(folder: Path, suffix: str, rows: object = ROWS) -> str:
    path = folder / f"matrix{suffix}"
    if suffix == ".npy":
        np.save(path, np.asarray(rows))
    elif suffix == ".csv":
        np.savetxt(path, np.asarray(rows), delimiter=",")
    else:
        path.write_text(json.dumps(np.asarray(rows).tolist() if isinstance(rows, np.ndarray) else rows))
    return str(path)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".json"])
def test_labels_follow_the_matrix_of_a_file(tmp_path: Path, suffix: str) -> None:
    params = matrix.Params(file=write(tmp_path, suffix))
    np.testing.assert_allclose(matrix.transition_matrix(3, params), ROWS)
    noisy = matrix.corrupt(CLEAN, 3, params, np.random.default_rng(0))
    _, measured = noise.measure(CLEAN, noisy, 3)
    assert np.abs(measured - ROWS).max() < 5 * (0.25 / 10000) ** 0.5
    assert (measured[ROWS == 0] == 0).all()


def test_a_permutation_is_followed_without_chance() -> None:
    noisy = matrix.corrupt_with(np.array([0, 1, 2]), np.eye(3)[[1, 2, 0]], np.random.default_rng(0))
    assert noisy.tolist() == [1, 2, 0]


@settings(max_examples=25, deadline=None)
@given(weights=st.lists(st.integers(0, 3), min_size=9, max_size=9), seed=st.integers(0, 99))
def test_what_has_probability_zero_is_never_drawn(weights: list[int], seed: int) -> None:
    rows = np.array(weights, float).reshape(3, 3) + np.diag([1e-3] * 3)
    rows /= rows.sum(axis=1, keepdims=True)
    noisy = matrix.corrupt_with(CLEAN[:300], rows, np.random.default_rng(seed))
    assert (rows[CLEAN[:300], noisy] > 0).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 3)) / 3, "2 x 3, not square"),
        (np.ones(3) / 3, "3, not square"),
        (np.array([[0.5, 0.4], [0.0, 1.0]]), r"1 rows do not sum to 1 \(row 0: 0.9\)"),
        (np.array([[1.5, -0.5], [0.0, 1.0]]), "row 0, column 1 is -0.5"),
        (np.array([[np.nan, 1.0], [0.0, 1.0]]), "row 0, column 0 is nan"),
    ],
)
def test_matrices_that_are_none_are_refused(tmp_path: Path, rows: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        matrix.read_matrix(write(tmp_path, ".npy", rows))


def test_a_matrix_for_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    params = matrix.Params(file=write(tmp_path, ".csv"))
    with pytest.raises(DataError, match="3 x 3, but the data set has 10 classes"):
        matrix.corrupt(CLEAN, 10, params, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"a,b\n1,0\n", "no matrix of numbers"),
        ("m.csv", b"1,0\n1\n", "no matrix of numbers"),
        ("m.json", b"[[1, 0], [1]]", "no matrix of numbers"),
        ("m.json", b"{", "no matrix of numbers"),
        ("m.json", b'{"rows": 3}', "no matrix of numbers"),
        ("m.npy", b"garbage", "no matrix of numbers"),
        ("m.npy", b"", "no matrix of numbers"),
        ("m.txt", b"1 0", r"is not a \.npy, \.csv or \.json file"),
    ],
)
def test_files_that_hold_no_matrix_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        matrix.read_matrix(str(tmp_path / name))


def test_a_missing_file_and_pickled_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        matrix.read_matrix(str(tmp_path / "no.npy"))
    np.save(tmp_path / "pickle.npy", np.array([{}], object))
    with pytest.raises(DataError, match="allow_pickle"):
        matrix.read_matrix(str(tmp_path / "pickle.npy"))
