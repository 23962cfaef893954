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


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Label, suggestion, verdict, opinions, neighbors and copies of a photo."""
    from noisyctl.review import result, why

    return why.facts(result.read(inputs.result, inputs.root), inputs.sample)


def _text(facts: dict[str, Any]) -> str:
    from noisyctl.review import why

    return why.text(facts)


STAGE = Stage(
    name="why",
    summary="Tell what is known of one photo of the list.",
    example="noisyctl why photos/dress/07.jpg --result photos-clean",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["sample"], given["result"], given["root"]),
    options=(
        Option("sample", "id or path of the photo", required=True, argument=True, metavar="id or path"),
        Option("result", "folder that clean wrote", required=True),
        Option("root", "folder of the photos, if they were moved"),
    ),
    text=_text,
)
