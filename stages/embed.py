"""Features of every image by an encoder that comes trained: label-free, once per data set."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import CLUSTER, Option, Stage, one
from noisyctl.layout import TRAINED_HERE, Layout, folder_of
from noisyctl.session import Session

DEFAULT = "efficientnet_lite0"


@dataclass(frozen=True)
class Inputs:
    encoder: str
    images: Path
    out: Path


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write features.zarr of every split."""
    from noisyctl.runs.embedding import embed_images

    start = time.perf_counter()
    made = embed_images(
        inputs.images,
        inputs.encoder,
        inputs.out,
        session,
        weights=Path(params.weights).expanduser() if params.weights else None,
        download=params.download,
        image_size=params.image_size,
    )
    return made | {"images_per_s": round(made["samples"] / (time.perf_counter() - start), 1)}


def _inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
    out = given["out"] or layout.home / folder_of(given["encoder"]) / "features.zarr"
    return Inputs(given["encoder"], given["images"], out)


STAGE = Stage(
    name="embed",
    summary="Write the features of every image by an encoder that comes trained.",
    example="noisyctl embed",
    run=run,
    inputs=_inputs,
    options=(
        Option(
            "encoder",
            f"{DEFAULT}, or timm:NAME; that of --pretrain if it comes trained",
            lambda layout: DEFAULT if layout.pretrain in TRAINED_HERE else layout.pretrain,
            metavar="name",
        ),
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option("out", "features to write, in the encoder's folder by default", writes=one("features.zarr")),
        CLUSTER,
    ),
    params=lambda file, layout, given: ("embed", "noisyctl.runs.embedding"),
    fields=("noisyctl.runs.embedding",),
)
