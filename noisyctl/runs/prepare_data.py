"""A data set as artifacts: its images, and its labels, which are known to be right or are as they were given."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl import datasets
from noisyctl.artifacts import csv_files, files, store
from noisyctl.artifacts.files import Form
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, PATHS, TRUTH, VERIFIED
from noisyctl.datasets import Files, ImageData
from noisyctl.images import (
    Reader,
    Report,
    Some,
    Wanted,
    images_are_read_by,
    images_are_reported_to,
    read_here,
)
from noisyctl.layout import FILES
from noisyctl.session import Session

QUARANTINE = files.Text((",".join(csv_files.QUARANTINE),))
KINDS = (IMAGES, PATHS, TRUTH, LABELS, VERIFIED, FEATURES)


def outputs(out: Path) -> dict[Path, Form]:
    """Every place that `prepare` may write in the folder `out`, beside the link to images, each with its form."""
    return {out / f"{kind.name}.zarr": store.Form(kind) for kind in KINDS} | {
        out / "quarantine.csv": QUARANTINE
    }


def prepare(kind: str, out: Path, params: Any, session: Session) -> dict[str, Any]:
    """Write the artifacts of a data set to the folder `out` and give its counts.

    `kind` is a module of noisyctl.datasets, `params` its Params. Image files are read in parts, and what came of each is
    kept until all is published. What an earlier call wrote there and this one does not is removed, and named.
    """
    with contextlib.ExitStack() as held:
        reading = _reading(kind, params, out, session, held)
        report = session.progress("prepare-data", "images", kept=True)
        with images_are_reported_to(report), images_are_read_by(reading):
            data = datasets.load(kind).prepare(params)
        if isinstance(data, ImageData):
            counts, written = _write_images(kind, out, data, getattr(params, "root", None))
        else:
            counts, written = _write_features(out, data)
        removed = remove_stale(out, written)
    return counts | ({"removed": ", ".join(removed)} if removed else {})


def _reading(kind: str, params: Any, out: Path, session: Session, held: contextlib.ExitStack) -> Reader:
    """Reads image files through kept blocks. A split that is one part is read at once, and nothing of it is kept."""
    through: list[Reader] = []

    def read(wanted: Wanted, paths: list[Sequence[str]], report: Report) -> Iterator[tuple[int, Some]]:
        if len(paths) < 2 and not session.cluster:
            return read_here(wanted, paths, report)
        if not through:
            from noisyctl.runs.kept_images import KeptImages  # most data sets do not wait for torch

            facts = params.model_dump(mode="json")
            through.append(held.enter_context(KeptImages.held(f"prepare-data-{kind}", facts, out, session)))
        return through[0](wanted, paths, report)

    return read


def remove_stale(out: Path, written: set[str]) -> list[str]:
    """Remove what an earlier run of this command wrote and the present one did not, and give the names."""
    forms = {**outputs(out), out / FILES: files.Link()}
    others = [p for p in forms if p.name not in written and os.path.lexists(p)]
    stale = [p for p in others if forms[p].foreign(p) is None and not _of_another_command(p)]
    for path in stale:
        files.discard(path)
    for path in forms.keys() - {out / name for name in written}:
        files.remove_remains(path)  # of a process that was killed while it removed them
    return [path.name for path in stale]


def _of_another_command(path: Path) -> bool:
    """Whether inject-noise wrote these labels, or a pretraining these features: they go by their inputs' digests."""
    if path.name == "features.zarr":
        return bool(_header(path).get("inputs"))
    noise = _header(path.with_name("noise.zarr"))
    labels = _header(path.with_name("labels.zarr"))
    made_from = noise.get("inputs", {}).get("labels")
    return path.name in ("labels.zarr", "verified.zarr") and made_from == labels.get("digest", "")


def _header(path: Path) -> dict[str, Any]:
    """The attributes of an artifact; none where it is missing or damaged."""
    try:
        return dict(json.loads((path / "zarr.json").read_text())["attributes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_images(kind: str, out: Path, data: ImageData, root: str | None) -> tuple[dict[str, Any], set[str]]:
    """The counts, and the names of what was written."""
    arrays, about = _pixels(data)
    digest = store.write(out / "images.zarr", IMAGES, arrays, params={"dataset": kind}, attributes=about)
    written = {"images.zarr"}
    of_images: dict[str, Any] = {
        "inputs": {"images": digest},
        "attributes": {"class_names": list(data.class_names)},
    }
    paths = {f"{name}_path": split.paths for name, split in data.splits.items() if split.paths is not None}
    if paths:  # the images come from files of their own
        written.add("paths.zarr")
        store.write(out / "paths.zarr", PATHS, paths, inputs={"images": digest})
    if root is not None and "image_size" in about:
        written.add(FILES)
        _link(out / FILES, Path(root).expanduser().resolve())
    if data.truth:
        written.add("truth.zarr")
        truth = {("clean_labels" if s == "train" else f"{s}_labels"): y for s, y in data.truth.items()}
        store.write(out / "truth.zarr", TRUTH, truth, **of_images)
    if data.given_labels is not None:
        written.add("labels.zarr")
        store.write(out / "labels.zarr", LABELS, {"noisy_labels": data.given_labels}, **of_images)
    if data.verified is not None:
        written.add("verified.zarr")
        index, labels = data.verified
        store.write(out / "verified.zarr", VERIFIED, {"index": index, "verified_labels": labels}, **of_images)
    if data.quarantine:
        written.add("quarantine.csv")
        _write_quarantine(out / "quarantine.csv", data.quarantine)
    counts: dict[str, Any] = {f"{name} images": len(split.ids) for name, split in data.splits.items()}
    told = {"classes": len(data.class_names), "quarantined": len(data.quarantine), "found": data.detected}
    return counts | told, written


def _pixels(data: ImageData) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and attributes of images.zarr: pixels, or checksums of images that stay in their files."""
    arrays = {f"{name}_id": split.ids for name, split in data.splits.items()}
    about: dict[str, Any] = {"mean": list(data.mean), "std": list(data.std), "views": data.views}
    for name, split in data.splits.items():
        if isinstance(split.images, Files):
            arrays[f"{name}_checksum"] = split.images.checksums
            about["image_size"] = split.images.image_size
        else:
            arrays[name] = split.images
    return arrays, about


def _link(link: Path, root: Path) -> None:
    """Images that stay in their files are found through a link: no absolute path enters an artifact."""
    with files.publish(link, files.Link()) as partial:
        partial.symlink_to(root, target_is_directory=True)


def _write_features(out: Path, data: Any) -> tuple[dict[str, Any], set[str]]:
    """The counts, and the names of what was written."""
    arrays = {"features": np.asarray(data.features), "embeddings": np.asarray(data.features)}
    digest = store.write(out / "features.zarr", FEATURES, arrays, params={"dataset": "features"})
    written = {"features.zarr"}
    if data.given_labels is not None:
        written.add("labels.zarr")
        store.write(
            out / "labels.zarr",
            LABELS,
            {"noisy_labels": data.given_labels, "train_id": data.ids},
            inputs={"images": digest},
            attributes={"class_names": list(data.class_names)},
        )
    counts = {"rows": len(data.features), "classes": len(data.class_names), "found": data.detected}
    return counts, written


def _write_quarantine(path: Path, quarantined: Any) -> None:
    with files.publish(path, QUARANTINE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = ((item.path, item.reason) for item in quarantined)
        csv_files.write(file, itertools.chain([csv_files.QUARANTINE], rows))
