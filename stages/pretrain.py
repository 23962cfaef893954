"""Label-free pretraining: an encoder, and its features of every image. Serves every pretraining method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage, inside
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    method: str
    images: Path
    out: Path


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Train an encoder on images alone and write encoder.safetensors and features.zarr."""
    from noisyctl.runs.pretrain import pretrain

    return pretrain(inputs.method, inputs.images, inputs.out, params, session) | {"out": str(inputs.out)}


def stage(method: str) -> Stage:
    """The command `pretrain-METHOD`."""
    return Stage(
        name=f"pretrain-{method}",
        summary=f"Train an encoder without labels ({method}) and write its features.",
        example=f"noisyctl pretrain-{method} --epochs 40",
        run=run,
        inputs=lambda given, layout, extra: Inputs(method, given["images"], given["out"]),
        options=(
            Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
            Option(
                "out",
                "folder to write",
                lambda layout: layout.home / method,
                writes=inside("encoder.safetensors", "features.zarr"),
            ),
        ),
        params=lambda file, layout, given: (method, f"noisyctl.pretraining.{method}"),
        fields=(f"noisyctl.pretraining.{method}",),
    )
