"""Your own images: a folder per class, or a manifest with the columns path, label and, if you like, split.

Two layouts of folders are told apart by the folders at the top:

  root/<class>/**/image                         all images train
  root/train/<class>/**/image, root/test/...    and val (valid, validation), which is the test if there is no test folder

A manifest may have several people's labels of an image, as rows with a column annotator, or as columns label_ANNA, label_BEN
(noisyctl/datasets/_annotations.py); then `consensus` says how one label is made of them, in each split by its own images.

With a manifest (.csv, .tsv, .parquet) only the images that it names are read. Its paths are relative to the root,
wherever the manifest lies, or absolute and inside the root. A path that leaves the root by `..` is refused; links are
followed. Without a column `split` all images train; val is the test if there is no test. The name of a class is exactly
that of its folder or label. Classes are numbered in the order of their names, as numbers if all of them are whole
numbers.

An id is the first 16 hexadecimal digits of the file's sha256. Of equal files in a split, the second by path gets ID-2,
the third ID-3. A split is sorted by id. So an image that is moved to another class, or whose label is corrected, keeps
its id and its row. Paths are relative to the root, with `/`.

The labels of training images are given labels, which may be wrong. Those of a test split are taken as true, so test
results are only as good as they are. A second manifest (path, label) holds true labels and must cover every image that is
read. A third holds labels that were checked by hand, for any part of the training images.

Every image is turned upright, put on white where it is transparent, scaled so that its shorter side is `image_size`
(bilinear, antialiased), and cropped to its center square. Of an animation the first frame is taken. Files that cannot be
read, or are no images, are listed in the quarantine. Hidden files and Thumbs.db are ignored. The folder is only read.

With `keep: files` every image is decoded once, to know that it can be read, and again whenever it is trained on. This is
for data sets larger than memory.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from noisyctl.datasets import Files, ImageData, Quarantined, Split
from noisyctl.datasets._annotations import (
    Annotations,
    Rule,
    annotator_columns,
    collected,
    counted,
    is_annotated,
)
from noisyctl.datasets._labels import encoded, sorted_classes
from noisyctl.datasets._tables import Table, header_of, read_table
from noisyctl.errors import DataError, few
from noisyctl.images import (
    Pixels,
    Scan,
    arrange,
    content_ids,
    find,
    is_system_file,
    read,
    scan,
    to_ids,
)
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


class Params(BaseParams):
    """`folder` in params.yaml."""

    root: str = param(meaning="folder of the images", path=True)
    manifest: str | None = param(
        None,
        "CSV, TSV or Parquet table with the columns path, label and, if wanted, split; of several people: path, "
        "annotator, label, or path, label_ANNA, label_BEN; none: folders are classes",
        path=True,
    )
    consensus: Rule = param(
        "dawid_skene",
        "how several people's labels become one: by Dawid and Skene's model, or by majority",
        source="ours: right more often on CIFAR-10N (docs/results.md)",
    )
    truth_manifest: str | None = param(
        None, "table with the true label of every image, with the columns path, label", path=True
    )
    verified_manifest: str | None = param(
        None,
        "table with labels of some training images that were checked by hand, with the columns path, label",
        path=True,
    )
    image_size: int = param(
        32,
        "pixels of a side; the shorter side is scaled to it and the center is kept",
        source="ours: as CIFAR",
        ge=1,
    )
    channels: Literal["auto", "rgb", "gray"] = param(
        "auto", "channels of the images; auto: gray if every file is stored in shades of gray"
    )
    on_unreadable: Literal["quarantine", "fail"] = param(
        "quarantine", "what to do about unreadable images: list them and go on, or stop"
    )
    keep: Literal["pixels", "files"] = param(
        "pixels",
        "where the images are kept: their pixels in images.zarr, or in their files, from which they are "
        "decoded while training",
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """An image as the user names it."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class Source:
    """What the folders or the manifest say, before any image is read."""

    samples: list[Sample]
    classes: set[str]
    aside: list[Quarantined]
    layout: str
    annotations: Annotations | None = None  # where several people labeled


