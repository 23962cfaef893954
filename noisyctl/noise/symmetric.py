"""Symmetric noise: a label is replaced by one drawn uniformly.

Two conventions share this name. With `include_true_class` the new label is drawn from all classes, so a rate r makes r (1
- 1/C) of the labels wrong (DivideMix, ScanMix, MixNN, ELR, PENCIL). Without it, the new label is drawn from the other
classes, so r of the labels are wrong (Patrini, Co-teaching, JoCoR, Jo-SRC, RoG). Neither is the default.

`draw`: DivideMix uses exact_total, RoG exact, and the Co-teaching family and PENCIL iid.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.noise import check_labels, touch
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()


class Params(Base):
    """A block of `noises:` with `kind: symmetric`."""

    rate: float = param(meaning="share of the labels that the noise touches [r]", ge=0, le=1)
    include_true_class: bool = param(meaning="whether a new label may be the true class again")
    draw: Literal["iid", "exact", "exact_total"] = param(
        "iid",
        "how labels are chosen; iid: each independently; exact: round(r n_c) of each class; exact_total: "
        "int(r n) of all",
        source="iid: Patrini, JoCoR code; exact: RoG; exact_total: DivideMix, ELR code",
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The noisy labels."""
    check_labels(clean, num_classes)
    touched = touch(clean, params.rate, params.draw, rng)
    if params.include_true_class:
        drawn = rng.integers(num_classes, size=len(clean))
    else:
        drawn = (clean + rng.integers(1, num_classes, size=len(clean))) % num_classes
    return np.where(touched, drawn, clean)


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The nominal matrix: P(noisy = j | clean = i)."""
    others = num_classes if params.include_true_class else num_classes - 1
    matrix = np.full((num_classes, num_classes), params.rate / others)
    np.fill_diagonal(matrix, 1 - params.rate * (num_classes - 1) / others)
    return matrix
