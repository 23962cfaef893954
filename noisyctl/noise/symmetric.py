"""Symmetric noise: a label is replaced by one drawn uniformly.

Two conventions share the name. With `include_true_class` the new label is drawn from all classes, so that a rate r makes
r (1 - 1/C) of the labels wrong (DivideMix and its successors); without it, from the others, so that r of them are wrong
(Patrini, Co-teaching, Jo-SRC). Neither is assumed.
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from noisyctl.noise import check_labels, touch_exactly
from noisyctl.params import Params as Base
from noisyctl.params import param


class Params(Base):
    """A block of `noises:` with `kind: symmetric`."""

    rate: float = param(meaning="share of the labels that the noise touches [r]", ge=0, le=1)
    include_true_class: bool = param(meaning="whether a touched label may keep its class")
    draw: Literal["iid", "exact"] = param(
        "iid",
        "iid: each label by itself; exact: round(r n_c) of each class, with the true class int(r n) of all",
        source="iid: Patrini, JoCoR code; exact: RoG, DivideMix code",
    )


def corrupt(
    clean: Int[np.ndarray, " n"],
    num_classes: int,
    params: Params,
    rng: np.random.Generator,
    *,
    sample_ids: Any = None,
) -> Int[np.ndarray, " n"]:
    """Noisy labels."""
    check_labels(clean, num_classes)
    touched = _touched(clean, params, rng)
    if params.include_true_class:
        drawn = rng.integers(num_classes, size=len(clean))
    else:
        drawn = (clean + rng.integers(1, num_classes, size=len(clean))) % num_classes
    return np.where(touched, drawn, clean)


def _touched(
    clean: Int[np.ndarray, " n"], params: Params, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    if params.draw == "iid":
        return rng.random(len(clean)) < params.rate
    if not params.include_true_class:
        return touch_exactly(clean, params.rate, rng)
    touched = np.zeros(len(clean), bool)
    touched[rng.permutation(len(clean))[: int(params.rate * len(clean))]] = True
    return touched


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The promised matrix: P(noisy = j | clean = i)."""
    others = num_classes if params.include_true_class else num_classes - 1
    matrix = np.full((num_classes, num_classes), params.rate / others)
    np.fill_diagonal(matrix, 1 - params.rate * (num_classes - 1) / others)
    return matrix