def prepare(params: Params) -> ImageData:
    """The user's images with their labels, and the files that were set aside.

    Raises DataError if labels are missing, an image is named twice, or a class has no image to train on.
    """
    root = existing_folder(params.root)
    source = from_manifest(root, params.manifest, params.consensus) if params.manifest else from_folders(root)
    if not source.samples:
        raise DataError(f"no image in {params.manifest or root}{reasons_of(source.aside)}; is --root right?")
    true = read_true_labels(root, params.truth_manifest) if params.truth_manifest else {}
    class_names = sorted_classes(source.classes, params.manifest or str(root))
    samples: dict[str, list[Sample]] = {"train": []}
    for sample in sorted(source.samples, key=lambda sample: sample.path):
        samples.setdefault(sample.split, []).append(sample)
    _require_images(samples, class_names, source, [])  # before the long reading, and again after it
    checked = {}
    if params.verified_manifest:
        checked = read_verified_labels(root, params.verified_manifest, samples["train"], class_names)

    gray, look = params.channels == "gray", read if params.keep == "pixels" else scan
    found: dict[str, Pixels | Scan] = {
        name: look(root, [sample.path for sample in samples[name]], params.image_size, gray=gray)
        for name in sorted(samples, key=("train", "test", "val").index)
    }
    unreadable = [file for split in found.values() for file in split.quarantine]
    if unreadable and params.on_unreadable == "fail":
        raise DataError(
            f"{root}: cannot read {_listed(unreadable)}; repair them, or use --on-unreadable quarantine"
        )
    kept, order, ids = {}, {}, {}
    for name, split in found.items():
        readable = [samples[name][i] for i in np.flatnonzero(split.readable)]
        order[name], ids[name] = content_ids(split.digests, [sample.path for sample in readable])
        kept[name] = [readable[i] for i in order[name]]
    _require_images(kept, class_names, source, unreadable)

    labels = {name: encoded([sample.label for sample in split], class_names) for name, split in kept.items()}
    truth = {name: labels[name] for name in kept if name != "train"}
    if params.truth_manifest:
        truth = true_labels(true, params.truth_manifest, kept, class_names)
    one_channel = gray or (params.channels == "auto" and all(split.all_gray for split in found.values()))
    quarantine = tuple(sorted([*source.aside, *unreadable], key=lambda file: file.path))
    return ImageData(
        splits={
            name: Split(
                _images(split, order[name], params.image_size, one_channel),
                ids[name],
                to_ids([sample.path for sample in kept[name]]),
            )
            for name, split in found.items()
        },
        class_names=class_names,
        views="natural_gray" if one_channel else "natural",
        truth=truth,
        given_labels=labels["train"],
        verified=verified_labels(checked, kept["train"], class_names) if params.verified_manifest else None,
        quarantine=quarantine,
        detected=f"{source.layout}: {len(class_names)} classes, {_counted(kept)}, "
        f"{'gray' if one_channel else 'rgb'}, {len(quarantine)} files in quarantine",
    )


def _counted(kept: Mapping[str, Sequence[Sample]]) -> str:
    """`40 train images, 10 test images`."""
    return ", ".join(f"{len(split)} {name} images" for name, split in kept.items())


def read_images(
    root: Path, image_size: int, channels: Literal["auto", "rgb", "gray"] = "auto"
) -> tuple[UInt8[np.ndarray, "n size size ch"], Shaped[np.ndarray, " n"], tuple[Quarantined, ...]]:
    """All images below a folder, without labels: their pixels, their paths in order, and the files that were set aside."""
    existing_folder(str(root))
    paths, aside = find(root)
    pixels = read(root, paths, image_size, gray=channels == "gray")
    quarantine = sorted([*aside, *pixels.quarantine], key=lambda file: file.path)
    if not len(pixels.images):
        raise DataError(f"{root} has no readable image{reasons_of(quarantine)}; is --root right?")
    kept = to_ids([path for path, readable in zip(paths, pixels.readable, strict=True) if readable])
    one_channel = channels == "gray" or (channels == "auto" and pixels.all_gray)
    return _channels(pixels, one_channel), kept, tuple(quarantine)


def existing_folder(root: str) -> Path:
    """The folder as a path. Raises DataError if there is none."""
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"{root} is not a folder; give the folder of the images as --root")
    return path


def from_folders(root: Path) -> Source:
    """The images of a folder per class, below the folders of the splits if there are any."""
    splits = _split_folders(root)
    paths, aside = find(root)
    depth = 1 if splits else 0
    samples = []
    for path in paths:
        parts = path.split("/")
        if len(parts) > depth + 1:
            samples.append(Sample(path, parts[depth], splits[parts[0]] if splits else "train"))
        else:
            aside.append(Quarantined(path, "it lies in no class folder"))
    tops = [root / name for name, split in splits.items() if split == "train"] or [root]
    empty = {
        name for top in tops for name in _folders(top)
    }  # a class folder without images counts as a class, so that its emptiness is noticed
    classes = {sample.label for sample in samples} | empty
    names = " and ".join(
        name if name.casefold() == split else f"{name} (as {split})" for name, split in splits.items()
    )
    if len(classes) == 1:
        raise DataError(
            f"{root} holds one class folder, {few(classes)}; give two, or is --root one level too high?"
        )
    layout = f"folders {names}, in them a folder a class" if splits else "a folder a class"
    return Source(samples, classes, aside, layout)


