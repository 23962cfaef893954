"""`noisyctl clean --features X.npy --labels y.npy`: the list of wrong labels for vectors of your own, without photos.

The steps are those of clean.py without photos, encoder and report: the vectors are checked and stored in OUT/work, every
label is judged, and a model is trained that labels new vectors (`noisyctl predict --run OUT/model --features NEW.npy`).
Each step is left out where what it makes is up to date.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import FEATURES, LABELS
from noisyctl.datasets import features as dataset
from noisyctl.errors import NoisyctlError, OutputError
from noisyctl.review import clean, estimate, model, report
from noisyctl.review import result as results
from noisyctl.review.clean import Cleaned, Found, Tell
from noisyctl.runs.prepare_data import prepare
from noisyctl.session import Session

STEPS = ("prepare", "judge", "model")


@dataclass(frozen=True)
class Vectors:
    """The user's files: vectors with one row per sample, a label for each, and on demand a name for each."""

    array: Path
    labels: Path
    ids: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.array, self.labels) if self.ids is None else (self.array, self.labels, self.ids)


def clean_vectors(
    given: Vectors, out: Path, session: Session, tell: Tell = lambda text: None, *, with_model: bool = True
) -> Cleaned:
    """Make the list and the model for these vectors in the folder `out`, and leave out what is up to date there.

    Raises OutputError where `out` holds something else, DataError where the files do not fit each other.
    """
    require_place(out, given)
    work = out / results.WORK
    work.mkdir(parents=True, exist_ok=True)
    seen = clean.read_seen(work)
    clean.write_seen(work, seen)  # from here on the folder is known as one of clean's
    times = [time.monotonic()]
    done = _prepared(given, work, seen, session)
    features, labels = store.read(work / "features.zarr", FEATURES), store.read(work / "labels.zarr", LABELS)
    names = labels.attributes["class_names"]
    for line in _found_lines(features.lazy("features").shape, labels.array("noisy_labels"), names):
        tell(line)
    times.append(time.monotonic())
    judgement = clean.judged(Found(given.array.parent.absolute(), (), (), "vectors"), out, seen, session)
    done += ["judge"] if judgement is not None else []
    times.append(time.monotonic())
    if report.FORM.foreign(out / results.REPORT) is None:
        files.discard(out / results.REPORT)  # of photos that were judged here before
    if with_model and model.is_due(work, out / results.MODEL, session.seed):
        tell(f"the list is ready: {out / results.LABELS}; now the model that labels new vectors is trained")
        done += clean.trained_model(out, session, tell)
    times.append(time.monotonic())
    took = dict(zip(STEPS, np.diff(times).tolist(), strict=True))
    seconds = {step: took[step] for step in STEPS if step in done}
    return Cleaned(out, tuple(done), 0, judgement, results.read(out), seconds)


def require_place(out: Path, given: Vectors) -> None:
    """Refuse a folder that holds anything but a former result, or the user's files. Raises OutputError."""
    clean.require_former_or_new(out)
    real = Path(os.path.realpath(out))
    for path in given.files:
        if real in Path(os.path.realpath(path)).parents:
            raise OutputError(f"{out} contains {path}; nothing was written. Choose another --out")


def default_out(given: Vectors) -> Path:
    """NAME-clean in the current folder."""
    return Path(f"{given.array.stem}-clean")


def seconds_of(given: Vectors, *, with_model: bool) -> float:
    """About how long a first run takes. Raises DataError where the vectors cannot be read."""
    return estimate.without_photos(len(dataset.read_rows(given.array)), with_model=with_model)


def _prepared(given: Vectors, work: Path, seen: dict[str, Any], session: Session) -> list[str]:
    """features.zarr and labels.zarr, made anew where one of the user's files is another than the last time."""
    stats = [(str(path), *files.size_and_time(path)) for path in given.files]
    now = clean.digest_of(stats)
    if seen.get("vectors") == now and _readable(work):
        return []
    names = None if given.ids is None else str(given.ids)
    prepare(
        "features",
        work,
        dataset.Params(array=str(given.array), labels=str(given.labels), ids=names),
        session,
    )
    for name in ("photos", "labels"):  # of photos that were judged here before
        seen.pop(name, None)
    seen["vectors"] = now
    clean.write_seen(work, seen)
    return ["prepare"]


def _readable(work: Path) -> bool:
    """Whether vectors and labels are there and belong together."""
    try:
        features, labels = (
            store.read(work / "features.zarr", FEATURES),
            store.read(work / "labels.zarr", LABELS),
        )
    except NoisyctlError:
        return False
    return labels.inputs.get("images") == features.digest and "train_id" in labels


def _found_lines(shape: tuple[int, ...], labels: np.ndarray, names: Sequence[str]) -> list[str]:
    counts = np.bincount(labels, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:12].tolist()
    shown = ", ".join(f"{names[k]} {counts[k]}" for k in order)
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return [f"{shape[0]} samples of {shape[1]} features in {len(names)} classes", f"  {shown}{more}"]


def summary(cleaned: Cleaned) -> list[str]:
    """The result in a few lines."""
    out = cleaned.out
    lines = clean.headline(cleaned)
    lines.append(f"List: {out / results.LABELS}")
    if (out / results.MODEL / "trace.zarr").exists():
        lines.append(f"Model: noisyctl predict --run {out / results.MODEL} --features NEW.npy")
    return lines
