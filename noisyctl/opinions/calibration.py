"""Scores of an opinion as probabilities: one temperature, chosen by the likelihood of the given labels."""

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

COLDEST, HOTTEST = 1e-4, 1e3


def tempered(
    scores: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "n c"], float]:
    """Log-probabilities log_softmax(scores / t), and the mean log-likelihood of the labels, largest over t.

    The scores must be out of sample: of models that did not learn the sample's own label (Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, section 4.2, with given labels instead of true ones).
    """
    scores = scores.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[rows, labels].mean())

    spread = float(scores.std()) or 1.0
    bounds = (np.log(COLDEST * spread), np.log(HOTTEST * spread))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return log_softmax(scores / np.exp(found.x), axis=1), -float(found.fun)
