"""Pair flip: class c is mistaken for class c + 1, and the last class for the first.

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.noise import check_labels, touch
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()


class Params(Base):
    """A block of `noises:` with `kind: pairflip`."""

    rate: float = param(meaning="share of the labels that are flipped [r]", ge=0, le=1)
    draw: Literal["iid", "exact", "exact_total"] = param(
        "iid",
        "how labels are chosen; iid: each independently; exact: round(r n_c) of each class; exact_total: "
        "int(r n) of all",
        source="Co-teaching code",
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The noisy labels."""
    check_labels(clean, num_classes)
    return np.where(touch(clean, params.rate, params.draw, rng), (clean + 1) % num_classes, clean)


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The nominal matrix: P(noisy = j | clean = i)."""
    eye = np.eye(num_classes)
    return (1 - params.rate) * eye + params.rate * np.roll(eye, 1, axis=1)
