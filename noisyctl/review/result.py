"""The folder that `noisyctl clean` writes: which files lie in it, and how the commands of review read them.

    OUT/labels.csv       one row a photo, the most suspicious first
    OUT/labels.parquet   the same
    OUT/report.html      the report, and beside it for large sets OUT/report-photos/
    OUT/model/           the robust classifier, for `predict`
    OUT/work/            the artifacts
    OUT/result.json      where the photos lie, the classes, the estimated noise, and the digest of labels.csv

The digest is the sha256 of what the list says, whatever file holds it. A person's decisions carry it, so that decisions
made on another list are refused. result.json has a checksum of its own beside it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl.artifacts import label_list
from noisyctl.artifacts.label_list import LabelList
from noisyctl.errors import ArtifactError, DataError, suggest

LABELS, PARQUET = label_list.CSV, label_list.PARQUET
REPORT = "report.html"
REPORT_PHOTOS = "report-photos"
MODEL = "model"
WORK = "work"
MODEL = "model"
ABOUT = "result.json"
KIND = "result of clean"
VERSION = 3

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
TRAIN = "train"  # the part of photos of which nothing else is said
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
    photo, or "". `group` is what the user said belongs together, or "". `annotations` are the labels of several people, if
    there were several: pairs of a person and a label.
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
    annotations: tuple[tuple[str, str], ...] = ()
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
    def has_photos(self) -> bool:
        """Whether the list is of photos, and not of vectors alone."""
        return any(row.path for row in self.rows)

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


def as_about(
    labels: LabelList,
    out: Path,
    root: Path,
    class_names: Sequence[str],
    *,
    noise: Noise | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The text of result.json, for a list that will lie in the folder `out`.

    `splits` are the ids of the photos of the parts beside train: test, val; None where the photos have no parts. The place
    of the photos is kept relative to `out`, so that both can be moved together.
    """
    about: dict[str, Any] = {
        "kind": KIND,
        "schema_version": VERSION,
        "digest": digest_of(labels),
        "root": Path(os.path.relpath(root.resolve(), out.resolve())).as_posix(),
        "class_names": list(class_names),
        "splits": None if splits is None else {name: sorted(ids) for name, ids in splits.items()},
    }
    if noise is not None:
        about["noise"] = {
            "wrong": noise.wrong,
            "low": noise.low,
            "high": noise.high,
            "level": noise.level,
        }
    about["checksum"] = _checksum(about)
    return json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _checksum(about: Mapping[str, Any]) -> str:
    """The sha256 of what result.json says beside it."""
    said = {name: value for name, value in about.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def digest_of(labels: LabelList) -> str:
    """The sha256 of a list, with probabilities of as many digits as labels.csv has."""
    digest = hashlib.sha256(json.dumps([label_list.VERSION, list(labels.opinions)]).encode())
    for row in _listed(labels, {}):
        said = [
            row.id,
            row.path,
            row.given,
            row.suggested,
            row.verdict,
            row.rank,
            row.duplicate_of,
            row.group,
            row.annotations,
        ]
        numbers = [f"{p:.{label_list.DIGITS}f}" for p in (row.clean_probability, *row.opinions.values())]
        near = [[one.id, one.label] for one in row.neighbors]
        digest.update(json.dumps([said, numbers, near]).encode())
    return digest.hexdigest()


def read(folder: Path, root: Path | None = None) -> Result:
    """Read the list of a result. `root` is where the photos lie now, if they were moved.

    Raises ArtifactError where something is missing, was changed or is not what clean writes.
    """
    about = _read_about(folder)
    labels = label_list.read(folder / LABELS)
    if digest_of(labels) != about["digest"]:
        raise ArtifactError(
            f"{folder / LABELS} is not as clean wrote it; decide in the report or in a decisions.csv, and {REMAKE}"
        )
    splits = about.get("splits")
    part = {id_: name for name, ids in (splits or {}).items() for id_ in ids}
    place = root if root is not None else (folder / about["root"])
    return Result(
        folder=folder,
        digest=about["digest"],
        root=Path(os.path.normpath(place)),
        class_names=tuple(about["class_names"]),
        opinions=tuple(labels.opinions),
        rows=tuple(_listed(labels, part)),
        noise=Noise(**about["noise"]) if about.get("noise") else None,
        has_splits=splits is not None,
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
            and isinstance(about.get("splits"), dict | None)
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
    if about.get("checksum") != _checksum(about):
        raise ArtifactError(f"{path} is not as clean wrote it; {REMAKE}")
    return about


def _listed(labels: LabelList, part: Mapping[str, str]) -> Iterable[Listed]:
    """The rows, by rank; `part` is the part of a photo that is not for training, by id."""
    opinions = {name: values.tolist() for name, values in labels.opinions.items()}
    none = [""] * len(labels)
    duplicate_of = none if labels.duplicate_of is None else labels.duplicate_of.tolist()
    group = none if labels.group is None else labels.group.tolist()
    near = labels.neighbors or ((),) * len(labels)
    said = labels.annotations or ((),) * len(labels)
    columns = (labels.ids, labels.paths, labels.given, labels.suggested, labels.verdict, labels.rank)
    ids, paths, given, suggested, verdict, rank = (column.tolist() for column in columns)
    for k in sorted(range(len(labels)), key=rank.__getitem__):
        yield Listed(
            id=ids[k],
            path=paths[k],
            given=given[k],
            suggested=suggested[k],
            clean_probability=float(labels.clean_probability[k]),
            verdict=verdict[k],
            rank=rank[k],
            opinions={name: values[k] for name, values in opinions.items()},
            neighbors=tuple(Neighbor(id_, label) for id_, label in near[k]),
            duplicate_of=duplicate_of[k],
            group=group[k],
            annotations=said[k],
            split=part.get(ids[k], TRAIN),
        )
