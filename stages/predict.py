"""Label a folder of images, or vectors, with a run's model alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import csv_files, files
from noisyctl.cli.stage import CLUSTER, Option, Stage, one
from noisyctl.errors import ParamsError
from noisyctl.session import Session

PREDICTIONS = files.Text((",".join(csv_files.PREDICTIONS),))
MOST_SHOWN = 8  # of the labels


@dataclass(frozen=True)
class Inputs:
    run: Path
    root: Path | None
    out: Path
    weights: Path | None = None
    features: Path | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write predictions.csv: path, label, probability; unreadable files are listed with an empty label."""
    from noisyctl.runs.predict import predict, predict_vectors

    if inputs.features is not None:
        done = predict_vectors(inputs.run, inputs.features, inputs.out, session)
        return done | {"out": str(inputs.out)}
    assert inputs.root is not None
    done = predict(inputs.run, inputs.root, inputs.out, session, weights=inputs.weights)
    return done | {"out": str(inputs.out)}


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    """Raises ParamsError where it is not clear what to label."""
    if (given["root"] is None) == (given["features"] is None):
        raise ParamsError(
            "give --root, a folder of images, or --features, an .npy file of vectors; one of them"
        )
    return Inputs(given["run"], given["root"], given["out"], given["weights"], given["features"])


def _text(result: dict[str, Any]) -> str:
    """One line: how many photos, the most frequent labels, how many could not be read, and where the file is."""
    from noisyctl.cli.tables import printable

    labels = list(result["labels"].items())
    shown = ", ".join(f"{printable(name)} {number}" for name, number in labels[:MOST_SHOWN])
    shown += f" and {len(labels) - MOST_SHOWN} more labels" if len(labels) > MOST_SHOWN else ""
    if "vectors" in result:
        return f"{result['vectors']} vectors labeled: {shown}; {result['out']}"
    unread = (
        f"{result['quarantined']} files could not be read" if result["quarantined"] else "all could be read"
    )
    return f"{result['images']} photos labeled: {shown}; {unread}; {result['out']}"


STAGE = Stage(
    name="predict",
    summary="Label a folder of images with a run's model alone.",
    example="noisyctl predict --run data/photos/runs/mixnn/given-s0 --root photos --out predictions.csv",
    run=run,
    inputs=_inputs,
    options=(
        Option("run", "folder of a run", required=True),
        Option("root", "folder of images"),
        Option("features", "of a run on vectors of your own: .npy file of vectors, one row per sample"),
        Option("weights", "of a run on vectors: the file of the encoder's weights, if they came from one"),
        Option("out", "file to write", lambda layout: Path("predictions.csv"), writes=one(PREDICTIONS)),
        CLUSTER,
    ),
    text=_text,
)
