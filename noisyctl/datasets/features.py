"""Your own embeddings, of images or of anything else: a NumPy array, one row per sample.

`array` is an .npy file with n rows and d columns. `labels` is an .npy file of n whole numbers or texts, or a .txt or .csv
file with one label per line and no header. `ids` is a .txt or .csv file with one id per line; without it the ids are the
numbers of the rows: 0, 1, 2. Classes are numbered in the order of their names, as numbers if all of them are whole
numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from noisyctl.datasets._labels import encoded, sorted_classes
from noisyctl.datasets._tables import read_fields
from noisyctl.errors import DataError, few
from noisyctl.images import to_ids
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

ROWS = 8192  # rows that are read at a time


class Params(BaseParams):
    """`features` in params.yaml."""

    array: str = param(meaning=".npy file of embeddings, one row per sample", path=True)
    labels: str | None = param(None, ".npy, .txt or .csv file of given labels, one per sample", path=True)
    ids: str | None = param(
        None, ".txt or .csv file of sample names, one per line; none: the numbers of the rows", path=True
    )


@dataclass(frozen=True, eq=False)
class FeatureData:
    """Embeddings with an id each, and the labels as the user has them, which may be wrong.

    `features` is a read-only view of the user's file if that is float32 already. `constant_features` are columns with
    a single value: they carry no information, and often mean a mistake.
    """

    features: Float32[np.ndarray, "n d"]
    ids: Shaped[np.ndarray, " n"]
    given_labels: Int64[np.ndarray, " n"] | None
    class_names: tuple[str, ...]
    constant_features: tuple[int, ...]
    detected: str


def prepare(params: Params) -> FeatureData:
    """The user's embeddings. Raises DataError if they are not finite, or if labels or ids do not fit them."""
    features, constant = read_features(Path(params.array).expanduser())
    number = len(features)
    ids = to_ids([str(row) for row in range(number)])
    if params.ids:
        ids = to_ids(read_ids(Path(params.ids).expanduser(), number))
    labels: Int64[np.ndarray, " n"] | None = None
    class_names: tuple[str, ...] = ()
    if params.labels:
        texts = read_labels(Path(params.labels).expanduser(), number)
        class_names = sorted_classes(texts, params.labels)
        labels = encoded(texts, class_names)
    classes = f", {len(class_names)} classes" if class_names else ", no labels"
    flagged = f", {len(constant)} of them constant (columns {few(constant)})" if constant else ""
    detected = f"{number} samples of {features.shape[1]} features{flagged}{classes}"
    return FeatureData(features, ids, labels, class_names, constant, detected)


def read_features(path: Path) -> tuple[Float32[np.ndarray, "n d"], tuple[int, ...]]:
    """The array as float32, which is read in blocks, and its constant columns."""
    source = read_rows(path)
    features = source if source.dtype == np.float32 else np.empty(source.shape, np.float32)
    infinite: list[int] = []
    constant = np.ones(source.shape[1], bool)
    for start in range(0, len(source), ROWS):
        rows = slice(start, start + ROWS)
        if features is not source:
            with np.errstate(over="ignore"):
                features[rows] = source[rows]
        infinite += (start + np.flatnonzero(~np.isfinite(features[rows]).all(axis=1))).tolist()
        constant &= (features[rows] == features[0]).all(axis=0)
    if infinite:
        message = f"NaN, infinite or beyond float32 in {len(infinite)} rows ({few(infinite)}, counted from 0)"
        raise DataError(f"{path}: {message}; remove those samples or compute them again")
    return features, tuple(np.flatnonzero(constant).tolist())


def read_rows(path: Path) -> np.ndarray:
    """A memory-mapped array of real numbers, one row per sample, as it lies in the file. Raises DataError."""
    source = _read_npy(path)
    if source.ndim != 2 or 0 in source.shape:
        raise DataError(f"{path} has the shape {source.shape}; save one row per sample: (samples, features)")
    if source.dtype.kind not in "fiub":
        raise DataError(
            f"{path} holds {source.dtype}; save real numbers: np.save(path, array.astype(np.float32))"
        )
    return source


def _read_npy(path: Path) -> np.ndarray:
    """A memory-mapped array. Pickled arrays are refused, since reading them would run code from the file."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an .npy file, as np.save writes it")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        with path.open("rb") as file:
            is_npy = file.read(6) == b"\x93NUMPY"
        if is_npy and "object" in str(error).lower():
            cure = "np.save(path, np.array(rows, dtype=np.float32)), or dtype=str for labels"
            raise DataError(
                f"{path} holds pickled Python objects, which may run code; save it by {cure}"
            ) from error
        why = "is damaged or cut short" if is_npy else "is no .npy file"
        raise DataError(f"{path} {why}; write it again with np.save") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an archive of arrays; save the one array with np.save")
    return array


def read_labels(path: Path, number: int) -> list[str]:
    """One label per sample, unchanged. Raises DataError if one is missing, blank or of an unclear type."""
    if path.suffix.casefold() != ".npy":
        return _read_lines(path, number, "label")
    array = _read_npy(path)
    if array.shape != (number,):
        raise DataError(f"{path} has the shape {array.shape} for {number} samples; save one label per sample")
    if array.dtype.kind not in "iubU":
        raise DataError(
            f"{path} holds {array.dtype}; save whole numbers (labels.astype(np.int64)) or text (astype(str))"
        )
    labels = [str(label) for label in array.tolist()]
    _require_filled(path, labels, range(number), "label")
    return labels


def read_ids(path: Path, number: int) -> list[str]:
    """One id per sample. Raises DataError if an id occurs twice."""
    ids = _read_lines(path, number, "id")
    seen: set[str] = set()
    if twice := {name: None for name in ids if name in seen or seen.add(name)}:  # type: ignore[func-returns-value]
        raise DataError(f"{path} has {few(twice)} more than once; give each sample an id of its own")
    return ids


def _read_lines(path: Path, number: int, what: str) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a .txt or .csv file with one {what} per line")
    if path.suffix.casefold() == ".csv":
        fields = read_fields(path, ",")
        if wide := [row for row, values in fields if len(values) > 1]:
            raise DataError(f"{path}: rows {few(wide)} have more than one field; write one {what} per line")
        lines = [values[0] for _, values in fields]
        rows: Sequence[int] = [row for row, _ in fields]
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
        lines = text.removesuffix("\n").split("\n") if text else []
        rows = range(1, len(lines) + 1)
    _require_filled(path, lines, rows, what)
    if len(lines) != number:
        raise DataError(
            f"{path} has {len(lines)} lines for {number} samples; write one {what} per line, without a header"
        )
    return lines


def _require_filled(path: Path, texts: Sequence[str], rows: Sequence[int], what: str) -> None:
    if blank := [row for row, text in zip(rows, texts, strict=True) if not text.strip()]:
        raise DataError(f"{path}: the {what} is missing in {len(blank)} rows ({few(blank)}); fill them in")