def _split_folders(root: Path) -> dict[str, str]:
    """The folders at the top that are splits, with the split of each; empty if the folders are classes."""
    folders = _folders(root)
    splits = {name: SPLITS[name.casefold()] for name in folders if name.casefold() in SPLITS}
    others = [name for name in folders if name not in splits]
    if not splits or (others and not ("train" in splits.values() and len(splits) > 1)):
        return {}
    if others:
        raise DataError(
            f"{root} holds {few(splits)} beside {few(others)}: splits or classes? Move one kind elsewhere"
        )
    if "train" not in splits.values():
        raise DataError(
            f"{root} holds {few(folders)}, and no train folder: move the images to train on to {root / 'train'}/CLASS; or, "
            "if these are classes, keep them beside a class of another name or name them in a --manifest"
        )
    if len(set(splits.values())) < len(splits):
        raise DataError(
            f"{root} holds {few(folders)}; have one train folder, and at most one test and one val folder: move "
            "images of the same split into one of them"
        )
    if "test" not in splits.values():
        splits = {name: "test" if split == "val" else split for name, split in splits.items()}
    return splits


def _folders(path: Path) -> list[str]:
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208
    except OSError:  # `find` sets the folder aside
        return []
    return [name for name in names if os.path.isdir(path / name) and not is_system_file(name)]  # noqa: PTH112


def from_manifest(root: Path, manifest: str, consensus: Rule = "dawid_skene") -> Source:
    """The images that a manifest names."""
    place = Path(manifest).expanduser()
    header = header_of(place)
    annotations = None
    if is_annotated(header):
        labels = ["annotator", "label"] if "annotator" in header else annotator_columns(header)
        table = read_table(place, ["path", *labels], ["split"])
        ids = _named_paths(root, table)
        annotations = collected(table, ids)
    else:
        table = read_table(place, ["path", "label"], ["split"])
        ids, _ = _named_labels(root, table)
    splits = dict.fromkeys(ids, "train")
    if "split" in table.columns:
        splits = _splits(table, ids)
    layout = f"manifest with the columns {', '.join(table.columns)}"
    if annotations is None:
        given = dict(zip(ids, table.columns["label"], strict=True))
    else:
        given = _consensus(annotations, splits, consensus)
        layout = f"{layout}; {counted(annotations)}, one label of each by {consensus}"
    samples = [Sample(name, given[name], split) for name, split in splits.items()]
    several = annotations is not None and len(annotations.annotators) > 1
    return Source(samples, set(given.values()), [], layout, annotations if several else None)


def _splits(table: Table, ids: Sequence[str]) -> dict[str, str]:
    """The split of each image. Raises DataError where one is unknown, or where rows of an image differ."""
    _require_filled(table, "split")
    names = [text.strip().casefold() for text in table.columns["split"]]
    if unknown := sorted(set(names) - set(SPLITS)):
        raise DataError(f"{table.path}: split is {few(unknown)}; write train, test or val")
    splits = [SPLITS[name] for name in names]
    if "test" not in splits:
        splits = ["test" if name == "val" else name for name in splits]
    found: dict[str, str] = {}
    for name, split in zip(ids, splits, strict=True):
        if found.setdefault(name, split) != split:
            raise DataError(
                f"{table.path}: {name!r} is in the splits {found[name]} and {split}; write one of them in all its rows"
            )
    return found


def _consensus(annotations: Annotations, splits: Mapping[str, str], rule: Rule) -> dict[str, str]:
    """One label of each image. Each split has a model of its own, so that no training label depends on test labels."""
    found: dict[str, str] = {}
    for split in dict.fromkeys(splits.values()):
        inside = sorted(name for name, of in splits.items() if of == split)
        found |= dict(zip(inside, annotations.labels(inside, rule), strict=True))
    return found


def _named_paths(root: Path, table: Table) -> list[str]:
    """The paths of a table's rows, relative to the root. Raises DataError if one is blank or leaves the root."""
    _require_filled(table, "path")
    texts = table.columns["path"]
    ids = [_inside(root, text) for text in texts]
    if outside := [text for text, name in zip(texts, ids, strict=True) if not name]:
        raise DataError(
            f"{table.path}: {few(outside)} lie outside the root {root}; paths are relative to the root"
        )
    return ids


