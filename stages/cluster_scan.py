"""Sort images into clusters without labels (SCAN): where ScanMix's code starts its networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage, inside
from noisyctl.layout import Layout
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    """`num_classes` is the number of clusters where the params give none."""

    images: Path
    encoder: Path
    neighbors: Path
    out: Path
    num_classes: int | None = None
    features: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write clusters.safetensors: the encoder's backbone, trained on, with a head of one output for each cluster."""
    from noisyctl.runs.cluster_scan import cluster

    places = (inputs.images, inputs.encoder, inputs.neighbors, inputs.out)
    found = cluster(*places, params, session, num_classes=inputs.num_classes, features_path=inputs.features)
    return found | {"out": str(inputs.out)}


def _inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
    num_classes = None
    if not extra["params"].num_clusters:
        from noisyctl.runs.cluster_scan import count_classes

        num_classes = count_classes(given["images"])
    places = (given["images"], given["encoder"], given["neighbors"], given["out"])
    return Inputs(*places, num_classes, layout.vectors)


STAGE = Stage(
    name="cluster-scan",
    summary="Sort images into clusters without labels (SCAN).",
    example="noisyctl cluster-scan --epochs 50",
    run=run,
    inputs=_inputs,
    options=(
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option("features", "features.zarr, for a network that sees vectors [with --input features]"),
        Option(
            "encoder",
            "encoder.safetensors to start from",
            lambda layout: layout.encoder / "encoder.safetensors",
        ),
        Option("neighbors", "neighbors.zarr", lambda layout: layout.encoder / "neighbors.zarr"),
        Option(
            "out",
            "folder to write",
            lambda layout: layout.clusters.parent,
            writes=inside("clusters.safetensors"),
        ),
    ),
    params=lambda file, layout, given: ("scan", "noisyctl.pretraining.scan"),
    fields=("noisyctl.pretraining.scan",),
)
