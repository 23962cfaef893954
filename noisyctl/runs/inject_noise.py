"""Label noise: from clean labels to noisy ones, the only bridge from truth to training."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl import noise
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, LABELS, NOISE, TRUTH, VERIFIED
from noisyctl.errors import ArtifactError, DataError
from noisyctl.layout import beside
from noisyctl.seeds import numpy_stream
from noisyctl.session import Session


@dataclass(frozen=True)
class Places:
    """What is read and written. `images` are read only by a noise that needs them."""

    truth: Path
    labels: Path
    images: Path | None = None


def inject(
    kind: str, places: Places, params: Any, session: Session, *, verified_per_class: int | None = None
) -> dict[str, Any]:
    """Write labels and, beside them, the facts about their noise, and the verified labels that were asked for.

    `kind` is a module of noisyctl.noise. `verified_per_class` is the number of samples of each class that verified.zarr
    gets with their clean labels; None writes none. Gives the facts: noise, nominal and measured rate, seed.
    """
    truth = store.read(places.truth, TRUTH)
    if "clean_labels" not in truth:
        raise ArtifactError(
            f"{places.truth} has no clean training labels, so no noise can be added; "
            "train on the given labels with --noise given"
        )
    clean, names = truth.array("clean_labels"), truth.attributes["class_names"]
    model = noise.load(kind)
    num_noisy = noise.num_noisy_classes(model, len(names), params)
    needed = _needed(model.NEEDS, kind, places, truth, params, session)
    noisy = model.corrupt(
        clean, len(names), params, numpy_stream(session.seed, "inject-noise", kind), **needed
    )
    about = {"inputs": {"images": truth.inputs["images"]}, "attributes": {"class_names": names[:num_noisy]}}
    verified = None
    if verified_per_class is not None:
        verified = _verified(places.truth, clean, names[:num_noisy], verified_per_class, session)
    digest = store.write(places.labels, LABELS, {"noisy_labels": noisy}, **about)
    if verified:
        store.write(beside(places.labels, "verified"), VERIFIED, verified, **about)
    wrong, matrix = noise.measure(clean, noisy, len(names), num_noisy)
    recorded, files = _recorded(params)
    facts = {
        "noise": kind,
        "nominal_rate": recorded.get("rate"),
        "measured_rate": float(wrong.mean()),
        "seed": session.seed,
    }
    store.write(
        beside(places.labels, "noise"),
        NOISE,
        {"transition_matrix": matrix, "is_mislabeled": wrong},
        params={"kind": kind, **recorded},
        inputs={"truth": truth.digest, "labels": digest, **files},
        attributes=facts | {"convention": {k: v for k, v in recorded.items() if k not in ("rate", "file")}},
    )
    return facts


def _recorded(params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The params as artifacts carry them, and the digest of the file they name: its bytes count, not its place."""
    recorded = params.model_dump()
    if "file" not in recorded:
        return recorded, {}
    path = Path(recorded["file"])
    return recorded | {"file": path.name}, {"file": hashlib.sha256(path.read_bytes()).hexdigest()}


def _verified(
    truth: Path, clean: np.ndarray, names: list[str], number: int, session: Session
) -> dict[str, np.ndarray]:
    """Some samples of each class with their clean labels. Classes without a label, such as open-set ones, give none."""
    counts = np.bincount(clean, minlength=len(names))[: len(names)]
    if counts.min() < number:
        raise DataError(
            f"{truth}: class {names[counts.argmin()]!r} has {counts.min()} training samples, fewer than "
            f"--verified-per-class {number}; give at most {counts.min()}"
        )
    known = np.flatnonzero(clean < len(names))
    picked = noise.pick_per_class(
        clean[known], lambda size: number, numpy_stream(session.seed, "inject-noise", "verified")
    )
    return {"index": known[picked], "verified_labels": clean[known[picked]]}


def _needed(
    needs: tuple[str, ...], kind: str, places: Places, truth: store.Artifact, params: Any, session: Session
) -> Mapping[str, Any]:
    """What a noise model takes beside the labels."""
    if not needs:
        return {}
    if places.images is None:
        raise ArtifactError(f"noise {kind!r} needs the images; give --images images.zarr")
    images = store.read(places.images, IMAGES)
    store.require_input(truth, "images", images.digest, places.images)
    makers = {
        "sample_ids": lambda: images.array("train_id"),
        "sample_paths": lambda: _paths(images),
        "images": lambda: images.array("train"),
        "probabilities": lambda: _probabilities(images, truth, params, session, places.labels),
    }
    return {name: makers[name]() for name in needs}


def _paths(images: store.Artifact) -> np.ndarray | None:
    """Where the training images lie; None where they come from no files of their own."""
    from noisyctl.runs.reading import read_paths

    place = images.path.with_name("paths.zarr")
    return read_paths(place, images).array("train_path") if place.exists() else None


def _probabilities(*known: Any) -> np.ndarray:
    """P(class | image) [n c]; what a classifier needs is imported for the noises that ask for one."""
    from noisyctl.runs.classifier import class_probabilities

    return class_probabilities(*known)
