"""Bring a data set to images.zarr, and its labels to truth.zarr (known to be right) or labels.zarr (as given)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts.files import Writes
from noisyctl.cli.stage import CLUSTER, Option, Stage, known_kind, modules_in
from noisyctl.config import ParamsFile
from noisyctl.layout import Layout
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


def _params(file: ParamsFile, layout: Layout, given: Mapping[str, Any]) -> tuple[str, str]:
    """The block of the data set, and the module of its kind: the block's `kind`, or the data set's own name."""
    from noisyctl import datasets

    block = f"datasets.{layout.dataset}"
    kind = file.block(block).values.get("kind", layout.dataset)
    return block, known_kind(datasets.REGISTRY, kind, file, block)


STAGE = Stage(
    name="prepare-data",
    summary="Bring a data set or your own folder of images to images.zarr.",
    example="noisyctl prepare-data --dataset digits --out data/digits",
    run=run,
    inputs=lambda given, layout, extra: Inputs(extra["kind"], given["out"]),
    options=(Option("out", "folder to write", lambda layout: layout.home, writes=_writes), CLUSTER),
    params=_params,
    by_kind=True,
    fields=modules_in("noisyctl.datasets"),
)
