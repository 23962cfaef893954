"""The CSV files that people open, written so that a spreadsheet shows a text and never takes it for a formula.

A spreadsheet computes a cell that begins with = + - @, a tab or a line break, even from a file: a class called `=1+1` would
be shown as 2, and a path that someone chose could start a program. Such a text gets an apostrophe in front, as OWASP
advises ("CSV Injection"), and so does one that begins with apostrophes and then one of these signs: that makes it
reversible. Numbers stay as they are. Only files of ours are read back so, which are known by their first line; files
that others exchange are neither written nor read in this way.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

SAMPLES = (
    "id",
    "path",
    "given",
    "suggested",
    "clean_probability",
    "verdict",
    "rank",
    "warning",
)  # of evaluate
PREDICTIONS = ("path", "label", "probability")
QUARANTINE = ("path", "reason")
HEADS = (SAMPLES, PREDICTIONS, QUARANTINE)

# the last four are the full-width forms of the first four
NOTHING = "-"  # of tables: no number; nothing to compute
FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?( \u00b1 \d+\.?\d*)?")  # perhaps with a deviation


def write(file: io.TextIOBase, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows to a text file that was opened with newline=""; the first row is the header."""
    csv.writer(file).writerows([quoted(cell) for cell in row] for row in rows)


def as_file_text(rows: Iterable[Sequence[Any]]) -> str:
    """The text of the file that `write` writes. Its line ends are of two characters, so a cell may hold either one."""
    out = io.StringIO(newline="")
    write(out, rows)
    return out.getvalue()


def as_text(rows: Iterable[Sequence[Any]]) -> str:
    """The same with line ends of one character."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([quoted(cell) for cell in row] for row in rows)
    return out.getvalue()


def quoted(cell: Any) -> Any:
    """A text that a spreadsheet would compute with an apostrophe in front; whatever else as it is."""
    if isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell) and cell != NOTHING:
        return f"'{cell}"
    return cell


def unquoted(text: str) -> str:
    """The cell that `quoted` made this text of."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def is_ours(header: Sequence[str]) -> bool:
    """Whether a file with this first line was written here, so that its cells are quoted."""
    return tuple(header) in HEADS
