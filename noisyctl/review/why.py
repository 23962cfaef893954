"""What is known of one photo of the list, as text and as JSON."""

import math
from collections.abc import Mapping
from typing import Any

from noisyctl.review.result import MEANINGS, Result


def facts(result: Result, sample: str) -> dict[str, Any]:
    """All that labels.csv holds of the photo with this id or path. Raises DataError where there is none."""
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
    }


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
    return "\n".join(line.rstrip() for line in lines)


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"
