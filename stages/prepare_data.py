"""Bring a data set to images.zarr, and its labels to truth.zarr (known to be right) or labels.zarr (as given)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts.files import Writes
from noisyctl.cli.stage import Option, Stage, modules_in
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    kind: str
    out: Path


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write the artifacts of one data set and return its counts."""
    from noisyctl.runs.prepare_data import prepare

    return prepare(inputs.kind, inputs.out, params, session)


def _writes(out: Path) -> Writes:
    from noisyctl.runs.prepare_data import outputs

    return Writes(outputs(out), inside=out)


STAGE = Stage(
    name="prepare-data",
    summary="Bring a data set or your own folder of images to images.zarr.",
    example="noisyctl prepare-data --dataset digits --out data/digits",
    run=run,
    inputs=lambda given, layout, extra: Inputs(extra["kind"], given["out"]),
    options=(Option("out", "folder to write", lambda layout: layout.home, writes=_writes),),
    fields=modules_in("noisyctl.datasets"),
)
