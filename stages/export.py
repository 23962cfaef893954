"""Write the list, with decisions, for other tools; or a model as one file that needs no noisyctl."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.cli.types import OneOf
from noisyctl.errors import ParamsError
from noisyctl.session import Session

FORMATS = "imagefolder|huggingface|fiftyone|label-studio|cvat|cleanlab"


@dataclass(frozen=True)
class Inputs:
    result: Path | None
    to: str | None
    out: Path
    decisions: tuple[Path, ...] = ()
    root: Path | None = None
    how: str = "links"
    model: str | None = None
    run: Path | None = None
    weights: Path | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the list to a folder of its own, or the model to a file."""
    if inputs.model:
        from noisyctl.runs.export_model import export as export_model

        assert inputs.run is not None
        return export_model(inputs.run, inputs.out, session, weights=inputs.weights)
    from noisyctl.review import export, photos, result

    assert inputs.result is not None and inputs.to is not None
    how = photos.require_as(inputs.how)
    listed = result.read(inputs.result, inputs.root)
    return export.export(listed, inputs.to, inputs.out, decisions=inputs.decisions, how=how)


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    """Raises ParamsError where it is not clear what to export."""
    result, to, model, run = given["result"], given["to"], given["model"], given["run"]
    if model:
        run = run or (result and result / "model")
        if to or run is None:
            raise ParamsError("--model exports a run: give --run DIR, or --result of clean, and no --to")
    elif result is None or to is None:
        raise ParamsError(f"give --result DIR and --to {FORMATS}, or --model onnx and --run DIR")
    return Inputs(
        result,
        to,
        given["out"],
        tuple(given["decisions"]),
        given["root"],
        given["as_"] or "links",
        model,
        run,
        given["weights"],
    )


def _text(about: dict[str, Any]) -> str:
    if "photos" not in about:
        return (
            f"{about['out']} labels images of {about['image_size']} pixels as {about['classes']} classes; in ONNX Runtime "
            f"no probability differs by more than {about['largest_difference']:.1g}"
        )
    told = [f"{about[name]} {words}" for name, words in _LEFT.items() if about[name]]
    return f"{about['photos']} photos in {about['out']}" + (f"; {', '.join(told)}" if told else "")


_LEFT = {"dropped": "were dropped", "left_out": "are gone or were replaced since the list was made"}
STAGE = Stage(
    name="export",
    summary="Write the list, with decisions, for other tools; or a model as ONNX.",
    example="noisyctl export --result photos-clean --to huggingface --out for-training",
    run=run,
    inputs=_inputs,
    options=(
        Option("result", "folder that clean wrote"),
        Option("to", "tool or format", metavar=FORMATS),
        Option("out", "folder to write; with --model a file", required=True),
        Option("decisions", "decisions.csv, repeatable [none: the given labels]", multiple=True),
        Option("root", "folder of the photos, if they were moved"),
        Option("model", "export the model instead of the list", type=OneOf(("onnx",))),
        Option("run", "with --model: folder of a run [that of --result]"),
        Option("weights", "with --model: the file of the encoder's weights, if they came from one"),
        Option("as_", "photos as links or as copies [links]", metavar="links|copies"),
    ),
    text=_text,
)
