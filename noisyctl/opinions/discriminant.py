"""Linear discriminant analysis of the given labels, fitted to the other folds than the sample's own.

The covariance within classes is shrunk towards a multiple of the identity, (1 - a) S + a tr(S)/d I (Ledoit and Wolf 2004,
Friedman 1989). scikit-learn's LinearDiscriminantAnalysis has this shrinkage, but takes no weights of samples, which the
second pass needs, and would decompose the covariance anew for each `a`; here one decomposition a fold serves all.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy import linalg

from noisyctl.opinions.preparation import inverse_root

SHRINKAGES = (0.03, 0.1, 0.3, 0.6, 0.8, 0.95)
BLOCK = 8192  # rows at a time


def left_out_scores(
    rows: Float32[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    weights: Float[np.ndarray, " n"],
    folds: Int[np.ndarray, " n"],
    shrinkages: Sequence[float] = SHRINKAGES,
) -> Float64[np.ndarray, "l n c"]:
    """For each shrinkage the log-posteriors (up to a constant of the sample) by the analysis of the other folds.

    A class without a sample in the other folds has the overall mean and half a sample's share.
    """
    n, d = rows.shape
    if n < d:  # the same products of rows in as many dimensions as there are rows
        rows = np.ascontiguousarray(linalg.qr(rows.T, mode="r")[0][:n].T)
    numbers = range(int(folds.max()) + 1)
    parts = [_moments(rows, labels, num_classes, weights, folds == fold) for fold in numbers]
    scores = np.empty((len(shrinkages), len(rows), num_classes))
    for fold in numbers:
        others = [part for number, part in enumerate(parts) if number != fold]
        second, sums, totals = (sum(values) for values in zip(*others, strict=True))
        inside = np.flatnonzero(folds == fold)
        scores[:, inside] = _fitted(second, sums, totals, rows[inside], shrinkages, d)
    return scores


Moments = tuple[Float64[np.ndarray, "d d"], Float64[np.ndarray, "c d"], Float64[np.ndarray, " c"]]


def _moments(
    rows: Float32[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    weights: Float[np.ndarray, " n"],
    inside: np.ndarray,
) -> Moments:
    """Weighted second moments, sums of each class, and weights of each class."""
    chosen = np.flatnonzero(inside)
    second, sums = np.zeros((rows.shape[1],) * 2), np.zeros((num_classes, rows.shape[1]))
    for start in range(0, len(chosen), BLOCK):
        index = chosen[start : start + BLOCK]
        weighted = rows[index] * weights[index, None].astype(np.float32)
        second += weighted.T @ rows[index]
        one_hot = np.zeros((len(index), num_classes), np.float32)
        one_hot[np.arange(len(index)), labels[index]] = 1
        sums += one_hot.T @ weighted
    totals = np.bincount(labels[chosen], weights[chosen], num_classes)
    return second, sums, totals.astype(np.float64)  # of a fold without samples numpy counts in whole numbers


def _fitted(
    second: Float64[np.ndarray, "d d"],
    sums: Float64[np.ndarray, "c d"],
    totals: Float64[np.ndarray, " c"],
    rows: Float32[np.ndarray, "n d"],
    shrinkages: Sequence[float],
    d: int,
) -> list[Float64[np.ndarray, "n c"]]:
    """The scores of these rows by the analysis with these moments, of d features, for each shrinkage."""
    total = float(totals.sum())
    means = np.where(
        totals[:, None] > 0, sums / np.maximum(totals, 1e-12)[:, None], sums.sum(axis=0) / max(total, 1e-12)
    )
    within = (second - (means * totals[:, None]).T @ means) / max(total, 1e-12)
    within = (within + within.T) / 2
    mean_variance = max(float(np.trace(within)) / d, 1e-12)
    if len(shrinkages) == 1:  # a Cholesky factor is faster than eigenvectors
        within *= 1 - shrinkages[0]
        within[np.diag_indices(len(within))] += shrinkages[0] * mean_variance
        vectors, inverses = inverse_root(within), [np.ones(len(within))]
    else:
        eigenvalues, vectors = linalg.eigh(within, driver="evd")
        eigenvalues = np.maximum(eigenvalues, 0)
        inverses = [1 / ((1 - a) * eigenvalues + a * mean_variance) for a in shrinkages]
    log_share = np.log((totals + 0.5) / (total + 0.5 * len(totals)))
    projected, centers = (rows @ vectors.astype(np.float32)).astype(np.float64), means @ vectors
    scores = []
    for inverse in inverses:
        scaled = centers * inverse
        scores.append(projected @ scaled.T - (scaled * centers).sum(axis=1) / 2 + log_share)
    return scores
