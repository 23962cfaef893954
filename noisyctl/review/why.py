"""What is known of one photo of the list, as text and as JSON."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ArtifactError
from noisyctl.review import decisions as decided
from noisyctl.review.result import MEANINGS, MODEL, Result

SHOWN = 6  # epochs that are shown to people


def facts(
    result: Result, sample: str, run: Path | None = None, decisions: Sequence[Path] = ()
) -> dict[str, Any]:
    """All that labels.csv holds of the photo with this id or path, how a run learned it, and what people decided on it.

    The run is the model that clean has left beside the list, if no other is named. Raises DataError where there is no such
    photo, or where decisions are not of this list; ArtifactError where the run that is named cannot be read.
    """
    row = result.find(sample)
    copies = [
        one
        for one in result.rows
        if row.id != one.id and (one.duplicate_of or one.id) == (row.duplicate_of or row.id)
    ]
    return {
        "id": row.id,
        "path": row.path,
        "given": row.given,
        "suggested": row.suggested,
        "clean_probability": _finite(row.clean_probability),
        "verdict": row.verdict,
        "rank": row.rank,
        "of": len(result.rows),
        "opinions": {name: _finite(value) for name, value in row.opinions.items()},
        "neighbors": [
            {"id": near.id, "label": near.label, "path": _path(result, near.id)} for near in row.neighbors
        ],
        "duplicates": [{"id": one.id, "path": one.path, "given": one.given} for one in copies],
        "group": row.group,
        "annotations": [{"annotator": who, "label": label} for who, label in row.annotations],
        "training": _training(result, row.id, run),
        "decisions": [
            {"file": one.file, "decision": one.decision, "label": one.label}
            for path in decisions
            if (one := decided.read(path, result).get(row.id))
        ],
    }


def _training(result: Result, sample: str, run: Path | None) -> dict[str, Any] | None:
    """The photo's loss, probability of its label and predicted class, epoch by epoch; None where no run trained on it.

    Of a run with two networks these are means, and the class is that of the run's prediction.
    """
    place = run or result.folder / MODEL
    if run is None and not (place / "trace.zarr").exists():
        return None
    header = files.networks_header(place / "networks.safetensors")
    if header is None:
        raise ArtifactError(f"{place} is no run with networks; give the folder of one, such as RESULT/model")
    trace = store.read(place / "trace.zarr", TRACE)
    found = np.flatnonzero(trace.array("train_id") == sample)
    if not len(found):
        return None
    of_one = {name: trace.array(name)[..., found[0]] for name in _BY_EPOCH if name in trace}
    values = {name: _means(of_one[name]) for name in _BY_EPOCH[:2] if name in of_one}
    told: dict[str, Any] = {"run": str(place), "method": header["method"], **values}
    if "losses" in trace:
        every = trace.array("losses")
        told["median_loss"] = _means(np.nanmedian(every, axis=-1))
    names = header.get("class_names") or list(result.class_names)
    if "train_predictions" in of_one:
        told["predicted"] = [names[k] if k >= 0 else "" for k in of_one["train_predictions"].tolist()]
    return told


_BY_EPOCH = ("losses", "clean_probability", "train_predictions")


def _means(values: np.ndarray) -> list[float | None]:
    """One value for each epoch: the mean over networks."""
    each = values if values.ndim == 1 else np.nanmean(values, axis=1)
    return [None if math.isnan(value) else round(float(value), 6) for value in each.tolist()]


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def _path(result: Result, id_: str) -> str:
    known = result.by_id.get(id_)
    return known.path if known else ""


def text(about: Mapping[str, Any]) -> str:
    """The same for people."""
    given, suggested, near = about["given"], about["suggested"], about["neighbors"]
    group = f", group {about['group']}" if about["group"] else ""
    lines = [
        f"{about['path'] or about['id']}  (id {about['id']}{group})",
        f"  given label      {given}",
        f"  suggested label  {suggested}",
        f"  verdict          {about['verdict']}: {MEANINGS[about['verdict']]}",
        f"  rank             {about['rank']} of {about['of']}, 1 is the most suspicious",
        f"probability that {given!r} is right",
        f"  together         {_percent(about['clean_probability'])}",
        *(f"  {name:<16} {_percent(value)}" for name, value in about["opinions"].items()),
    ]
    if about["annotations"]:
        lines.append("labels that people gave")
        lines += [f"  {one['annotator']:<16} {one['label']}" for one in about["annotations"]]
    if near:
        labels = [one["label"] for one in near]
        counted = f"{labels.count(given)} of {len(near)} are labeled {given!r}"
        if suggested != given:
            counted += f", {labels.count(suggested)} {suggested!r}"
        lines.append(f"most similar photos: {counted}")
        width = max(map(len, labels))
        lines += [f"  {one['label']:<{width}}  {one['path'] or one['id']}" for one in near]
    if about["duplicates"]:
        lines.append("copies of it")
        lines += [f"  {copy['given']}  {copy['path']}" for copy in about["duplicates"]]
    lines += _training_lines(about["training"])
    if about["decisions"]:
        lines.append("decided")
        lines += [f"  {one['decision']} {one['label']}  ({one['file']})" for one in about["decisions"]]
    return "\n".join(line.rstrip() for line in lines)


def _training_lines(training: Mapping[str, Any] | None) -> list[str]:
    """A few epochs, the first and the last among them, one column each."""
    if training is None or not training.get("losses"):
        return []
    number = len(training["losses"])
    chosen = sorted({round(i * (number - 1) / (SHOWN - 1)) for i in range(SHOWN)})
    lines = [f"while {training['method']} was trained ({training['run']})"]
    rows = {"epoch": [str(k + 1) for k in chosen]}
    for name, title in (("losses", "loss"), ("median_loss", "median loss of all")):
        rows[title] = [_short(training[name][k]) for k in chosen]
    if "clean_probability" in training:
        rows["label is right"] = [_short(training["clean_probability"][k]) for k in chosen]
    if "predicted" in training:
        rows["predicted"] = [training["predicted"][k] for k in chosen]
    width = max(len(text) for texts in rows.values() for text in texts)
    return lines + [
        f"  {title:<18} " + " ".join(f"{text:>{width}}" for text in texts) for title, texts in rows.items()
    ]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"
