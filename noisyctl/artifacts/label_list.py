"""labels.csv and labels.parquet: what is thought of every label, one row a sample, the most suspicious first.

Columns: `id,path,given,suggested,clean_probability,verdict,rank`, then each opinion's probability of the given label,
then `neighbors,duplicate_of,group,annotations,agreement,version`; docs/labels.md says what they mean. Classes are named,
not numbered. The CSV is for people and is safe to open in a spreadsheet; `read` takes it back as a spreadsheet saves it:
with a byte order mark, with semicolons or tabs, with decimal commas, with rows and columns in another order, with
further columns.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from noisyctl.artifacts import csv_files
from noisyctl.artifacts.files import NO_FILE, Text, publish
from noisyctl.errors import ArtifactError, DataError

VERSION = 2  # of the columns and what they mean
FIRST = ("id", "path", "given", "suggested", "clean_probability", "verdict", "rank")
LAST = ("neighbors", "duplicate_of", "group", "annotations", "agreement", "version")
VERDICTS = ("keep", "relabel", "look", "drop", "duplicate")
DIGITS = 6  # of a probability in the CSV
CSV, PARQUET = "labels.csv", "labels.parquet"
METADATA = b"noisyctl.labels"  # of the Parquet file: the version
MARKS = (b"PAR1", METADATA)

Neighbors = tuple[tuple[str, str], ...]  # ids and their given labels, the nearest first
Annotations = tuple[tuple[str, str], ...]  # people and the labels that they gave


@dataclass(frozen=True, eq=False)
class LabelList:
    """Columns of n rows, sorted by rank from 1. What has a default is empty where there is none."""

    ids: Shaped[np.ndarray, " n"]
    paths: Shaped[np.ndarray, " n"]
    given: Shaped[np.ndarray, " n"]
    suggested: Shaped[np.ndarray, " n"]
    clean_probability: Float[np.ndarray, " n"]
    verdict: Shaped[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    opinions: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    neighbors: tuple[Neighbors, ...] = ()
    duplicate_of: Shaped[np.ndarray, " n"] | None = None
    group: Shaped[np.ndarray, " n"] | None = None
    annotations: tuple[Annotations, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return (*FIRST, *self.opinions, *LAST)


@dataclass(frozen=True)
class Parquet:
    """A Parquet file of these columns, as its end says."""

    def foreign(self, path: Path) -> str | None:
        if not path.is_file():
            return NO_FILE
        content = path.read_bytes()
        return None if all(mark in content for mark in MARKS) else "is not a file that this command wrote"


CSV_FORM, PARQUET_FORM = Text((",".join(FIRST),)), Parquet()


def write(folder: Path, rows: LabelList) -> None:
    """Publish labels.csv and labels.parquet in a folder, sorted by rank."""
    import pyarrow as pa
    from pyarrow import parquet

    table = _columns(rows)
    schema = pa.table(table).replace_schema_metadata({METADATA: str(VERSION)})
    with publish(folder / PARQUET, PARQUET_FORM) as partial:
        parquet.write_table(schema, partial)
    table |= {name: _rounded(table[name]) for name in ("clean_probability", *rows.opinions, "agreement")}
    with publish(folder / CSV, CSV_FORM) as partial:
        text = csv_files.as_file_text([rows.columns, *zip(*table.values(), strict=True)])
        partial.write_text(text, "utf-8", newline="")


def read(path: Path) -> LabelList:
    """The list in a CSV or a Parquet file, sorted by rank.

    Raises ArtifactError where there is no such file, and DataError where a column is missing, where a cell is not what it
    should be, or where two rows have one id: with the line and the cure.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with `noisyctl clean`")
    header, rows = _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)
    missing = [name for name in FIRST if name not in header]
    if missing:
        raise DataError(
            f"{path}: there is no column {missing[0]!r} in its first line; keep the columns {', '.join(FIRST)}"
        )
    cells = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    numbers = [_whole(path, line, text) for line, text in enumerate(cells["rank"], start=2)]
    order = np.argsort(numbers, kind="stable")
    _require(path, cells, numbers)
    opinions = [name for name in header if name not in (*FIRST, *LAST) and _all_probable(cells[name])]
    return LabelList(
        ids=_text(cells["id"])[order],
        paths=_text(cells["path"])[order],
        given=_text(cells["given"])[order],
        suggested=_text(cells["suggested"])[order],
        clean_probability=np.array([_number(text) for text in cells["clean_probability"]])[order],
        verdict=_text(cells["verdict"])[order],
        rank=np.array(numbers, np.int64)[order],
        opinions={name: np.array([_number(text) for text in cells[name]])[order] for name in opinions},
        neighbors=tuple(_pairs(path, "neighbors", cells["neighbors"][i], i + 2) for i in order.tolist())
        if "neighbors" in cells
        else (),
        duplicate_of=_text(cells["duplicate_of"])[order] if "duplicate_of" in cells else None,
        group=_text(cells["group"])[order] if "group" in cells else None,
        annotations=tuple(_pairs(path, "annotations", cells["annotations"][i], i + 2) for i in order.tolist())
        if any(cells.get("annotations", []))
        else (),
    )


