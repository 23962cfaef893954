"""Draw a random sample for a person, and bound the noise by the answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.cli.types import Share
from noisyctl.errors import ParamsError
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    result: Path
    n: int = 200
    out: Path | None = None
    answers: Path | None = None
    root: Path | None = None
    false_discoveries: float = 0.1
    level: float = 0.95
    before: Path | None = None
    after: Path | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """With answers what they prove; without, write the sample."""
    from noisyctl.review import audit, result
    from noisyctl.seeds import numpy_stream

    listed = result.read(inputs.result, inputs.root)
    place = inputs.out or default_place(inputs.result)
    if inputs.answers is None:
        design = audit.draw(listed, inputs.n, session.seed, numpy_stream(session.seed, "audit"))
        return audit.write(listed, design, place)
    return audit.judge(
        listed,
        inputs.answers,
        place,
        rate=inputs.false_discoveries,
        level=inputs.level,
        predictions=(inputs.before, inputs.after),
    )


def default_place(result: Path) -> Path:
    """Beside the result, for the answers are the person's."""
    return result.with_name(f"{result.resolve().name}-audit")


def _text(about: dict[str, Any]) -> str:
    from noisyctl.review import audit

    return "\n".join(audit.lines(about))


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    return Inputs(
        result=given["result"],
        n=_whole(given["n"]),
        out=given["out"],
        answers=given["answers"],
        root=given["root"],
        false_discoveries=given["false_discoveries"] or 0.1,
        level=given["level"] or 0.95,
        before=given["before"],
        after=given["after"],
    )


def _whole(text: str | None) -> int:
    if text is not None and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ParamsError(f"--n is {text!r}; give a whole number from 1 on")
    return int(text or 200)


STAGE = Stage(
    name="audit",
    summary="Draw a random sample for a person, and bound the noise by the answers.",
    example="noisyctl audit --result photos-clean --n 200",
    run=run,
    inputs=_inputs,
    options=(
        Option("result", "folder that clean wrote", required=True),
        Option("n", "photos to draw [200]", metavar="int"),
        Option("answers", "audit.csv with a person's answers: tell what they prove"),
        Option("out", "folder of the sample [RESULT-audit]"),
        Option("root", "folder of the photos, if they were moved"),
        Option(
            "false_discoveries", "share of right labels that a threshold may let pass [0.1]", type=Share()
        ),
        Option("level", "of the intervals [0.95]", type=Share()),
        Option("before", "predictions.csv of the model before cleaning"),
        Option("after", "predictions.csv of the model after cleaning, compared on the answered photos"),
    ),
    text=_text,
)
