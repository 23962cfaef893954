"""Mine the nearest neighbors of every training image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import CLUSTER, Option, Stage, one
from noisyctl.runs.mine_knn import Params, mine
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    features: Path
    out: Path


def run(inputs: Inputs, params: Params, session: Session = Session()) -> dict[str, Any]:
    """Write neighbors.zarr."""
    return mine(inputs.features, inputs.out, params, session) | {"out": str(inputs.out)}


STAGE = Stage(
    name="mine-knn",
    summary="Mine the nearest neighbors of every training image.",
    example="noisyctl mine-knn --k 20",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["features"], given["out"]),
    options=(
        Option("features", "features.zarr", lambda layout: layout.encoder / "features.zarr"),
        Option("out", "neighbors to write", lambda layout: layout.neighbors, writes=one("neighbors.zarr")),
        CLUSTER,
    ),
    params=lambda file, layout, given: ("knn", "noisyctl.runs.mine_knn"),
    fields=("noisyctl.runs.mine_knn",),
)
