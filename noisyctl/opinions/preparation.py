"""What every opinion starts from: features on a common scale, and folds that keep groups together."""

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy import linalg

from noisyctl.errors import DataError

FOLDS = 5


def normalized(features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Signed square roots of the features, rows of length 1, columns of mean 0, one scale for all: a mean variance of 1.

    The square root takes weight from the few features of an image that are very large. Raises DataError where a value is
    not finite, or where all rows are equal, since nothing can be told from them.
    """
    if not np.isfinite(features).all():
        wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise DataError(
            f"{len(wrong)} of {len(features)} feature rows hold NaN or infinity (rows {wrong[:5].tolist()}); "
            "remake the features"
        )
    rows = np.sqrt(np.abs(features), dtype=np.float32)
    np.copysign(rows, features, out=rows)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance = float(np.mean(np.square(rows, dtype=np.float32), dtype=np.float64))
    if variance < np.finfo(np.float32).eps ** 2:
        raise DataError(f"all {len(rows)} feature rows are equal; remake the features with another encoder")
    rows /= np.float32(np.sqrt(variance))
    return rows


def folds_of(
    labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"], rng: np.random.Generator, folds: int = FOLDS
) -> Int[np.ndarray, " n"]:
    """A fold for every sample: whole groups lie in one fold, and every fold has about the same share of each class.

    The groups are dealt out to the folds in turn, class by class (a group counts for the class of its first sample) and
    within a class in random order. With groups of one sample each these are stratified folds.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((rng.random(len(first)), labels[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[group]


def inverse_root(matrix: Float64[np.ndarray, "m m"]) -> Float64[np.ndarray, "m m"]:
    """V with V V^T = the inverse of a positive definite matrix, from its Cholesky factor."""
    factor = linalg.cholesky(matrix, lower=True)
    found: np.ndarray = linalg.solve_triangular(factor, np.eye(len(matrix)), lower=True)
    return np.ascontiguousarray(found.T)
