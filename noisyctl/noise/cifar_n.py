"""CIFAR-10N and CIFAR-100N: labels given by people, from the authors' files.

Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations", ICLR 2022. Their
repository holds CIFAR-10_human.pt and CIFAR-100_human.pt. The measured rates, of 50,000 labels, are

  aggre .0901   random1 .1723   random2 .1812   random3 .1764   worse .4021        CIFAR-10N
  fine .4020    coarse .2640 (of the 20 superclasses)                              CIFAR-100N

The files may be .pt (which must hold numpy arrays and nothing else), .npz, or .csv with a header line. Columns have the
authors' names: clean_label and aggre_label, worse_label, random_label1 to 3, or noisy_label; clean_coarse_label and
noisy_coarse_label.

Labels are in the order of CIFAR's python version (torchvision's). The file's clean labels must equal the data set's,
sample by sample, so a file in another order (TensorFlow's) is refused.
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from noisyctl.errors import DataError
from noisyctl.noise import check_labels, check_order, find_file
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()
COLUMNS = {
    "aggre": ("aggre_label", "clean_label"),
    "worse": ("worse_label", "clean_label"),
    "random1": ("random_label1", "clean_label"),
    "random2": ("random_label2", "clean_label"),
    "random3": ("random_label3", "clean_label"),
    "fine": ("noisy_label", "clean_label"),
    "coarse": ("noisy_coarse_label", "clean_coarse_label"),
}


class Params(Base):
    """A block of `noises:` with `kind: cifar_n`."""

    file: str = param(
        meaning="file with the labels: CIFAR-10_human.pt or CIFAR-100_human.pt, or the same as .npz or .csv",
        min_length=1,
        path=True,
    )
    which: Literal["aggre", "worse", "random1", "random2", "random3", "fine", "coarse"] = param(
        meaning="labels to take; CIFAR-10N has aggre, worse, random1 to 3; CIFAR-100N has fine, coarse"
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The human labels. Nothing is drawn from `rng`."""
    check_labels(clean, num_classes)
    file, columns = params.file, read(params.file)
    noisy, theirs = (_column(columns, name, file) for name in COLUMNS[params.which])
    if not len(noisy) == len(theirs) == len(clean):
        raise DataError(
            f"{file} holds {len(noisy)} labels, the data set {len(clean)} samples; "
            "give the whole CIFAR training set"
        )
    cure = "bring the images to the order of CIFAR's python version, and take CIFAR-10's file for CIFAR-10"
    check_order(theirs, clean, place=file, cure=cure)
    check_labels(noisy, num_classes, place=f"{file}: ")
    return noisy


def transition_matrix(num_classes: int, params: Params) -> None:
    """None: human labels have no nominal transition matrix. It can be measured."""


def read(file: str) -> Mapping[str, Any]:
    """The columns of a .pt, .npz or .csv file. No code in the file is run. Raises DataError for other or damaged files."""
    path = find_file(file, (".pt", ".npz", ".csv"))
    readers: dict[str, Callable[[Path], Any]] = {".pt": _read_pt, ".npz": _read_npz, ".csv": _read_csv}
    try:
        columns = readers[path.suffix.lower()](path)
    except Exception as error:  # torch's and numpy's readers raise many types on damaged or foreign bytes
        raise DataError(
            f"{file} is damaged, or holds more than integer arrays; fetch it again from the authors"
        ) from error
    if not isinstance(columns, Mapping):
        raise DataError(
            f"{file} holds a {type(columns).__name__}, not named arrays; fetch it again from the authors"
        )
    return columns


def _column(columns: Mapping[str, Any], name: str, file: str) -> Int[np.ndarray, " n"]:
    """A column of the file, as integers. Raises DataError if there is none."""
    if name not in columns:
        known = ", ".join(sorted(map(str, columns)))
        raise DataError(f"{file} has no {name!r}, but {known or 'nothing'}; choose another `which`, or file")
    values = np.asarray(columns[name])
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{file}: {name} is {values.dtype}{list(values.shape)}; it needs one integer per sample"
        )
    return values.astype(np.int64)


def _read_pt(path: Path) -> Any:
    import torch

    # The types in a pickled integer array. What numpy 2 calls `numpy._core` was `numpy.core` in numpy 1.
    rebuild = np.empty(0).__reduce__()[0]
    allowed: list[Any] = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    allowed += [np.ndarray, np.dtype, *(type(np.dtype(f"{k}{size}")) for k in "iu" for size in (1, 2, 4, 8))]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_csv(path: Path) -> Mapping[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    return {name: np.array([int(row[name]) for row in rows], np.int64) for name in (rows[0] if rows else ())}
