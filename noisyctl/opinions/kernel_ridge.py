"""Kernel ridge regression to the given labels, each judged by the regression without it.

The Gaussian kernel exp(-|a - b|^2 / 2d) of d features is approximated from at most 2,000 rows (Williams and Seeger, "Using
the Nystroem Method to Speed Up Kernel Machines", NIPS 2000), which gives every sample m new features. The prediction for a
sample by the ridge regression that leaves it out follows exactly from the one that does not (Hastie et al., "The Elements of
Statistical Learning", section 7.10); for a group of samples that are left out together it takes one small linear system.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy import linalg

from noisyctl.opinions.preparation import inverse_root

LANDMARKS = 2000
PENALTIES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)  # times the number of samples
BLOCK = 4096  # rows at a time
JITTER = 1e-6  # of the kernel's diagonal, which is 1


def kernel_features(
    rows: Float32[np.ndarray, "n d"], rng: np.random.Generator, landmarks: int = LANDMARKS
) -> Float32[np.ndarray, "n m"]:
    """Features whose products are the kernel, exactly among the landmarks, which are drawn from the rows."""
    n, d = rows.shape
    chosen = np.arange(n) if n <= landmarks else np.sort(rng.choice(n, landmarks, replace=False))
    centers = rows[chosen]
    among = _kernel(centers, centers, d).astype(np.float64)
    among[np.diag_indices(len(among))] += JITTER
    root = inverse_root(among).astype(np.float32)
    out = np.empty((n, len(chosen)), np.float32)
    for part in _blocks(n):
        out[part] = _kernel(rows[part], centers, d) @ root
    return out


def left_out_scores(
    features: Float32[np.ndarray, "n m"],
    targets: Float[np.ndarray, "n c"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    penalties: Sequence[float] = PENALTIES,
) -> Float64[np.ndarray, "l n c"]:
    """For each penalty the scores of every sample, by the weighted ridge regression without the samples of its group.

    `penalties` are multiplied by the sum of the weights. One decomposition serves all of them.
    """
    weights = weights.astype(np.float32)
    total = float(weights.sum(dtype=np.float64))
    vectors, shrinkage, projected = _decomposed(features, targets, weights, [p * total for p in penalties])
    n, c = targets.shape
    fitted, leverage = np.empty((len(penalties), n, c)), np.empty((n, len(penalties)))
    coefficients = (shrinkage.T[:, :, None] * projected).transpose(1, 0, 2).reshape(len(vectors), -1)
    coefficients32, shrinkage32 = coefficients.astype(np.float32), shrinkage.astype(np.float32)
    for part in _blocks(n):
        rotated = features[part] @ vectors
        fitted[:, part] = (rotated @ coefficients32).reshape(len(rotated), -1, c).transpose(1, 0, 2)
        leverage[part] = (rotated**2 @ shrinkage32) * weights[part, None]
    leverage = np.minimum(leverage, 1 - 1e-6).T[:, :, None]
    scores = (fitted - leverage * targets) / (1 - leverage)
    for members in _groups_of_many(groups):
        if (
            members.shape[1] > len(vectors) // 2
        ):  # a system of the features is smaller than one of the samples
            own = members[0]
            rotated = features[own] @ vectors
            scores[:, own] = _refitted(rotated, targets[own], weights[own], shrinkage, projected)
            continue
        rotated = (features[members.ravel()] @ vectors).reshape(*members.shape, -1).astype(np.float64)
        for number, shrink in enumerate(shrinkage.T):
            hat = np.einsum("gim,gjm->gij", rotated * shrink, rotated) * weights[members][:, None, :]
            own = hat @ targets[members]
            system = (1 + 1e-6) * np.eye(members.shape[1]) - hat
            scores[number, members] = np.linalg.solve(system, fitted[number, members] - own)
    return scores


def _refitted(
    rotated: Float32[np.ndarray, "g m"],
    targets: Float[np.ndarray, "g c"],
    weights: Float32[np.ndarray, " g"],
    shrinkage: Float64[np.ndarray, "m l"],
    projected: Float64[np.ndarray, "m c"],
) -> Float64[np.ndarray, "l g c"]:
    """The scores of a large group by regressions that are solved without it."""
    weighted = (rotated * weights[:, None]).astype(np.float64)
    moments, towards = weighted.T @ rotated, projected - weighted.T @ targets
    solved = [linalg.solve(np.diag(1 / shrink) - moments, towards, assume_a="pos") for shrink in shrinkage.T]
    return np.stack([rotated @ coefficients for coefficients in solved])


def _kernel(
    rows: Float32[np.ndarray, "n d"], centers: Float32[np.ndarray, "m d"], d: int
) -> Float32[np.ndarray, "n m"]:
    squares = np.einsum("nd,nd->n", rows, rows)[:, None] + np.einsum("md,md->m", centers, centers)
    squares -= 2 * (rows @ centers.T)
    return np.exp(np.maximum(squares, 0) / np.float32(-2 * d))


def _decomposed(
    features: Float32[np.ndarray, "n m"],
    targets: Float[np.ndarray, "n c"],
    weights: Float32[np.ndarray, " n"],
    penalties: Sequence[float],
) -> tuple[Float32[np.ndarray, "m m"], Float64[np.ndarray, "m l"], Float64[np.ndarray, "m c"]]:
    """A basis V in which the inverse of (weighted second moments + penalty) is diagonal, this diagonal for each penalty,
    and the targets' moments in this basis.

    One penalty takes a Cholesky factor, which is faster; several share the eigenvectors.
    """
    m = features.shape[1]
    moments, towards = np.zeros((m, m)), np.zeros((m, targets.shape[1]))
    for part in _blocks(len(features)):
        weighted = features[part] * weights[part, None]
        moments += weighted.T @ features[part]
        towards += weighted.T @ targets[part].astype(np.float32)
    moments = (moments + moments.T) / 2
    if len(penalties) == 1:
        moments[np.diag_indices(m)] += penalties[0]
        vectors = inverse_root(moments)
        shrinkage = np.ones((m, 1))
    else:
        eigenvalues, vectors = linalg.eigh(moments, driver="evd")
        shrinkage = 1 / (np.maximum(eigenvalues, 0)[:, None] + np.array(penalties))
    return vectors.astype(np.float32), shrinkage, vectors.T @ towards


def _groups_of_many(groups: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, "g size"]]:
    """The members of the groups of two samples and more, those of equal size together, in parts of bounded size."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 1]):
        begins = starts[sizes == size]
        step = max(1, BLOCK // int(size) ** 2 * 16)
        for at in range(0, len(begins), step):
            yield order[begins[at : at + step, None] + np.arange(size)]


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))
