"""Data sets that come with lists of their image files: reading the lists, and the images that they name.

Images stay in their files. A listed file that cannot be used is set aside with a reason, and never left out silently.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from noisyctl.datasets import Files, ImageData, Quarantined, Split
from noisyctl.errors import DataError, few
from noisyctl.images import content_ids, scan, to_ids

IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # mean and deviation of each channel


@dataclass(frozen=True)
class Origin:
    """Where a data set can be had, on which terms, and which files and folders belong in its folder.

    `sizes` are the published numbers of images that are listed with the default params.
    """

    name: str
    site: str
    terms: str
    layout: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def cure(self) -> str:
        """What to get, and the command that says what is missing."""
        return f"get it from {self.site}; `noisyctl check-data {self.name} FOLDER` says what is missing"


@dataclass(frozen=True)
class Lists:
    """What the lists say: for each split the label of each image, in order. Paths are relative to the root.

    `verified` are the labels of training images that were checked by hand.
    """

    splits: dict[str, dict[str, int]]
    class_names: tuple[str, ...]
    verified: dict[str, int] = field(default_factory=dict)
    aside: list[Quarantined] = field(default_factory=list)


def existing_root(root: str, origin: Origin) -> Path:
    """The folder as a path. Raises DataError if there is none."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"{root} is not a folder; {origin.cure}")
    return path


def read_lines(path: Path, origin: Origin) -> list[str]:
    """The lines of a file, stripped. Empty lines are kept, so that lines can be numbered."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {origin.cure}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; {origin.cure}") from error
    return [line.strip() for line in text.splitlines()]


def read_keys(path: Path, origin: Origin) -> list[str]:
    """The lines that are not empty; each names an image."""
    return [line for line in read_lines(path, origin) if line]


def read_labeled(path: Path, num_classes: int, origin: Origin) -> list[tuple[str, int]]:
    """Lines with an image and its label. Raises DataError, which names the first line that is not so."""
    pairs = []
    for number, line in enumerate(read_lines(path, origin), start=1):
        if not line:
            continue
        key, *label = line.rsplit(maxsplit=1)
        if not (label and label[0].isascii() and label[0].isdigit() and int(label[0]) < num_classes):
            raise DataError(
                f"{path}:{number}: {line!r} is not an image and a label of 0 to {num_classes - 1}; {origin.cure}"
            )
        pairs.append((key, int(label[0])))
    return pairs


def first_of_each(pairs: Iterable[tuple[str, int]], aside: list[Quarantined]) -> dict[str, int]:
    """The pairs as a dict. An image that is listed again is set aside."""
    found: dict[str, int] = {}
    for path, label in pairs:
        if path in found:
            aside.append(Quarantined(path, "listed more than once; its first label is kept"))
        else:
            found[path] = label
    return found


def labels_of(
    keys: Iterable[str], labels: Mapping[str, int], where: Path, origin: Origin
) -> list[tuple[str, int]]:
    """Each image with its label. Raises DataError if an image has none in `where`."""
    keys = list(keys)
    if missing := [key for key in keys if key not in labels]:
        raise DataError(f"{where} has no label for {few(missing)}; {origin.cure}")
    return [(key, labels[key]) for key in keys]


def below(root: Path, folder: Path) -> str:
    """The prefix that leads from the root to another folder: "" or, for example, "../food-101/"."""
    path = Path(os.path.relpath(folder.resolve(), root.resolve())).as_posix()
    return "" if path == "." else f"{path}/"


def drawn(images: dict[str, int], share: float, seed: int) -> dict[str, int]:
    """A share of the images of each class, but at least one, drawn at random; they stay in their order."""
    if share == 1:
        return images
    rng = np.random.default_rng(seed)
    labels = np.array(list(images.values()), np.int64)
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        kept[rows[: max(1, round(share * len(rows)))]] = True
    return {path: label for (path, label), keep in zip(images.items(), kept, strict=True) if keep}


def image_data(
    root: Path,
    lists: Lists,
    image_size: int,
    views: Mapping[str, Any],
    normalization: tuple[tuple[float, float], ...] | None,
) -> ImageData:
    """The data set of these lists. Every listed image is decoded once, to know that it can be read.

    Ids and order depend on the content of the files, as for own images. Raises DataError if a training image is also
    in another split, or if a split or a class has no readable image.
    """
    train = lists.splits["train"]
    for name, images in lists.splits.items():
        if name != "train" and (both := [path for path in images if path in train]):
            raise DataError(
                f"{root}: {few(both)} are listed for train and for {name}; take them out of one list"
            )
    splits, labels, aside = {}, {}, list(lists.aside)
    for name, images in lists.splits.items():
        paths = list(images)
        found = scan(root, paths, image_size, gray=False)
        aside += found.quarantine
        kept = [path for path, readable in zip(paths, found.readable, strict=True) if readable]
        order, ids = content_ids(found.digests, kept)
        kept = [kept[i] for i in order]
        if not kept:
            reasons = few(f"{file.path} ({file.reason})" for file in found.quarantine)
            raise DataError(
                f"{root}: no readable image in the split {name!r} (set aside: {reasons}); is --root right?"
            )
        files = Files(image_size, found.value_counts, found.checksums[order])
        splits[name] = Split(files, ids, to_ids(kept))
        labels[name] = np.array([images[path] for path in kept], np.int64)
    given, train_paths = labels.pop("train"), splits["train"].paths
    assert train_paths is not None
    counts = np.bincount(given, minlength=len(lists.class_names))
    if empty := [lists.class_names[label] for label in np.flatnonzero(counts == 0)]:
        raise DataError(f"{root}: no readable training image of {few(empty)}; restore the images")
    return ImageData(
        splits=splits,
        class_names=lists.class_names,
        views=views,
        truth=labels,
        given_labels=given,
        verified=_verified(lists.verified, train_paths.tolist()),
        quarantine=tuple(sorted(aside, key=lambda file: file.path)),
        normalization=normalization,
        detected=", ".join(f"{len(split.ids)} {name} images" for name, split in splits.items())
        + f", {len(aside)} files in quarantine",
    )


def _verified(
    checked: Mapping[str, int], train: list[str]
) -> tuple[Int64[np.ndarray, " v"], Int64[np.ndarray, " v"]] | None:
    """Positions and labels of the checked images; None if there are none."""
    rows = [row for row, path in enumerate(train) if path in checked]
    if not rows:
        return None
    return np.array(rows, np.int64), np.array([checked[train[row]] for row in rows], np.int64)
