"""Noise of any transition matrix: a label is drawn from the row of its class.

The matrix is read from a file: .npy, .csv (numbers only, one line per row) or .json (a list of rows). Row i holds P(noisy
= j | clean = i); its entries are not negative and sum to 1.
"""

import json

import numpy as np
from jaxtyping import Float, Int

from noisyctl.errors import DataError
from noisyctl.noise import check_labels, find_file
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()
TOLERANCE = 1e-6  # by which the sum of a row may differ from 1


class Params(Base):
    """A block of `noises:` with `kind: matrix`."""

    file: str = param(
        meaning="file with the transition matrix (.npy, .csv or .json): one row for each clean class",
        min_length=1,
        path=True,
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The noisy labels, drawn with the matrix in `params.file`."""
    check_labels(clean, num_classes)
    return corrupt_with(clean, transition_matrix(num_classes, params), rng)


def corrupt_with(
    clean: Int[np.ndarray, " n"], matrix: Float[np.ndarray, "c noisy"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Each label drawn from its class's row of `matrix`. A class of probability 0 is never drawn."""
    limits = matrix.cumsum(axis=1)
    limits /= limits[:, -1:]
    drawn, noisy = rng.random(len(clean)), clean.astype(np.int64)
    for c in np.unique(clean):
        noisy[clean == c] = np.searchsorted(limits[c], drawn[clean == c], side="right")
    return noisy


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The matrix in `params.file`. Raises DataError if it does not have `num_classes` rows."""
    matrix = read_matrix(params.file)
    if len(matrix) != num_classes:
        size = len(matrix)
        raise DataError(
            f"{params.file} is {size} x {size}, but the data set has {num_classes} classes; give a row for each class"
        )
    return matrix


def read_matrix(file: str) -> Float[np.ndarray, "c c"]:
    """The transition matrix in a file. Raises DataError if the file is missing or holds no transition matrix."""
    path = find_file(file, (".npy", ".csv", ".json"))
    try:
        if path.suffix.lower() == ".npy":
            matrix = np.load(path, allow_pickle=False).astype(float)
        elif path.suffix.lower() == ".csv":
            matrix = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            matrix = np.asarray(json.loads(path.read_text()), dtype=float)
    except (ValueError, TypeError, EOFError) as error:
        raise DataError(f"{file} holds no matrix of numbers ({error}); write a row for each class") from error
    return _checked(matrix, file)


def _checked(matrix: np.ndarray, file: str) -> Float[np.ndarray, "c c"]:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = " x ".join(map(str, matrix.shape))
        raise DataError(f"{file} is {shape}, not square; give a row and a column for each class")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        row, column = np.argwhere(~(np.isfinite(matrix) & (matrix >= 0)))[0]
        raise DataError(
            f"{file}: row {row}, column {column} is {matrix[row, column]}; give probabilities between 0 and 1"
        )
    off = np.flatnonzero(np.abs(matrix.sum(axis=1) - 1) > TOLERANCE)
    if len(off):
        raise DataError(
            f"{file}: {len(off)} rows do not sum to 1 (row {off[0]}: {matrix[off[0]].sum():.6g}); "
            "row i is P(noisy | clean = i); divide each row by its sum"
        )
    return matrix
