"""Write the page on which a person looks at the list and decides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    result: Path
    out: Path
    root: Path | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write report.html, and above 3,000 photos a folder of small pictures beside it."""
    from noisyctl.review import report, result

    written = report.write(result.read(inputs.result, inputs.root), inputs.out)
    return {"photos": written.shown, "without_picture": written.unreadable, "out": str(inputs.out)}


def _text(about: dict[str, Any]) -> str:
    unread = f", {about['without_picture']} of them without a picture" if about["without_picture"] else ""
    return f"{about['photos']} photos in {about['out']}{unread}; open it in a browser"


STAGE = Stage(
    name="report",
    summary="Write the page on which a person looks at the list and decides.",
    example="noisyctl report --result photos-clean",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["result"], given["out"] or given["result"] / "report.html", given["root"]
    ),
    options=(
        Option("result", "folder that clean wrote", required=True),
        Option("root", "folder of the photos, if they were moved"),
        Option("out", "file to write [RESULT/report.html]"),
    ),
    text=_text,
)
