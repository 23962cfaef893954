"""Several opinions and an estimated noise matrix as one posterior: is the given label the true one?

True classes have the probabilities p = softmax(sum_k a_k L_k + b), where L_k are the opinions' log-probabilities, and the
given label is drawn from row z of the matrix T where z is the true class (Patrini et al., "Making Deep Neural Networks
Robust to Label Noise", CVPR 2017, section 3). All of a > 0, b and T maximize the likelihood of the given labels, (pT)_given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

DIAGONAL = 0.9  # of the matrix, at the start
PENALTY = 1e-3  # of |b|^2 + |log a|^2
ITERATIONS = 100


class Combined(NamedTuple):
    """Probabilities of the true class before the given label is looked at [n c], and the noise matrix [true, given]."""

    probabilities: Float64[np.ndarray, "n c"]
    transition: Float64[np.ndarray, "c c"]

    def joint(self, labels: Int[np.ndarray, " n"]) -> Float64[np.ndarray, "n c"]:
        """The posterior of the true class given the label too: p_z T_zg / (pT)_g."""
        joint = self.probabilities * self.transition.T[labels]
        return joint / joint.sum(axis=1, keepdims=True)


def combined(
    opinions: Sequence[Float64[np.ndarray, "n c"]], labels: Int[np.ndarray, " n"], prior: float = 1.0
) -> Combined:
    """Fit the weights, the bias and the noise matrix to the given labels by at most 100 steps of L-BFGS.

    `prior` is the number of pseudo-counts of each row of the matrix, spread over its places.
    """
    stacked = np.stack(opinions)
    k, n, c = stacked.shape
    start = np.full((c, c), (1 - DIAGONAL) / max(c - 1, 1))
    np.fill_diagonal(start, DIAGONAL)
    theta = np.concatenate([np.zeros(k + c), np.log(start).ravel()])
    given = sparse.csr_array((np.ones(n), labels, np.arange(n + 1)), shape=(n, c))
    found = minimize(
        loss_and_gradient,
        theta,
        args=(stacked, labels, given, prior),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS},
    )
    log_a, bias, logits = np.split(found.x, [k, k + c])
    probabilities = softmax(np.tensordot(np.exp(log_a), stacked, axes=1) + bias, axis=1)
    return Combined(probabilities, softmax(logits.reshape(c, c), axis=1))


def loss_and_gradient(
    theta: Float64[np.ndarray, " t"],
    stacked: Float64[np.ndarray, "k n c"],
    labels: Int[np.ndarray, " n"],
    one_hot: sparse.csr_array,
    prior: float,
) -> tuple[float, Float64[np.ndarray, " t"]]:
    """Minus the mean log-likelihood and the penalties, and its gradient."""
    k, n, c = stacked.shape
    log_a, bias, logits = np.split(theta, [k, k + c])
    a = np.exp(log_a)
    p = softmax(np.tensordot(a, stacked, axes=1) + bias, axis=1)
    log_t = log_softmax(logits.reshape(c, c), axis=1)
    t = np.exp(log_t)
    columns = t.T[labels]  # n c: T_zg of every z
    given = np.maximum((p * columns).sum(axis=1), 1e-300)
    pseudo = prior / c / n
    loss = -np.log(given).mean() - pseudo * log_t.sum() + PENALTY * (bias @ bias + log_a @ log_a)
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
