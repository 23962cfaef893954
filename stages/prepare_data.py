"""Bring a data set to images.zarr, and its labels to truth.zarr (known to be right) or labels.zarr (as given)."""

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import csv_files, files, store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, PATHS, TRUTH, VERIFIED
from noisyctl.cli.stage import Option, Stage, inside, modules_in
from noisyctl.layout import FILES
from noisyctl.session import Session

QUARANTINE = files.Text((",".join(csv_files.QUARANTINE),))


@dataclass(frozen=True)
class Inputs:
    kind: str
    out: Path


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write the artifacts of one data set and return its counts."""
    from noisyctl import datasets
    from noisyctl.datasets._images import images_are_reported_to

    with images_are_reported_to(session.progress("prepare-data", "images")):
        data = datasets.load(inputs.kind).prepare(params)
    if inputs.kind == "features":
        counts, written = _write_features(inputs, data)
    else:
        counts, written = _write_images(inputs, data, getattr(params, "root", None))
    removed = _remove_stale(inputs.out, written)
    return counts | ({"removed": ", ".join(removed)} if removed else {})


def _remove_stale(out: Path, written: set[str]) -> list[str]:
    """Remove what an earlier run of this command wrote and the present one did not, and give the names."""
    forms = {**WRITES(out).places, out / FILES: files.Link()}
    others = [p for p in forms if p.name not in written and os.path.lexists(p)]
    stale = [p for p in others if forms[p].foreign(p) is None and not _of_another_command(p)]
    for path in stale:
        files.discard(path)
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


def _write_images(inputs: Inputs, data: Any, root: str | None) -> tuple[dict[str, Any], set[str]]:
    """The counts, and the names of what was written."""
    from noisyctl.datasets import Files

    arrays = {f"{name}_id": split.ids for name, split in data.splits.items()}
    names = list(data.class_names)
    about = {"mean": list(data.mean), "std": list(data.std), "views": data.views}
    for name, split in data.splits.items():
        if isinstance(split.images, Files):
            arrays[f"{name}_checksum"] = split.images.checksums
            about["image_size"] = split.images.image_size
        else:
            arrays[name] = split.images
    digest = store.write(
        inputs.out / "images.zarr", IMAGES, arrays, params={"dataset": inputs.kind}, attributes=about
    )
    written = {"images.zarr"}
    paths = {f"{name}_path": split.paths for name, split in data.splits.items() if split.paths is not None}
    if paths:  # the images come from files of their own
        written.add("paths.zarr")
        store.write(inputs.out / "paths.zarr", PATHS, paths, inputs={"images": digest})
    if root is not None and "image_size" in about:
        written.add(FILES)
        _link(inputs.out / FILES, Path(root).expanduser().resolve())
    if data.truth:
        written.add("truth.zarr")
        truth = {
            ("clean_labels" if split == "train" else f"{split}_labels"): y for split, y in data.truth.items()
        }
        store.write(
            inputs.out / "truth.zarr",
            TRUTH,
            truth,
            inputs={"images": digest},
            attributes={"class_names": names},
        )
    if data.given_labels is not None:
        written.add("labels.zarr")
        _write_labels(inputs.out, data.given_labels, names, digest)
    if data.verified is not None:
        written.add("verified.zarr")
        index, labels = data.verified
        store.write(
            inputs.out / "verified.zarr",
            VERIFIED,
            {"index": index, "verified_labels": labels},
            inputs={"images": digest},
            attributes={"class_names": names},
        )
    if data.quarantine:
        written.add("quarantine.csv")
        _write_quarantine(inputs.out / "quarantine.csv", data.quarantine)
    counts = {f"{name} images": len(split.ids) for name, split in data.splits.items()}
    return counts | {
        "classes": len(names),
        "quarantined": len(data.quarantine),
        "found": data.detected,
    }, written


def _link(link: Path, root: Path) -> None:
    """Images that stay in their files are found through a link: no absolute path enters an artifact."""
    with files.publish(link, files.Link()) as partial:
        partial.symlink_to(root, target_is_directory=True)


def _write_features(inputs: Inputs, data: Any) -> tuple[dict[str, Any], set[str]]:
    """The counts, and the names of what was written."""
    arrays = {"features": np.asarray(data.features), "embeddings": np.asarray(data.features)}
    digest = store.write(inputs.out / "features.zarr", FEATURES, arrays, params={"dataset": "features"})
    written = {"features.zarr"}
    if data.given_labels is not None:
        written.add("labels.zarr")
        _write_labels(inputs.out, data.given_labels, list(data.class_names), digest, train_id=data.ids)
    counts = {"rows": len(data.features), "classes": len(data.class_names), "found": data.detected}
    return counts, written


def _write_labels(out: Path, labels: np.ndarray, names: list[str], digest: str, **ids: np.ndarray) -> None:
    store.write(
        out / "labels.zarr",
        LABELS,
        {"noisy_labels": labels, **ids},
        inputs={"images": digest},
        attributes={"class_names": names},
    )


def _write_quarantine(path: Path, quarantined: Any) -> None:
    with files.publish(path, QUARANTINE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = ((item.path, item.reason) for item in quarantined)
        csv_files.write(file, itertools.chain([csv_files.QUARANTINE], rows))


WRITES = inside(
    "images.zarr",
    "paths.zarr",
    "truth.zarr",
    "labels.zarr",
    "verified.zarr",
    "features.zarr",
    quarantine=QUARANTINE,
)
STAGE = Stage(
    name="prepare-data",
    summary="Bring a data set or your own folder of images to images.zarr.",
    example="noisyctl prepare-data --dataset digits --out data/digits",
    run=run,
    inputs=lambda given, layout, extra: Inputs(extra["kind"], given["out"]),
    options=(Option("out", "folder to write", lambda layout: layout.home, writes=WRITES),),
    fields=modules_in("noisyctl.datasets"),
)
