"""Noisy labels from a file, such as human labels, with a check that they belong to these samples.

  .csv        a header line; a column `label`, and one of `id` (the data set's sample ids), `path` (of own images,
              relative to their root) or `clean_label` (the data set's clean labels)
  .npy .txt   the labels alone (.txt: one per line), in the data set's order; only with `unchecked_order`

With `id` or `path`, rows are matched to samples, whatever their order. With `clean_label`, each clean label must equal
the data set's. A label file in another order than the images would look like noise and ruin a study unnoticed; so a file
with none of these columns is refused.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from noisyctl.errors import DataError
from noisyctl.noise import check_labels, check_order, find_file
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ("sample_ids", "sample_paths")


class Params(Base):
    """A block of `noises:` with `kind: file`."""

    file: str = param(
        meaning="file with the labels: .csv with columns label and id, path or clean_label; .npy or .txt with the "
        "labels alone",
        min_length=1,
        path=True,
    )
    unchecked_order: bool = param(
        False, "accept labels without ids, paths or clean labels, and trust their order"
    )


@dataclass(frozen=True)
class Columns:
    """What a label file holds, in its own order."""

    labels: Int[np.ndarray, " n"]
    ids: tuple[str, ...] | None = None  # or paths, if `by_path`
    clean: Int[np.ndarray, " n"] | None = None
    by_path: bool = False


def corrupt(
    clean: Int[np.ndarray, " n"],
    num_classes: int,
    params: Params,
    rng: np.random.Generator,
    *,
    sample_ids: Shaped[np.ndarray, " n"],
    sample_paths: Shaped[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    """The file's labels in the order of the data set. Nothing is drawn from `rng`."""
    check_labels(clean, num_classes)
    found, file = read_columns(params.file), params.file
    if found.by_path and sample_paths is None:
        raise DataError(
            f"{file} has a column path, but the data set's images have no paths; give a column id"
        )
    if found.ids is not None:
        names = sample_paths if found.by_path and sample_paths is not None else sample_ids
        found = by_id(found, [str(name) for name in names], file)
    if len(found.labels) != len(clean):
        raise DataError(
            f"{file} holds {len(found.labels)} labels, the data set {len(clean)} samples; "
            "give one label for each, or a column id"
        )
    if found.clean is not None:
        cure = "add a column id, or bring its rows into the data set's order"
        check_order(found.clean, clean, place=file, cure=cure)
    elif found.ids is None and not params.unchecked_order:
        raise DataError(
            f"{file}: the order of its {len(clean)} labels cannot be checked (no column id or clean_label); "
            "give a .csv with columns label and clean_label (or id), or set unchecked_order: true if you are sure"
        )
    check_labels(found.labels, num_classes, place=f"{file}: ")
    return found.labels


def transition_matrix(num_classes: int, params: Params) -> None:
    """None: a label file has no nominal transition matrix. It can be measured."""


def by_id(found: Columns, sample_ids: list[str], file: str) -> Columns:
    """The rows in the order of `sample_ids`. Rows of samples that are not in the data set are left out."""
    assert found.ids is not None
    row_of = {name: row for row, name in enumerate(found.ids)}
    if len(row_of) < len(found.ids):
        raise DataError(f"{file}: {len(found.ids) - len(row_of)} ids occur twice; give each sample one label")
    missing = [name for name in sample_ids if name not in row_of]
    if missing:
        raise DataError(
            f"{file} has no label for {len(missing)} of {len(sample_ids)} samples (first {missing[0]!r}, the file's "
            f"first id is {(*found.ids, '')[0]!r}); write the ids as the data set has them"
        )
    rows = np.array([row_of[name] for name in sample_ids], int)
    return Columns(found.labels[rows], tuple(sample_ids), None if found.clean is None else found.clean[rows])


def read_columns(file: str) -> Columns:
    """The labels, ids (or paths) and clean labels of a .csv, .npy or .txt file."""
    path = find_file(file, (".csv", ".npy", ".txt"))
    try:
        return {".csv": _read_csv, ".npy": _read_npy, ".txt": _read_txt}[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text; save it as UTF-8") from error


def _read_csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        names = list(reader.fieldnames or ())
        if "label" not in names:
            raise DataError(
                f"{path} has the columns {', '.join(names) or '(none)'}; it needs label, and id or clean_label"
            )
        rows = [(reader.line_num, row) for row in reader]

    def numbers(name: str) -> Int[np.ndarray, " n"]:
        return np.array([_number(row[name], path, line) for line, row in rows], np.int64)

    key = next((name for name in ("id", "path") if name in names), "")
    ids = tuple(str(row[key]) for _, row in rows) if key else None
    clean = numbers("clean_label") if "clean_label" in names else None
    return Columns(numbers("label"), ids, clean, by_path=key == "path")


def _read_npy(path: Path) -> Columns:
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path} is not an array of numbers ({error}); save integers with numpy.save"
        ) from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path} holds {labels.dtype}{list(labels.shape)}; save one integer per sample")
    return Columns(labels.astype(np.int64))


def _read_txt(path: Path) -> Columns:
    lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    return Columns(np.array([_number(text, path, n) for n, text in enumerate(lines, 1)], np.int64))


def _number(text: str | None, path: Path, line: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise DataError(f"{path}:{line}: {text!r} is not a label; write class numbers from 0 on") from None
