"""Tell what takes space beside the artifacts, and remove unfinished runs where that is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.cli.types import WholeNumber
from noisyctl.session import Session

CACHE, TRACKING, PLANS = Path(".dvc/cache"), Path("tracking"), Path("plans")


@dataclass(frozen=True)
class Inputs:
    """`days`: remove unfinished runs that nothing was written to for so many days; None: remove nothing."""

    days: int | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """What takes how many bytes, and what was removed."""
    from noisyctl.runs import space

    runs = space.unfinished(session.scratch)
    removed = [one for one in runs if inputs.days is not None and one.days >= inputs.days and not one.at_work]
    removed = [one for one in removed if space.remove(one)]
    left = [one for one in runs if one not in removed]
    return {
        "unfinished": [
            {
                "stage": one.stage,
                "out": one.out,
                "bytes": one.size,
                "days": round(one.days, 1),
                "at_work": one.at_work,
            }
            for one in left
        ],
        "removed": len(removed),
        "freed": sum(one.size for one in removed),
        "places": {
            str(place): space.size_of(place)
            for place in (Path("data"), CACHE, PLANS, TRACKING)
            if place.is_dir()
        },
    }


def _text(found: dict[str, Any]) -> str:
    """The result for people, with the command that frees each."""
    gone = found["removed"]
    lines = [f"removed {gone} unfinished run{'s' * (gone != 1)}, {_size(found['freed'])}"] if gone else []
    runs = found["unfinished"]
    lines.append(f"unfinished runs: {len(runs)}, {_size(sum(one['bytes'] for one in runs))}")
    for one in runs:
        state = "at work" if one["at_work"] else f"waits since {one['days']:g} days"
        lines.append(f"  {one['stage']} for {one['out']}: {_size(one['bytes'])}, {state}")
    if any(not one["at_work"] for one in runs):
        lines.append(
            "  the command of a run goes on with it; `noisyctl gc --unfinished 7` removes those of 7 days or more"
        )
    told = {
        "data": "artifacts",
        str(CACHE): "DVC's cache; `dvc gc --workspace` removes what the present artifacts do not need",
        str(PLANS): "plans, which can be made again",
        str(TRACKING): "curves of --track",
    }
    lines += [f"{place}: {_size(size)}, {told[place]}" for place, size in found["places"].items()]
    return "\n".join(lines)


def _size(size: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} TB"


STAGE = Stage(
    "gc",
    "Tell what takes space: unfinished runs, artifacts, DVC's cache; remove unfinished runs only where asked.",
    "noisyctl gc",
    run,
    lambda given, layout, extra: Inputs(given["unfinished"]),
    options=(
        Option(
            "unfinished",
            "remove unfinished runs that nothing was written to for so many days [none]",
            type=WholeNumber(),
        ),
    ),
    answers=True,
    text=_text,
)
