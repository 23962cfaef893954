"""What is known of one photo of the list, as text and as JSON."""

import math
from typing import Any

from noisyctl.review.result import DROP, DUPLICATE, KEEP, LOOK, RELABEL, Listed, Result


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
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def _path(result: Result, id_: str) -> str:
    known = result.by_id.get(id_)
    return known.path if known else ""


def text(result: Result, sample: str) -> str:
    """The same for people."""
    row, about = result.find(sample), facts(result, sample)
    lines = [
        f"{row.path or row.id}  (id {row.id}{f', group {row.group}' if row.group else ''})",
        f"  given label      {row.given}",
        f"  suggested label  {row.suggested}",
        f"  verdict          {row.verdict}: {_reason(row)}",
        f"  rank             {row.rank} of {about['of']}, 1 is the most suspicious",
        f"probability that {row.given!r} is right",
        f"  together         {_percent(row.clean_probability)}",
        *(f"  {name:<16} {_percent(value)}" for name, value in row.opinions.items()),
    ]
    if row.neighbors:
        same = sum(near.label == row.given for near in row.neighbors)
        other = sum(near.label == row.suggested for near in row.neighbors)
        counted = f"{same} of {len(row.neighbors)} are labeled {row.given!r}"
        if row.suggested != row.given:
            counted += f", {other} {row.suggested!r}"
        lines.append(f"most similar photos: {counted}")
        width = max(len(near.label) for near in row.neighbors)
        lines += [f"  {near.label:<{width}}  {_path(result, near.id) or near.id}" for near in row.neighbors]
    if about["duplicates"]:
        lines.append("copies of it")
        lines += [f"  {copy['given']}  {copy['path']}" for copy in about["duplicates"]]
    return "\n".join(line.rstrip() for line in lines)


def _percent(value: float) -> str:
    return "not known" if math.isnan(value) else f"{100 * value:.1f} %"


def _reason(row: Listed) -> str:
    return {
        KEEP: "nothing speaks against the label",
        RELABEL: f"the label looks wrong, {row.suggested!r} fits",
        LOOK: "doubtful, a person has to look",
        DROP: "it seems to belong to no class",
        DUPLICATE: "a copy of another photo",
    }[row.verdict]
