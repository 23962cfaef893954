"""What people decided on photos of the list: reading decisions.csv, and bringing together those of several reviewers.

A file has the columns `id,path,given,decision,label,result`: decision is keep, relabel or drop, label the class that the
photo has afterwards (empty for drop), result the digest of the list that was decided on. A spreadsheet may have changed
the file on the way: a byte order mark, semicolons or tabs, another order of the columns, and other line ends are read.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from noisyctl.artifacts import csv_files
from noisyctl.errors import DataError, suggest
from noisyctl.review.result import DROP, KEEP, LABELS, RELABEL, Listed, Result

COLUMNS = ("id", "path", "given", "decision", "label", "result")
DECISIONS = (KEEP, RELABEL, DROP)
NAMED = 5  # rows that a message names
SCIENTIFIC = re.compile(r"[0-9][.,]?[0-9]*E\+?[0-9]+")  # what spreadsheets make of long numbers
CURE = "download the decisions again from the report of this result"


@dataclass(frozen=True)
class Decision:
    """What one reviewer decided on one photo, and the row and file that say so. `label` is "" for drop."""

    photo: Listed
    decision: str
    label: str
    file: str
    row: int

    @property
    def outcome(self) -> str | None:
        """The label that the photo has afterwards; None where it is dropped."""
        return None if self.decision == DROP else self.label

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        return self.photo.id, self.photo.path, self.photo.given, self.decision, self.label


@dataclass(frozen=True)
class Pair:
    """How far two reviewers agree on the photos that both decided on. `kappa` is None where it is not defined."""

    files: tuple[str, str]
    both: int
    same: int
    kappa: float | None


@dataclass(frozen=True)
class Merged:
    """One decision for each photo on which the reviewers agree, and the decisions on the others."""

    agreed: dict[str, Decision]
    conflicts: dict[str, list[Decision]]
    pairs: list[Pair]


def as_csv(decisions: Iterable[Decision], result: str) -> str:
    """The text of a decisions.csv, with the digest of the list that was decided on."""
    return csv_files.as_file_text([COLUMNS, *((*decision.cells, result) for decision in decisions)])


def read(path: Path, result: Result) -> dict[str, Decision]:
    """The decisions of one reviewer, by id. Rows without a decision are passed over.

    Raises DataError where the file is not of this kind, names photos or classes that the list does not have, or was made
    on another list; the message names the rows.
    """
    rows = _read_rows(path)
    found: dict[str, Decision] = {}
    wrong: list[str] = []
    for number, cells in rows:
        try:
            decision = _decision(cells, result, str(path), number)
            if decision is None:
                continue
            earlier = found.setdefault(decision.photo.id, decision)
            if earlier.cells != decision.cells:
                raise ValueError(
                    f"{decision.photo.path or decision.photo.id} was decided otherwise in row {earlier.row}; keep one row"
                )
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        more = f"; and {len(wrong) - NAMED} more rows" if len(wrong) > NAMED else ""
        raise DataError(f"{path}: {'; '.join(wrong[:NAMED])}{more}. Nothing was applied")
    return found


def merge(files: Mapping[str, Mapping[str, Decision]]) -> Merged:
    """Bring together the decisions of several reviewers, by the names of their files.

    What a photo becomes counts: to keep a label, and to relabel to it, is the same. Where reviewers differ none is taken.
    """
    by_photo: dict[str, list[Decision]] = {}
    for decisions in files.values():
        for id_, decision in decisions.items():
            by_photo.setdefault(id_, []).append(decision)
    in_order = sorted(by_photo.items(), key=lambda item: item[1][0].photo.rank)
    agreed = {id_: said[0] for id_, said in in_order if len({one.outcome for one in said}) == 1}
    conflicts = {id_: said for id_, said in in_order if id_ not in agreed}
    return Merged(agreed, conflicts, [_pair(a, b, files) for a, b in combinations(files, 2)])


def _pair(first: str, second: str, files: Mapping[str, Mapping[str, Decision]]) -> Pair:
    """Agreement of two reviewers: how often, and Cohen's kappa, which is 0 for what chance would give and 1 at most."""
    both = sorted(files[first].keys() & files[second].keys())
    said = [[_category(files[name][id_]) for id_ in both] for name in (first, second)]
    same = sum(one == other for one, other in zip(*said, strict=True))
    kappa = None
    if len({*said[0], *said[1]}) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(*said))
    return Pair((first, second), len(both), same, kappa)


