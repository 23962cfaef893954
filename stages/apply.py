"""Apply a person's decisions to a copy of the labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage, one
from noisyctl.review.cleaned import CLEANED
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    decisions: tuple[Path, ...]
    result: Path
    out: Path
    root: Path | None = None
    how: str | None = None
    strict: bool = False


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the cleaned manifest, what a person verified, conflicts, and on demand a folder of links or copies."""
    from noisyctl.review import apply, photos, result

    how = None if inputs.how is None else photos.require_as(inputs.how)
    listed = result.read(inputs.result, inputs.root)
    about = apply.apply(inputs.decisions, listed, inputs.out, how=how, strict=inputs.strict)
    return about | {"out": str(inputs.out)}


def _text(about: dict[str, Any]) -> str:
    from noisyctl.review import apply

    return "\n".join(apply.lines(about, Path(about["out"])))


STAGE = Stage(
    name="apply",
    summary="Apply a person's decisions to a copy of the labels.",
    example="noisyctl apply decisions.csv --result photos-clean --out cleaned",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        tuple(given["decisions"]), given["result"], given["out"], given["root"], given["as_"], given["strict"]
    ),
    options=(
        Option(
            "decisions",
            "decisions.csv, of one reviewer or several",
            required=True,
            argument=True,
            multiple=True,
        ),
        Option("result", "folder that clean wrote", required=True),
        Option("out", "folder to write", required=True, writes=one(CLEANED)),
        Option("root", "folder of the photos, if they were moved"),
        Option("as_", "also make a folder of links or copies, by class [neither]", metavar="links|copies"),
        Option("strict", "refuse where reviewers differ or photos are gone", flag=True),
    ),
    text=_text,
)
