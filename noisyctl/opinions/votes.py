"""The vote of the nearest neighbors, none of which is of the sample's own group."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

NEIGHBORS = (10, 20, 50, 100)
TEMPERATURE = 0.05  # of the weights exp(similarity / temperature)
PRIOR = 2.0  # votes that are spread over all classes


def votes(
    indices: Int[np.ndarray, "q k"],
    similarity: Float[np.ndarray, "q k"],
    allowed: Bool[np.ndarray, "q k"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    weights: Float[np.ndarray, " n"],
    k: int,
) -> Float64[np.ndarray, "q c"]:
    """Shares of the classes among the k nearest neighbors of each query that are allowed, mixed with PRIOR equal votes.

    A neighbor's vote is exp((similarity - the nearest's) / TEMPERATURE) times its weight. A sample without an allowed
    neighbor has equal shares.
    """
    n = len(indices)
    counted = allowed & (np.cumsum(allowed, axis=1) <= k)
    nearest = np.where(allowed, similarity, -np.inf).max(axis=1, keepdims=True)
    gap = np.where(counted, similarity - np.where(np.isfinite(nearest), nearest, 0), -np.inf)
    share = np.exp(gap / TEMPERATURE) * weights[indices]
    place = np.arange(n)[:, None] * num_classes + labels[indices]
    summed = np.bincount(place.ravel(), share.ravel(), n * num_classes).reshape(n, num_classes)
    total = summed.sum(axis=1, keepdims=True)
    shares = np.divide(summed, total, out=np.full_like(summed, 1 / num_classes), where=total > 0)
    return (k * shares + PRIOR / num_classes) / (k + PRIOR)