def _named_labels(root: Path, table: Table) -> tuple[list[str], list[str]]:
    """Paths and labels of a table. Raises DataError if one is blank, a path leaves the root, or an image is named twice."""
    _require_filled(table, "path")
    _require_filled(table, "label")
    ids = _named_paths(root, table)
    seen: set[str] = set()
    twice = {name: None for name in ids if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    if twice:
        raise DataError(
            f"{table.path} names {few(twice)} more than once; keep one row per image, or name who gave which label in a "
            "column annotator"
        )
    return ids, table.columns["label"]


def _require_filled(table: Table, column: str) -> None:
    blank = [row for row, text in zip(table.rows, table.columns[column], strict=True) if not text.strip()]
    if blank:
        raise DataError(
            f"{table.path}: {column} is missing in {len(blank)} rows ({few(blank)}); fill in or remove them"
        )


def _inside(root: Path, text: str) -> str:
    """The path relative to the root, or "" if it leaves the root. Links are not resolved."""
    top = os.path.abspath(root)  # noqa: PTH100 - resolve() would follow links
    path = PurePath(os.path.normpath(os.path.join(top, text)))  # noqa: PTH118
    return path.relative_to(top).as_posix() if path != PurePath(top) and path.is_relative_to(top) else ""


def read_true_labels(root: Path, manifest: str) -> dict[str, str]:
    """The label of each image that another manifest names."""
    return dict(
        zip(*_named_labels(root, read_table(Path(manifest).expanduser(), ["path", "label"])), strict=True)
    )


def true_labels(
    true: Mapping[str, str], manifest: str, kept: Mapping[str, Sequence[Sample]], class_names: Sequence[str]
) -> dict[str, Int64[np.ndarray, " _"]]:
    """The true labels of all images that are kept. Those of other images are ignored."""
    paths = sorted(sample.path for split in kept.values() for sample in split)
    if missing := [path for path in paths if path not in true]:
        raise DataError(
            f"{manifest} lacks {len(missing)} of {len(paths)} images ({few(missing)}); add a row for each"
        )
    known = set(class_names)
    if unknown := {true[path]: None for path in paths if true[path] not in known}:
        raise DataError(
            f"{manifest}: the true labels {few(unknown)} are not classes of the given labels "
            f"({few(class_names)}); correct them, or leave those images out"
        )
    return {
        name: encoded([true[sample.path] for sample in split], class_names) for name, split in kept.items()
    }


def read_verified_labels(
    root: Path, manifest: str, train: Sequence[Sample], class_names: Sequence[str]
) -> dict[str, str]:
    """The checked label of each training image that a manifest names."""
    checked = read_true_labels(root, manifest)
    names = {sample.path for sample in train}
    if unknown := [name for name in checked if name not in names]:
        raise DataError(
            f"{manifest}: {few(unknown)} are not training images; correct the paths or remove the rows"
        )
    known = set(class_names)
    if classes := {label: None for label in checked.values() if label not in known}:
        raise DataError(
            f"{manifest}: the labels {few(classes)} are not classes ({few(class_names)}); correct them or remove the rows"
        )
    return checked


def verified_labels(
    checked: Mapping[str, str], train: Sequence[Sample], class_names: Sequence[str]
) -> tuple[Int64[np.ndarray, " v"], Int64[np.ndarray, " v"]]:
    """Positions and labels of the checked images among those that could be read."""
    index = [row for row, sample in enumerate(train) if sample.path in checked]
    return np.array(index, np.int64), encoded([checked[train[row].path] for row in index], class_names)


def _require_images(
    samples: Mapping[str, Sequence[Sample]],
    class_names: Sequence[str],
    source: Source,
    unreadable: Sequence[Quarantined],
) -> None:
    """Raises DataError if a class has no image to train on, or a split has no image."""
    trained = {sample.label for sample in samples["train"]}
    if lacking := [name for name in class_names if name not in trained]:
        labels = {sample.path: sample.label for sample in source.samples}
        related = [file for file in (*unreadable, *source.aside) if _is_of(file.path, lacking, labels)]
        raise DataError(
            f"no readable training image of the class {few(lacking)}{reasons_of(related)}; "
            "add images to train on, or remove the class from all splits"
        )
    if empty := [name for name, split in samples.items() if not split]:
        raise DataError(
            f"no readable image in the split {few(empty)}{reasons_of(unreadable)}; add images or remove it"
        )


def _is_of(path: str, classes: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Whether a file belongs to one of the classes: by its label, or by its folders if it never got a label."""
    return labels[path] in classes if path in labels else not set(classes).isdisjoint(path.split("/"))


def _images(
    found: Pixels | Scan, order: Int64[np.ndarray, " n"], image_size: int, one_channel: bool
) -> UInt8[np.ndarray, "n size size ch"] | Files:
    if isinstance(found, Pixels):
        return arrange(_channels(found, one_channel), order)
    counts = found.value_counts[:1] if one_channel else found.value_counts
    return Files(image_size, counts, found.checksums[order])


def _channels(pixels: Pixels, one_channel: bool) -> UInt8[np.ndarray, "n size size ch"]:
    """The images with all channels, or with the first one alone, which in shades of gray equals the others."""
    return pixels.images[..., :1].copy() if one_channel and pixels.images.shape[-1] > 1 else pixels.images


def _listed(files: Sequence[Quarantined]) -> str:
    return few(f"{file.path} ({file.reason})" for file in files)


def reasons_of(files: Sequence[Quarantined]) -> str:
    return f" (set aside: {_listed(files)})" if files else ""
