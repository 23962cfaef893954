"""Manifests: CSV, TSV or Parquet tables of text. Rows are numbered as a spreadsheet shows them."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import csv_files
from noisyctl.errors import DataError, few

SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Table:
    """Columns of equal length; a missing value is "". Row 1 of a CSV file is its header."""

    path: str
    rows: list[int]
    columns: dict[str, list[str]]


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read the named columns. Raises DataError if the file is absent or damaged, or has no such required column."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a manifest with the columns {', '.join(required)}")
    suffix = path.suffix.casefold()
    if suffix in SEPARATORS:
        header, rows = _read_csv(path, SEPARATORS[suffix])
        if csv_files.is_ours(header):
            rows = [(number, [csv_files.unquoted(text) for text in fields]) for number, fields in rows]
    elif suffix == ".parquet":
        header, rows = _read_parquet(path, [*required, *optional])
    else:
        raise DataError(f"{path} is neither .csv, .tsv nor .parquet; save the manifest as one of them")
    found = few(header) or "none"
    for name in [*required, *optional]:
        if header.count(name) > 1:
            raise DataError(f"{path} has {header.count(name)} columns {name!r}; keep one")
    lacking = [name for name in required if name not in header]
    if lacking:
        raise DataError(f"{path} has no column {few(lacking)} (it has {found}); name them in the first line")
    wanted = [name for name in [*required, *optional] if name in header]
    columns = {name: [values[header.index(name)] for _, values in rows] for name in wanted}
    return Table(str(path), [number for number, _ in rows], columns)


def header_of(path: Path) -> list[str]:
    """The names of a table's columns, each once; none where `read_table` would refuse the file."""
    suffix = path.suffix.casefold()
    try:
        if suffix in SEPARATORS:
            with path.open(newline="", encoding="utf-8-sig") as file:
                found = next(filter(None, csv.reader(file, delimiter=SEPARATORS[suffix], strict=True)), [])
        else:
            from pyarrow import parquet

            found = parquet.read_schema(path).names
    except (OSError, ValueError, csv.Error):  # among these what pyarrow and UTF-8 raise
        return []
    return list(dict.fromkeys(name.strip() for name in found))


def read_fields(path: Path, separator: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with their numbers. Raises DataError if it is not CSV or not UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            return [(number, fields) for number, fields in enumerate(reader, start=1) if fields]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}; check its quotes") from error


def _read_csv(path: Path, separator: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    lines = read_fields(path, separator)
    if not lines:
        return [], []
    (_, first), rows = lines[0], lines[1:]
    header = [name.strip() for name in first]
    long = [number for number, fields in rows if len(fields) > len(header)]
    if long:
        raise DataError(
            f"{path}: rows {few(long)} have more fields than the header; put quotes around commas"
        )
    return header, [(number, fields + [""] * (len(header) - len(fields))) for number, fields in rows]


def _read_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            once = [name for name in wanted if names.count(name) == 1]
            table = file.read(columns=once)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    columns = {name: table.column(name).to_pylist() for name in once}
    texts = {name: [_text(value, path, name) for value in values] for name, values in columns.items()}
    values = [[texts[name][row] if name in texts else "" for name in names] for row in range(table.num_rows)]
    return names, list(enumerate(values, start=1))


def _text(value: Any, path: Path, column: str) -> str:
    """The text that a CSV file would hold for a value. Raises DataError for types whose text is not certain."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str | int):
        return str(value)
    raise DataError(f"{path}: column {column!r} holds {value!r}; write text or whole numbers")
