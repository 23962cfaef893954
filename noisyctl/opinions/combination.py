"""Several opinions and an estimated noise matrix as one posterior: is the given label the true one?

True classes have the probabilities p = softmax(sum_k a_k L_k + b), where L_k are the opinions' log-probabilities, and the
given label is drawn from row z of the matrix T where z is the true class (Patrini et al., "Making Deep Neural Networks
Robust to Label Noise", CVPR 2017, section 3). All of a > 0, b and T maximize the likelihood of the given labels, (pT)_given.

T has c^2 values. Where there are few labels for each of them, as with 100 classes, a prior draws its rows toward one that is
the same for all classes: right with some probability, and else any other class. Which prior is chosen by the likelihood of
labels that the fit has not seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

DIAGONAL = 0.9  # of the matrix, at the start
FEW = 5  # labels for each value of the matrix, below which a prior is chosen
MOST = 10_000  # labels by which it is chosen
DIAGONALS = (0.9, 0.8, 0.7, 0.6)
STRENGTHS = (0.3, 0.1, 1.0)  # pseudo-counts of a row for each class, the first for all diagonals
PENALTY = 1e-3  # of |b|^2 + |log a|^2
ITERATIONS = 100


class Prior(NamedTuple):
    """Pseudo-counts of each row of the noise matrix: so many, of which the share `diagonal` says that the label is right.

    Without a diagonal they are spread over all classes alike.
    """

    strength: float = 1.0
    diagonal: float | None = None

    def for_part(self, share: float) -> "Prior":
        """The prior for a fit to this share of the labels. The weak one without a diagonal stays as it is."""
        return self if self.diagonal is None else self._replace(strength=share * self.strength)

    def counts(self, classes: int) -> Float64[np.ndarray, "c c"]:
        """The pseudo-counts of every true and given class."""
        if self.diagonal is None:
            return np.full((classes, classes), self.strength / classes)
        found = np.full((classes, classes), self.strength * (1 - self.diagonal) / max(classes - 1, 1))
        np.fill_diagonal(found, self.strength * self.diagonal)
        return found


class Combined(NamedTuple):
    """Probabilities of the true class before the given label is looked at [n c], and the noise matrix [true, given]."""

    probabilities: Float64[np.ndarray, "n c"]
    transition: Float64[np.ndarray, "c c"]

    def joint(self, labels: Int[np.ndarray, " n"]) -> Float64[np.ndarray, "n c"]:
        """The posterior of the true class given the label too: p_z T_zg / (pT)_g."""
        joint = self.probabilities * self.transition.T[labels]
        return joint / joint.sum(axis=1, keepdims=True)


def combined(
    opinions: Sequence[Float64[np.ndarray, "n c"]], labels: Int[np.ndarray, " n"], prior: Prior = Prior()
) -> Combined:
    """Fit the weights, the bias and the noise matrix to the given labels by at most 100 steps of L-BFGS."""
    theta, k = _fitted(opinions, labels, prior), len(opinions)
    return Combined(*_applied(theta, np.stack(opinions), k))


def chosen_prior(
    opinions: Sequence[Float64[np.ndarray, "n c"]], labels: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Prior:
    """The prior under which labels that were not fitted to are likeliest; the weakest one where labels are many.

    Each half of the labels, of at most 10,000 drawn ones, is predicted from a fit to the other half.
    """
    n, c = opinions[0].shape
    if n >= FEW * c * c:
        return Prior()
    drawn = rng.permutation(n)[:MOST]
    halves = [np.sort(drawn[::2]), np.sort(drawn[1::2])]

    def likelihood(prior: Prior) -> float:
        of_half, found = prior.for_part(len(halves[0]) / n), 0.0
        for fit, rest in (halves, halves[::-1]):
            theta = _fitted([each[fit] for each in opinions], labels[fit], of_half)
            p, t = _applied(theta, np.stack([each[rest] for each in opinions]), len(opinions))
            given = (p * t.T[labels[rest]]).sum(axis=1)
            found += float(np.log(np.maximum(given, 1e-300)).sum())
        return found

    first, *others = STRENGTHS
    tried = {prior: likelihood(prior) for prior in (Prior(), *(Prior(first * c, d) for d in DIAGONALS))}
    best = max(tried, key=lambda prior: tried[prior])
    if best.diagonal is not None:
        tried |= {prior: likelihood(prior) for prior in (Prior(s * c, best.diagonal) for s in others)}
    return max(tried, key=lambda prior: tried[prior])


def _fitted(
    opinions: Sequence[Float64[np.ndarray, "n c"]], labels: Int[np.ndarray, " n"], prior: Prior
) -> Float64[np.ndarray, " t"]:
    """The logarithms of the weights, the bias, and the logits of the matrix."""
    stacked = np.stack(opinions)
    k, n, c = stacked.shape
    start = np.full((c, c), (1 - DIAGONAL) / max(c - 1, 1))
    np.fill_diagonal(start, DIAGONAL)
    theta = np.concatenate([np.zeros(k + c), np.log(start).ravel()])
    given = sparse.csr_array((np.ones(n), labels, np.arange(n + 1)), shape=(n, c))
    found = minimize(
        loss_and_gradient,
        theta,
        args=(stacked, labels, given, prior.counts(c)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS},
    )
    return np.asarray(found.x)


def _applied(
    theta: Float64[np.ndarray, " t"], stacked: Float64[np.ndarray, "k n c"], k: int
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "c c"]]:
    """The probabilities of the true class, and the noise matrix."""
    c = stacked.shape[2]
    log_a, bias, logits = np.split(theta, [k, k + c])
    probabilities = softmax(np.tensordot(np.exp(log_a), stacked, axes=1) + bias, axis=1)
    return probabilities, softmax(logits.reshape(c, c), axis=1)


def loss_and_gradient(
    theta: Float64[np.ndarray, " t"],
    stacked: Float64[np.ndarray, "k n c"],
    labels: Int[np.ndarray, " n"],
    one_hot: sparse.csr_array,
    counts: Float64[np.ndarray, "c c"],
) -> tuple[float, Float64[np.ndarray, " t"]]:
    """Minus the mean log-likelihood, with `counts` pseudo-counts of the matrix, and the penalties; and its gradient."""
    k, n, c = stacked.shape
    log_a, bias, logits = np.split(theta, [k, k + c])
    a = np.exp(log_a)
    p = softmax(np.tensordot(a, stacked, axes=1) + bias, axis=1)
    log_t = log_softmax(logits.reshape(c, c), axis=1)
    t = np.exp(log_t)
    columns = t.T[labels]  # n c: T_zg of every z
    given = np.maximum((p * columns).sum(axis=1), 1e-300)
    pseudo = counts / n
    loss = -np.log(given).mean() - (pseudo * log_t).sum() + PENALTY * (bias @ bias + log_a @ log_a)
    d_given = -1 / (n * given)
    d_p = columns * d_given[:, None]
    d_logits = p * (d_p - (p * d_p).sum(axis=1, keepdims=True))
    d_log_t = (one_hot.T @ (p * d_given[:, None])).T * t - pseudo
    d_rows = d_log_t - t * d_log_t.sum(axis=1, keepdims=True)
    d_a = np.tensordot(stacked, d_logits, axes=([1, 2], [0, 1]))
    gradient = np.concatenate(
        [a * d_a + 2 * PENALTY * log_a, d_logits.sum(axis=0) + 2 * PENALTY * bias, d_rows.ravel()]
    )
    return float(loss), gradient
