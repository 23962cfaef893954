"""Write the list, with decisions, for other tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.session import Session

FORMATS = "imagefolder|huggingface|fiftyone|label-studio|cvat|cleanlab"


@dataclass(frozen=True)
class Inputs:
    result: Path
    to: str
    out: Path
    decisions: tuple[Path, ...] = ()
    root: Path | None = None
    how: str = "links"


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the export to a folder of its own."""
    from noisyctl.review import export, photos, result

    how = photos.require_as(inputs.how)
    listed = result.read(inputs.result, inputs.root)
    return export.export(listed, inputs.to, inputs.out, decisions=inputs.decisions, how=how)


def _text(about: dict[str, Any]) -> str:
    told = [f"{about[name]} {words}" for name, words in _LEFT.items() if about[name]]
    return f"{about['photos']} photos in {about['out']}" + (f"; {', '.join(told)}" if told else "")


_LEFT = {"dropped": "were dropped", "left_out": "are gone or were replaced since the list was made"}
STAGE = Stage(
    name="export",
    summary="Write the list, with decisions, for other tools.",
    example="noisyctl export --result photos-clean --to huggingface --out for-training",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["result"],
        given["to"],
        given["out"],
        tuple(given["decisions"]),
        given["root"],
        given["as_"] or "links",
    ),
    options=(
        Option("result", "folder that clean wrote", required=True),
        Option("to", "tool or format", required=True, metavar=FORMATS),
        Option("out", "folder to write", required=True),
        Option("decisions", "decisions.csv, repeatable [none: the given labels]", multiple=True),
        Option("root", "folder of the photos, if they were moved"),
        Option("as_", "photos as links or as copies [links]", metavar="links|copies"),
    ),
    text=_text,
)
