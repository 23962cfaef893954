"""Take back what apply did."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    cleaned: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Remove the folder that apply wrote, if it is as apply left it."""
    from noisyctl.review import apply

    apply.revert(inputs.cleaned)
    return {"removed": str(inputs.cleaned)}


STAGE = Stage(
    name="revert",
    summary="Take back what apply did.",
    example="noisyctl revert cleaned",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["cleaned"]),
    options=(Option("cleaned", "folder that apply wrote", required=True, argument=True),),
    text=lambda about: f"removed {about['removed']}; photos and former labels are as they were",
)
