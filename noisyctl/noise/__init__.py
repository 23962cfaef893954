"""Label noise: pure functions of clean labels; one file per noise model.

Every file holds

  Params
  NEEDS = ()                               what `corrupt` needs beside labels: "sample_ids", "sample_paths", "images",
                                           "probabilities"
  corrupt(clean, num_classes, params, rng) noisy labels; what NEEDS names are additional keyword arguments
  transition_matrix(num_classes, params)   the nominal P(noisy | clean) [clean_class noisy_class], or None
  num_noisy_classes(num_classes, params)   only where noisy labels have fewer classes than clean ones: the number of
                                           classes, counted from the first, that noisy labels have

`sample_ids` [n] are the data set's ids. `sample_paths` [n] are the paths of its images (None where they have no files).
`images` are uint8 [n h w ch]. `probabilities` [n c] come from a classifier that was trained on a part of the clean
labels; a model that needs them has the params `clean_share`, `classifier`, `epochs` and `width`.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from noisyctl.errors import DataError
from noisyctl.registry import Registry

CONTRACT = ("Params", "NEEDS", "corrupt", "transition_matrix")  # what the file of a noise model must have
REGISTRY = Registry(__name__, "noise kind", CONTRACT)
Draw = Literal["iid", "exact", "exact_total"]

available, load = REGISTRY.available, REGISTRY.load


def num_noisy_classes(model: ModuleType, num_classes: int, params: Any) -> int:
    """The number of classes that noisy labels have: that of the clean labels, unless the model says otherwise."""
    count = vars(model).get("num_noisy_classes")
    return count(num_classes, params) if count else num_classes


def check_labels(labels: Int[np.ndarray, " n"], num_classes: int, *, place: str = "") -> None:
    """Raise DataError if a label lies outside the classes. The message begins with `place`."""
    if num_classes < 2:
        raise DataError(f"label noise needs at least two classes, not {num_classes}")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise DataError(
            f"{place}{len(outside)} labels lie outside 0..{num_classes - 1} "
            f"(first at sample {outside[0]}: {labels[outside[0]]}); correct the labels or the class names"
        )


def touch(
    clean: Int[np.ndarray, " n"], rate: float, draw: Draw, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Mask of the labels that the noise touches.

    iid: each label independently, with probability `rate`. exact: round(rate n_c) labels of each class, where halves
    are rounded to the even number. exact_total: int(rate n) labels of the whole set, whatever their classes.
    """
    if draw == "iid":
        return rng.random(len(clean)) < rate
    if draw == "exact":
        return pick_per_class(clean, lambda size: round(rate * size), rng)
    touched = np.zeros(len(clean), bool)
    touched[rng.permutation(len(clean))[: int(rate * len(clean))]] = True
    return touched


def pick_per_class(
    labels: Int[np.ndarray, " n"], count: Callable[[int], int], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Mask of `count(n_c)` random samples of each class, where n_c is the number of its samples."""
    picked = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        group = np.flatnonzero(labels == c)
        picked[rng.permutation(group)[: count(len(group))]] = True
    return picked


def find_file(file: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file that a noise reads. Raises DataError if it is missing or has another suffix."""
    path = Path(file)
    if path.suffix.lower() not in suffixes:
        raise DataError(
            f"{file} is not a {', '.join(suffixes[:-1])} or {suffixes[-1]} file; convert it to one of these"
        )
    if not path.is_file():
        raise DataError(f"{file} does not exist; correct the noise's `file`")
    return path


def check_order(theirs: Int[np.ndarray, " n"], ours: Int[np.ndarray, " n"], *, place: str, cure: str) -> None:
    """Raise DataError if the clean labels in a file are not those of the data set.

    Its noisy labels then belong to other samples. The message begins with `place` and ends with `cure`.
    """
    wrong = np.flatnonzero(theirs != ours)
    if len(wrong):
        raise DataError(
            f"{place}: {len(wrong)} of {len(ours)} clean labels differ from the data set's (first at sample {wrong[0]}: "
            f"{theirs[wrong[0]]}, there {ours[wrong[0]]}); the file is in another order or for another data set: {cure}"
        )


def measure(
    clean: Int[np.ndarray, " n"],
    noisy: Int[np.ndarray, " n"],
    num_classes: int,
    num_noisy_classes: int | None = None,
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, "c noisy"]]:
    """Mask of the wrong labels, whose mean is the measured rate, and the measured matrix [clean_class noisy_class].

    A class without samples has a row of zeros, since nothing was seen of it and artifacts hold no NaN.
    """
    counts = np.zeros((num_classes, num_noisy_classes or num_classes))
    np.add.at(counts, (clean, noisy), 1)
    return clean != noisy, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
