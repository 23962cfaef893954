"""Pair flip: class c becomes c + 1, the last becomes the first (Han et al. 2018)."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.noise import check_labels
from noisyctl.params import Params as Base
from noisyctl.params import param


class Params(Base):
    """A block of `noises:` with `kind: pairflip`."""

    rate: float = param(meaning="share of the labels that flip [r]", ge=0, le=1)
    draw: Literal["iid", "exact"] = param(
        "iid", "each label by itself, or exactly round(r n_c) of each class", source="ours"
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Noisy labels."""
    check_labels(clean, num_classes)
    if params.draw == "iid":
        touched = rng.random(len(clean)) < params.rate
    else:
        touched = np.zeros(len(clean), bool)
        for c in np.unique(clean):
            group = np.flatnonzero(clean == c)
            touched[rng.permutation(group)[: round(params.rate * len(group))]] = True
    return np.where(touched, (clean + 1) % num_classes, clean)


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The promised matrix: P(noisy = j | clean = i)."""
    eye = np.eye(num_classes)
    return (1 - params.rate) * eye + params.rate * np.roll(eye, 1, axis=1)