def _columns(rows: LabelList) -> dict[str, Any]:
    """The columns as lists in the order of the ranks."""
    order = np.argsort(rows.rank, kind="stable")
    none = _text([""] * len(rows))
    named = rows.neighbors or ((),) * len(rows)
    said = rows.annotations or ((),) * len(rows)
    table: dict[str, Any] = {
        "id": rows.ids,
        "path": rows.paths,
        "given": rows.given,
        "suggested": rows.suggested,
        "clean_probability": rows.clean_probability,
        "verdict": rows.verdict,
        "rank": rows.rank,
        **rows.opinions,
        "neighbors": _text([json.dumps(each, ensure_ascii=False) if each else "" for each in named]),
        "duplicate_of": none if rows.duplicate_of is None else rows.duplicate_of,
        "group": none if rows.group is None else rows.group,
        "annotations": _text([json.dumps(each, ensure_ascii=False) if each else "" for each in said]),
        "agreement": np.array(
            [agreement(each, label) for each, label in zip(said, rows.given.tolist(), strict=True)],
            np.float64,
        ),
        "version": np.full(len(rows), VERSION),
    }
    return {name: values[order].tolist() for name, values in table.items()}


def agreement(annotations: Annotations, given: str) -> float:
    """The share of the people named who gave this label; NaN where nobody is named."""
    return sum(label == given for _, label in annotations) / len(annotations) if annotations else np.nan


def _rounded(values: Sequence[float]) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.{DIGITS}f}" for value in values]


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # with its line ends: a cell may hold any
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}); make it again with `noisyctl clean`"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8; save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
    except csv.Error as error:
        raise DataError(f"{path} is no readable CSV ({error}); restore it, or make it again") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(
                f"{path}: row {number} has {len(line)} cells, the first row {len(header)}; restore it"
            )
    return header, [[csv_files.unquoted(cell) for cell in line] for line in lines[1:]]


def _parquet_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file; make it again with `noisyctl clean`") from error
    columns = [[str(cell) for cell in column.to_pylist()] for column in table.columns]
    return list(table.column_names), [list(row) for row in zip(*columns, strict=True)]


def _require(path: Path, cells: Mapping[str, list[str]], ranks: list[int]) -> None:
    for line, (verdict, text) in enumerate(
        zip(cells["verdict"], cells["clean_probability"], strict=True), start=2
    ):
        if verdict not in VERDICTS:
            raise DataError(f"{path}: row {line}: verdict {verdict!r}; one of: {', '.join(VERDICTS)}")
        if not _is_probability(text):
            raise DataError(
                f"{path}: row {line}: clean_probability {text!r} is no number from 0 to 1; restore it"
            )
    for name, values in (("id", cells["id"]), ("rank", [str(rank) for rank in ranks])):
        seen: dict[str, int] = {}
        for line, value in enumerate(values, start=2):
            if value in seen:
                raise DataError(
                    f"{path}: rows {seen[value]} and {line} have the same {name} {value}; restore one"
                )
            seen[value] = line


def _number(text: str) -> float:
    """A number, perhaps with a decimal comma."""
    return float(text.strip().replace(",", "."))


def _is_probability(text: str) -> bool:
    try:
        return 0 <= _number(text) <= 1
    except ValueError:
        return False


def _all_probable(cells: Sequence[str]) -> bool:
    return bool(cells) and all(map(_is_probability, cells))


def _whole(path: Path, line: int, text: str) -> int:
    try:
        value = _number(text)
    except ValueError:
        value = 0.5
    if value != int(value) or value < 1:
        raise DataError(f"{path}: row {line}: rank {text!r} is no whole number from 1; restore it")
    return int(value)


def _pairs(path: Path, column: str, text: str, line: int) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((str(name), str(label)) for name, label in json.loads(text or "[]"))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: row {line}: {column} {text!r} are no list of pairs; restore the cell, or remove the column"
        ) from error


def _text(values: Sequence[str]) -> Shaped[np.ndarray, " n"]:
    return np.array(list(values), np.dtypes.StringDType()).reshape(len(values))
