"""Symmetric noise: a label is replaced by one drawn uniformly.

Two conventions share the name. With `include_true_class` the new label is drawn from all classes, so that a rate r makes
r (1 - 1/C) of the labels wrong (DivideMix and its successors); without it, from the others, so that r of them are wrong
(Patrini, Co-teaching, Jo-SRC). Neither is assumed.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.noise import check_labels
from noisyctl.params import Params as Base
from noisyctl.params import param


class Params(Base):
    """A block of `noises:` with `kind: symmetric`."""

    rate: float = param(meaning="share of the labels that the noise touches [r]", ge=0, le=1)
    include_true_class: bool = param(meaning="whether a touched label may keep its class")
    draw: Literal["iid", "exact"] = param(
        "iid", "each label by itself, or exactly round(r n) labels", source="ours"
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Noisy labels. `exact` touches round(r n_c) labels of each class without the true class, round(r n) with it."""
    check_labels(clean, num_classes)
    touched = _touched(clean, params, rng)
    if params.include_true_class:
        drawn = rng.integers(num_classes, size=len(clean))
    else:
        drawn = (clean + rng.integers(1, num_classes, size=len(clean))) % num_classes
    return np.where(touched, drawn, clean)


def _touched(clean: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    if params.draw == "iid":
        return rng.random(len(clean)) < params.rate
    touched = np.zeros(len(clean), bool)
    groups = (
        [np.arange(len(clean))]
        if params.include_true_class
        else [np.flatnonzero(clean == c) for c in np.unique(clean)]
    )
    for group in groups:
        touched[rng.permutation(group)[: round(params.rate * len(group))]] = True
    return touched


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The promised matrix: P(noisy = j | clean = i)."""
    others = num_classes if params.include_true_class else num_classes - 1
    matrix = np.full((num_classes, num_classes), params.rate / others)
    np.fill_diagonal(matrix, 1 - params.rate * (num_classes - 1) / others)
    return matrix
