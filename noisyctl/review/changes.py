"""What happened to the photos since the list was made: added ones, and moved ones, which are known by their content.

Where folders are the classes, an added photo has the label of its folder, and so has one that was moved to another class.
Where a manifest gave the labels, an added photo has none and is not looked for, and a moved one keeps its label.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from noisyctl.artifacts import csv_files
from noisyctl.datasets.folder import SPLITS
from noisyctl.images import find
from noisyctl.review.photos import content_of, digits_of
from noisyctl.review.result import WORK, Listed, Result

COLUMNS = ("path", "change", "now", "label")


@dataclass(frozen=True)
class Changes:
    """Moved photos by their id, as they are called and labeled now, and added ones, whose `id` is made up here."""

    moved: Mapping[str, Listed] = field(default_factory=dict)
    added: tuple[Listed, ...] = ()

    def rows(self, result: Result) -> list[tuple[str, ...]]:
        """For changes.csv: former path, what happened, path now, label of its folder now."""
        moved = [
            (result.by_id[id_].path, "moved", photo.path, photo.given) for id_, photo in self.moved.items()
        ]
        return [*sorted(moved), *((photo.path, "added", photo.path, photo.given) for photo in self.added)]


def since(result: Result) -> Changes:
    """The photos below the root that the list does not have. They are opened only where some of the list are gone."""
    by_folder = all(_label(row.path, result) == row.given for row in result.rows)
    known = {row.path for row in result.rows} | _set_aside(result)
    unknown = [path for path in find(result.root)[0] if path not in known]
    in_order = sorted(result.rows, key=lambda row: row.path)
    gone = [row for row in in_order if not (result.root / row.path).is_file()]
    by_content: dict[str, list[Listed]] = {}
    for row in gone:
        if digits := digits_of(row.id):
            by_content.setdefault(digits, []).append(row)
    moved: dict[str, Listed] = {}
    added: list[Listed] = []
    for path in unknown:
        label = _label(path, result)
        former = by_content.get(content_of(result.root / path), []) if by_content else []
        if former:
            row = former.pop(0)
            now = label if by_folder and label else row.given
            moved[row.id] = replace(row, path=path, given=now, split=_part(path, row, result))
        elif by_folder and label:
            added.append(_added(path, label, len(added), result))
    return Changes(moved, tuple(added))


def _added(path: str, label: str, number: int, result: Result) -> Listed:
    nothing = Listed(f"added-{number}", path, label, label, float("nan"), "", 0)
    return replace(nothing, split=_part(path, nothing, result))


def _label(path: str, result: Result) -> str:
    """The class's folder that a photo lies in; "" where it lies in none."""
    parts = path.split("/")
    depth = 1 if result.has_splits and parts[0].casefold() in SPLITS else 0
    return parts[depth] if len(parts) > depth + 1 else ""


def _part(path: str, row: Listed, result: Result) -> str:
    """The part that a photo lies in now; that of the list where folders do not tell."""
    top = path.split("/")[0].casefold()
    if not result.has_splits or top not in SPLITS:
        return row.split
    return SPLITS[top]


def _set_aside(result: Result) -> set[str]:
    """Files that clean could not use: they are not in the list, and are not new."""
    path = result.folder / WORK / "quarantine.csv"
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {csv_files.unquoted(row["path"]) for row in csv.DictReader(file)}
