"""The folder that `noisyctl clean` writes: which files lie in it, and how the commands of review read them.

    OUT/labels.csv       one row a photo, the most suspicious first
    OUT/labels.parquet   the same
    OUT/report.html      the report, and beside it for large sets OUT/report-photos/
    OUT/model/           the robust classifier, for `predict`
    OUT/work/            the artifacts
    OUT/result.json      where the photos lie, the classes, the estimated noise, and the digest of labels.csv

The digest is the sha256 of labels.csv. A person's decisions carry it, so that decisions made on another list are refused.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl.artifacts import csv_files
from noisyctl.errors import ArtifactError, DataError, suggest

LABELS = "labels.csv"
PARQUET = "labels.parquet"
REPORT = "report.html"
REPORT_PHOTOS = "report-photos"
MODEL = "model"
WORK = "work"
ABOUT = "result.json"
KIND = "result of clean"
VERSION = 1

FIRST = ("id", "path", "given", "suggested", "clean_probability", "verdict", "rank")
LAST = ("neighbors", "duplicate_of", "group")
SPLIT = "split"  # a column that a list may have beside these: train, val or test
KEEP, RELABEL, LOOK, DROP, DUPLICATE = "keep", "relabel", "look", "drop", "duplicate"
VERDICTS = (RELABEL, DROP, LOOK, DUPLICATE, KEEP)  # in the order in which people read them
MEANINGS = {
    RELABEL: "the label looks wrong, another one fits",
    DROP: "it seems to belong to no class",
    LOOK: "doubtful: look at it",
    DUPLICATE: "a copy of another photo",
    KEEP: "nothing speaks against the label",
}
SUSPICIOUS = (RELABEL, DROP, LOOK)  # verdicts on the label itself
SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
REMAKE = "make it again with `noisyctl clean`"


@dataclass(frozen=True)
class Neighbor:
    """A near photo: its id, and the label that it has in the list."""

    id: str
    label: str


@dataclass(frozen=True)
class Listed:
    """One photo of the list; classes are names.

    `opinions` are the probabilities, by opinion, that the given label is right. `duplicate_of` is the id of an earlier
    photo, or "". `group` is what the user said belongs together, or "".
    """

    id: str
    path: str
    given: str
    suggested: str
    clean_probability: float
    verdict: str
    rank: int
    opinions: Mapping[str, float] = field(default_factory=dict)
    neighbors: tuple[Neighbor, ...] = ()
    duplicate_of: str = ""
    group: str = ""
    split: str = "train"

    @property
    def suspicious(self) -> bool:
        """Whether the list calls the label wrong or doubtful."""
        return self.verdict in SUSPICIOUS

    @property
    def disputed(self) -> bool:
        """Whether some opinions hold the given label for right and others for wrong."""
        return len({value >= 0.5 for value in self.opinions.values()}) > 1


@dataclass(frozen=True)
class Noise:
    """The estimated share of wrong labels, with an interval of that level; all from 0 to 1."""

    wrong: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Result:
    """A list that was read, in the order of its ranks, and what is known of the photos."""

    folder: Path
    digest: str
    root: Path
    class_names: tuple[str, ...]
    opinions: tuple[str, ...]
    rows: tuple[Listed, ...]
    noise: Noise | None = None
    has_splits: bool = False

    @cached_property
    def by_id(self) -> dict[str, Listed]:
        return {row.id: row for row in self.rows}

    @cached_property
    def by_path(self) -> dict[str, Listed]:
        return {row.path: row for row in self.rows if row.path}

    def find(self, sample: str) -> Listed:
        """The photo with this id or path; a path may also lead there from the current folder. Raises DataError."""
        found = self.by_id.get(sample) or self.by_path.get(sample)
        if found is None:
            below = Path(os.path.relpath(sample, self.root)).as_posix()
            found = self.by_path.get(below)
        if found is None:
            close = suggest(sample, [*self.by_path, *self.by_id]) if len(self.rows) <= 20_000 else ""
            hint = f"; {close}" if close.startswith("did you mean") else ""
            raise DataError(
                f"{sample!r} is neither an id nor a path of {self.folder / LABELS}{hint}; "
                "paths there are relative to the folder of the photos"
            )
        return found


def as_csv(rows: Sequence[Listed], opinions: Sequence[str], *, splits: bool = False) -> str:
    """The text of labels.csv; texts that a spreadsheet would compute are quoted."""
    last = (*LAST, SPLIT) if splits else LAST
    table: list[Sequence[Any]] = [(*FIRST, *opinions, *last)]
    for row in rows:
        first = (row.id, row.path, row.given, row.suggested, _number(row.clean_probability), row.verdict)
        votes = [_number(row.opinions[name]) for name in opinions]
        near = " ".join(f"{neighbor.id}:{neighbor.label}" for neighbor in row.neighbors)
        split = (row.split,) if splits else ()
        table.append((*first, row.rank, *votes, near, row.duplicate_of, row.group, *split))
    return csv_files.as_file_text(table)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def as_about(
    labels_csv: bytes,
    out: Path,
    root: Path,
    class_names: Sequence[str],
    *,
    noise: Noise | None = None,
    parts: bool = False,
) -> str:
    """The text of result.json, for a labels.csv that will lie in the folder `out`.

    `parts` tells that the folders at the top of `root` are train, val and test. The place of the photos is kept relative
    to `out`, so that both can be moved together.
    """
    about: dict[str, Any] = {
        "kind": KIND,
        "schema_version": VERSION,
        "digest": digest_of(labels_csv),
        "root": Path(os.path.relpath(root.resolve(), out.resolve())).as_posix(),
        "class_names": list(class_names),
        "parts": parts,
    }
    if noise is not None:
        about["noise"] = {
            "wrong": noise.wrong,
            "low": noise.low,
            "high": noise.high,
            "level": noise.level,
        }
    return json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def digest_of(labels_csv: bytes) -> str:
    return hashlib.sha256(labels_csv).hexdigest()


def read(folder: Path, root: Path | None = None) -> Result:
    """Read the list of a result. `root` is where the photos lie now, if they were moved.

    Raises ArtifactError where something is missing, was changed or is not what clean writes.
    """
    about = _read_about(folder)
    path = folder / LABELS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); {REMAKE}") from error
    if digest_of(content) != about["digest"]:
        raise ArtifactError(
            f"{path} is not as clean wrote it; decide in the report or in a decisions.csv, and {REMAKE}"
        )
    opinions, cells = _read_cells(path, content)
    place = root if root is not None else (folder / about["root"])
    has_splits = bool(about.get("parts")) or bool(cells and SPLIT in cells[0])
    rows = _listed(path, opinions, cells, bool(about.get("parts")))
    return Result(
        folder=folder,
        digest=about["digest"],
        root=Path(os.path.normpath(place)),
        class_names=tuple(about["class_names"]),
        opinions=tuple(opinions),
        rows=tuple(sorted(rows, key=lambda row: row.rank)),
        noise=Noise(**about["noise"]) if about.get("noise") else None,
        has_splits=has_splits,
    )


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if not folder.is_dir() or not path.is_file():
        raise ArtifactError(
            f"{folder} is no result of clean (it has no {ABOUT}); give its folder as --result"
        )
    try:
        about = dict(json.loads(path.read_text(encoding="utf-8")))
        names, noise = about["class_names"], about.get("noise")
        sound = (
            about["kind"] == KIND
            and isinstance(about["digest"], str)
            and isinstance(about["root"], str)
            and isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and (noise is None or set(noise) == {"wrong", "low", "high", "level"})
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {REMAKE}") from error
    if not sound:
        raise ArtifactError(f"{path} is not what clean writes; {REMAKE}")
    if about.get("schema_version") != VERSION:
        raise ArtifactError(
            f"{path} has version {about.get('schema_version')}, this noisyctl reads {VERSION}; {REMAKE}"
        )
    return about


def _read_cells(path: Path, content: bytes) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the opinions, and each row as a dict of texts."""
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path} is not CSV in UTF-8 ({error}); {REMAKE}") from error
    header = lines[0] if lines else []
    lacking = [name for name in (*FIRST, *LAST) if name not in header]
    if lacking:
        raise ArtifactError(f"{path} has no column {', '.join(lacking)}; {REMAKE}")
    opinions = header[header.index("rank") + 1 : header.index("neighbors")]
    rows = [dict(zip(header, map(csv_files.unquoted, line), strict=False)) for line in lines[1:] if line]
    short = next((number for number, row in enumerate(rows, start=2) if len(row) < len(header)), None)
    if short is not None:
        raise ArtifactError(f"{path}: row {short} has too few cells; {REMAKE}")
    return opinions, rows