def _category(decision: Decision) -> str:
    outcome = decision.outcome
    return DROP if outcome is None else f"label {outcome}"


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not empty, with the number that a spreadsheet shows."""
    text = _text(path)
    lines = text.split("\n", 1)
    first = 1
    if lines[0].strip().casefold() in ("sep=;", "sep=,", "sep=\t"):  # a line of Excel's
        text, first = lines[1] if len(lines) > 1 else "", 2
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is not CSV: {error}; save it as CSV UTF-8") from error
    header = [name.strip().casefold() for name in table[0]] if table else []
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; it is not the decisions.csv of a report: {CURE}"
        )
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]} twice; keep one")
    rows = []
    for number, line in enumerate(table[1:], start=first + 1):
        if any(cell.strip() for cell in line):
            filled = [*line, *[""] * (len(header) - len(line))]
            cells = dict(zip(header, map(csv_files.unquoted, filled), strict=False))
            rows.append((number, {name: cells[name] for name in COLUMNS}))
    return rows


def _text(path: Path) -> str:
    """The file's text with line ends of one character outside of quotes. Raises DataError where it is no text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a decisions.csv") from error
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # "Unicode text" of a spreadsheet
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from error


def _decision(cells: Mapping[str, str], result: Result, file: str, number: int) -> Decision | None:
    """The decision of a row; None where there is none yet. Raises ValueError that ends "row N: "."""
    what = cells["decision"].strip().casefold()
    if not what and not cells["label"].strip():
        return None
    if cells["result"].strip() != result.digest:
        raise ValueError(f"it was decided on another list than {result.folder / LABELS}; {CURE}")
    photo = _photo(cells, result)
    if what not in DECISIONS:
        raise ValueError(f"decision {cells['decision']!r} is none of {', '.join(DECISIONS)}")
    label = cells["label"] if cells["label"].strip() else ""
    if what == KEEP:
        if label not in ("", photo.given):
            raise ValueError(f"keep, but the label is {label!r} and not {photo.given!r}; write relabel")
        return Decision(photo, KEEP, photo.given, file, number)
    if what == DROP:
        if label:
            raise ValueError(f"drop, but there is a label {label!r}; remove it, or write relabel")
        return Decision(photo, DROP, "", file, number)
    if not label:
        raise ValueError(f"relabel, but to which class? write one of: {_classes(result.class_names)}")
    if label not in result.class_names:
        raise ValueError(f"the class {label!r} does not exist; {suggest(label, result.class_names)}")
    return Decision(photo, KEEP if label == photo.given else RELABEL, label, file, number)


def _photo(cells: Mapping[str, str], result: Result) -> Listed:
    id_, path = cells["id"].strip(), cells["path"]
    photo = result.by_id.get(id_)
    if photo is None:
        changed = (
            " (a spreadsheet made a number of it; format the column as text)"
            if SCIENTIFIC.fullmatch(id_)
            else ""
        )
        raise ValueError(f"the id {id_!r}{changed} is not in {result.folder / LABELS}; {CURE}")
    if photo.path != path:
        raise ValueError(f"the id {id_} is {photo.path!r} in {result.folder / LABELS}, not {path!r}; {CURE}")
    if photo.given != cells["given"]:
        raise ValueError(f"{path} has the label {photo.given!r} in the list, not {cells['given']!r}; {CURE}")
    return photo


def _classes(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
