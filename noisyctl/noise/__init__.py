"""Label noise: pure functions of clean labels; one file a model.

Every file holds `Params`, `corrupt(clean, num_classes, params, rng, *, sample_ids=None)` and
`transition_matrix(num_classes, params)`, the promised matrix (None where nothing is promised). `sample_ids` are the data
set's; only a model that reads labels from a file looks at them.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Int

from noisyctl.errors import DataError, ParamsError, suggest


def available() -> tuple[str, ...]:
    """The noise models, by file name."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def load(kind: str) -> ModuleType:
    """The module of a noise model: Params, corrupt, transition_matrix."""
    if kind not in available():
        raise ParamsError(f"unknown noise kind {kind!r}; {suggest(kind, available())}")
    return importlib.import_module(f"{__name__}.{kind}")


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


def touch_exactly(
    clean: Int[np.ndarray, " n"], rate: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """A mask of exactly round(rate n_c) samples of each class; halves go to the even number."""
    touched = np.zeros(len(clean), bool)
    for c in np.unique(clean):
        group = np.flatnonzero(clean == c)
        touched[rng.permutation(group)[: round(rate * len(group))]] = True
    return touched


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


def measure(
    clean: Int[np.ndarray, " n"], noisy: Int[np.ndarray, " n"], num_classes: int
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, "c c"]]:
    """Which labels are wrong (their mean is the measured rate), and the realised transition matrix.

    A class without samples has a row of zeros: nothing was seen of it, and NaN is kept out of artifacts.
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean, noisy), 1)
    return clean != noisy, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
