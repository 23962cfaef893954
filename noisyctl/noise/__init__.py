"""Label noise: pure functions of clean labels; one file a model.

Every file holds

  Params
  NEEDS = ()                               what `corrupt` takes beside labels: "sample_ids", "sample_paths", "images",
                                           "probabilities"
  corrupt(clean, num_classes, params, rng) noisy labels; exactly the names in NEEDS are further keyword arguments
  transition_matrix(num_classes, params)   the promised P(noisy | clean) [clean_class noisy_class], or None
  num_noisy_classes(num_classes, params)   only where noisy labels have fewer classes than clean ones: the first ones

`sample_ids` [n] are the data set's ids, `sample_paths` [n] where its images lie (None where they have no files),
`images` uint8 [n h w ch]. `probabilities` [n c] come from a classifier that learned a part of the clean labels; a
model that needs them has the params `clean_share`, `classifier`, `epochs`, `width`.
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
    """How many classes the noisy labels have: as many as the clean ones, unless the model says otherwise."""
    count = vars(model).get("num_noisy_classes")
    return count(num_classes, params) if count else num_classes


def check_labels(labels: Int[np.ndarray, " n"], num_classes: int, *, place: str = "") -> None:
    """Raise DataError where a label lies outside the classes. `place` is what the message begins with."""
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
    """Which labels the noise touches.

    iid: each by itself with probability `rate`; exact: round(rate n_c) of each class, halves to the even number;
    exact_total: int(rate n) of all, whatever their class.
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
    """A mask of `count(n_c)` random samples of each class."""
    picked = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        group = np.flatnonzero(labels == c)
        picked[rng.permutation(group)[: count(len(group))]] = True
    return picked


def find_file(file: str, suffixes: tuple[str, ...]) -> Path:
    """The path of a file that a noise reads, or DataError if it is missing or of another kind."""
    path = Path(file)
    if path.suffix.lower() not in suffixes:
        raise DataError(
            f"{file} is no {', '.join(suffixes[:-1])} or {suffixes[-1]} file; convert it to one of these"
        )
    if not path.is_file():
        raise DataError(f"{file} does not exist; correct the noise's `file`")
    return path


def check_order(theirs: Int[np.ndarray, " n"], ours: Int[np.ndarray, " n"], *, place: str, cure: str) -> None:
    """Raise DataError where a file's clean labels are not the data set's: its noisy ones belong to other samples."""
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
    """Which labels are wrong (their mean is the measured rate), and the realised matrix [clean_class noisy_class].

    A class without samples has a row of zeros: nothing was seen of it, and NaN is kept out of artifacts.
    """
    counts = np.zeros((num_classes, num_noisy_classes or num_classes))
    np.add.at(counts, (clean, noisy), 1)
    return clean != noisy, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
