"""Train networks on all noisy labels for a few epochs: what methods start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import RUN, Option, Stage, block_of
from noisyctl.layout import Layout
from noisyctl.profiles import PROFILES
from noisyctl.session import Session

VECTORS = {"backbone": "mlp"}  # what networks on features are built from


@dataclass(frozen=True)
class Inputs:
    images: Path
    labels: Path
    out: Path
    encoder: Path | None = None
    clusters: Path | None = None
    run: Path | None = None
    features: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one warm-up profile."""
    from noisyctl.runs.warmup import Starts, warm_up

    starts = Starts(inputs.encoder, inputs.clusters, inputs.run)
    made = warm_up(inputs.images, inputs.labels, inputs.out, params, session, starts, inputs.features)
    return made | {"out": str(inputs.out)}


def _presets(layout: Layout) -> dict[str, dict[str, Any]]:
    """The profiles. On features none starts from an encoder: it has made them."""
    found = {f"warmups.{name}": values for name, values in PROFILES.items()}
    if layout.input == "features":
        found = {name: VECTORS | values for name, values in found.items()}
        found["warmups.pretrained"] = VECTORS
    return found


STAGE = Stage(
    name="warmup",
    summary="Train networks on all noisy labels for a few epochs.",
    example="noisyctl warmup --profile default",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["images"],
        given["labels"],
        given["out"] or layout.warmup(given["profile"]),
        given["encoder"],
        given["clusters"],
        given["run"],
        layout.vectors,
    ),
    options=(
        Option(
            "profile",
            f"named settings of a warm-up: a block of `warmups:`; without one there are {', '.join(PROFILES)}",
            lambda layout: "default",
            type=str,
        ),
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option("features", "features.zarr, for networks that see vectors [with --input features]"),
        Option("labels", "labels.zarr", lambda layout: layout.labels),
        Option(
            "encoder",
            "where start is encoder: its file",
            lambda layout: layout.encoder_file,
        ),
        Option(
            "clusters",
            "where start is clusters: their file",
            lambda layout: layout.clusters,
        ),
        Option("run", "where start is run: folder of a train-method or a warmup, maybe on other images"),
        Option(
            "out",
            "folder to write [data/SET/warmup/PROFILE/NOISE-sSEED]",
            writes=RUN,
        ),
    ),
    params=lambda file, layout, given: (
        block_of(file, "warmups", given["profile"], PROFILES),
        "noisyctl.training.warmup",
    ),
    fields=("noisyctl.training.warmup",),
    presets=_presets,
)
