"""What happened to the photos since `noisyctl clean` saw them last: moved, new, gone, written anew, or another label.

A moved photo is known by its content. Files are opened only where some are gone and others new, and only the new ones.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, PATHS
from noisyctl.review.photos import content_of, digits_of


@dataclass(frozen=True)
class Since:
    """`former` are the earlier paths of moved photos by their present ones; the others are numbers of photos.

    `same_files` says that no file has changed but for its place.
    """

    former: Mapping[str, str] = field(default_factory=dict)
    new: int = 0
    gone: int = 0
    relabeled: int = 0
    same_files: bool = False

    @property
    def only_moved(self) -> bool:
        """Whether the same photos are there, maybe elsewhere: then their features are those that were made."""
        return self.same_files and not (self.new or self.gone)

    def line(self, due: tuple[str, ...]) -> str:
        """For people, with what is made again of the steps that are `due`; "" where nothing has changed."""
        moved = len(self.former)
        said = [f"{moved} {'photo' if moved == 1 else 'photos'} moved, {self.new} new, {self.gone} gone"]
        if not (moved or self.new or self.gone):
            said = [] if self.same_files else ["files were written anew"]
        if self.relabeled:
            said.append(f"{self.relabeled} {'label' if self.relabeled == 1 else 'labels'} corrected")
        if not said:
            return ""
        kept = "labels and judgement are made again, the features are kept"
        return f"Since the last time: {', '.join(said)}; {'all is made again' if 'embed' in due else kept}."


def since(labels: Mapping[str, str], root: Path, former: Path, work: Path) -> Since:
    """Compare the photos below `root`, labels by path, with those of the table `former` and of the artifacts in `work`.

    `same_files` is left to those who know the files' sizes and times.
    """
    with former.open(newline="", encoding="utf-8") as file:
        before = {row["path"]: row["label"] for row in csv.DictReader(file)}
    gone = sorted(before.keys() - labels.keys())
    unknown = sorted(labels.keys() - before.keys())
    moved: dict[str, str] = {}
    if gone and unknown:
        by_content = _by_content(gone, work)
        for path in unknown:
            if places := by_content.get(content_of(root / path)):
                moved[path] = places.pop(0)
    relabeled = sum(labels[path] != before[path] for path in labels.keys() & before.keys())
    return Since(moved, len(unknown) - len(moved), len(gone) - len(moved), relabeled)


def _by_content(paths: list[str], work: Path) -> dict[str, list[str]]:
    """The paths of photos by the digits of their content."""
    known = store.read(work / "paths.zarr", PATHS).array("train_path").tolist()
    ids = store.read(work / "images.zarr", IMAGES).array("train_id").tolist()
    digits = dict(zip(known, map(digits_of, ids), strict=True))
    found: dict[str, list[str]] = {}
    for path in paths:
        if digits.get(path):
            found.setdefault(digits[path], []).append(path)
    return found
