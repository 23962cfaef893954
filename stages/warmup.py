"""Train networks on all noisy labels for a few epochs: what methods start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import RUN, Option, Stage, block_of
from noisyctl.session import Session

PROFILES: dict[
    str, dict[str, Any]
] = {  # there without a block of `warmups:`; a block of that name changes values
    "default": {},
    "clustered": {"start": "clusters", "train": "head", "views": "strong"},  # ScanMix's code
    "pretrained": {"start": "encoder"},  # ScanMix 3.2
}


@dataclass(frozen=True)
class Inputs:
    images: Path
    labels: Path
    out: Path
    encoder: Path | None = None
    clusters: Path | None = None
    run: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one warm-up profile."""
    from noisyctl.runs.warmup import Starts, warm_up

    starts = Starts(inputs.encoder, inputs.clusters, inputs.run)
    return warm_up(inputs.images, inputs.labels, inputs.out, params, session, starts) | {
        "out": str(inputs.out)
    }


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
    ),
    options=(
        Option(
            "profile",
            f"block of `warmups:`; without one there are {', '.join(PROFILES)}",
            lambda layout: "default",
            type=str,
        ),
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
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
    presets={f"warmups.{name}": values for name, values in PROFILES.items()},
)