def _listed(
    path: Path, opinions: Sequence[str], cells: Sequence[Mapping[str, str]], parts: bool
) -> list[Listed]:
    """The rows, checked."""
    labels = {row["id"]: row["given"] for row in cells}
    if len(labels) < len(cells):
        raise ArtifactError(f"{path} names an id twice; {REMAKE}")
    found = []
    for number, row in enumerate(cells, start=2):
        try:
            if row["verdict"] not in VERDICTS:
                raise ValueError(f"verdict {row['verdict']!r} is none of {', '.join(VERDICTS)}")
            found.append(
                Listed(
                    id=row["id"],
                    path=row["path"],
                    given=row["given"],
                    suggested=row["suggested"],
                    clean_probability=float(row["clean_probability"]),
                    verdict=row["verdict"],
                    rank=int(row["rank"]),
                    opinions={name: float(row[name]) for name in opinions if row[name]},
                    neighbors=tuple(neighbors_of(row["neighbors"], labels)),
                    duplicate_of=row["duplicate_of"],
                    group=row["group"],
                    split=_split_of(row, parts),
                )
            )
        except ValueError as error:
            raise ArtifactError(f"{path}: row {number}: {error}; {REMAKE}") from error
    return found


def _split_of(row: Mapping[str, str], parts: bool) -> str:
    if row.get(SPLIT):
        return row[SPLIT]
    return SPLITS.get(row["path"].split("/", 1)[0].casefold(), "train") if parts else "train"


def neighbors_of(text: str, labels: Mapping[str, str]) -> Iterable[Neighbor]:
    """The neighbors that `id:label id:label ...` names; `labels` gives the label of each id.

    Labels may hold blanks and colons, so an entry is known by its id and the label that belongs to it. An entry whose id
    is not in the list ends at the next blank.
    """
    while text:
        id_, colon, rest = text.partition(":")
        label = labels.get(id_)
        if not colon:
            raise ValueError(f"neighbors: {text!r} is not written as id:label")
        if label is None or not (rest == label or rest.startswith(f"{label} ")):
            label = rest.partition(" ")[0]
        yield Neighbor(id_, label)
        text = rest[len(label) :].removeprefix(" ")
