"""Tell what is known of one photo of the list."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    sample: str
    result: Path
    root: Path | None = None
    run: Path | None = None
    decisions: tuple[Path, ...] = ()


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Label, suggestion, verdict, opinions, neighbors and copies of a photo, how a run learned it, and what was decided."""
    from noisyctl.review import result, why

    return why.facts(result.read(inputs.result, inputs.root), inputs.sample, inputs.run, inputs.decisions)


def _text(facts: dict[str, Any]) -> str:
    from noisyctl.review import why

    return why.text(facts)


STAGE = Stage(
    name="why",
    summary="Tell what is known of one photo of the list.",
    example="noisyctl why photos/dress/07.jpg --result photos-clean",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["sample"], given["result"], given["root"], given["run"], tuple(given["decisions"])
    ),
    options=(
        Option("sample", "id or path of the photo", required=True, argument=True, metavar="id or path"),
        Option("result", "folder that clean wrote", required=True),
        Option("root", "folder of the photos, if they were moved"),
        Option("run", "folder of a run that was trained on the photo [RESULT/model]"),
        Option("decisions", "decisions.csv, repeatable", multiple=True),
    ),
    text=_text,
)
