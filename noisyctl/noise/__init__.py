"""Label noise: pure functions of clean labels; one file a model."""

import importlib
import pkgutil
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


def check_labels(labels: Int[np.ndarray, " n"], num_classes: int) -> None:
    """Raise DataError where a label lies outside the classes."""
    if num_classes < 2:
        raise DataError(f"label noise needs at least two classes, not {num_classes}")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise DataError(
            f"{len(outside)} labels lie outside 0..{num_classes - 1} (first at sample {outside[0]}: {labels[outside[0]]}); "
            "correct the labels or the class names"
        )


def measure(
    clean: Int[np.ndarray, " n"], noisy: Int[np.ndarray, " n"], num_classes: int
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, "c c"]]:
    """Which labels are wrong, and the realised transition matrix; a class without samples has a row of zeros."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (clean, noisy), 1)
    return clean != noisy, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
