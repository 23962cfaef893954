"""From images.zarr to features.zarr, with an encoder that comes trained; goes on where it was stopped."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from noisyctl import embedding
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.embedding import BLOCK, Encoder, features_of
from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.runs.blocks import Blocks
from noisyctl.runs.reading import read_images
from noisyctl.runs.samples import images_of_splits
from noisyctl.session import Session
from noisyctl.training.scratch import Scratch, hold

Report = Callable[[int, int], None]


class Params(Base):
    """`embed` in params.yaml."""

    weights: str | None = param(
        None,
        "file of the encoder's weights: safetensors, or torch's without programs",
        source="ours",
        path=True,
    )
    download: bool = param(False, "fetch the weights of a timm encoder", source="ours: nothing unasked")
    image_size: int = param(0, "pixels a side that the encoder sees; 0: its own", source="ours", ge=0)


def embed_images(
    images_file: Path,
    name: str,
    out: Path,
    session: Session,
    *,
    weights: Path | None = None,
    download: bool = False,
    image_size: int = 0,
) -> dict[str, Any]:
    """Write the features of every split of images.zarr by the encoder `name` to `out`, and return their facts.

    `weights`, `download` and `image_size` are as in `embedding.load`. Raises ParamsError where there is no such encoder.
    """
    device = session.start()
    encoder = embedding.load(name, weights, download, image_size)
    images = read_images(images_file)
    precision = session.precision_on(device)
    recorded = {"encoder": encoder.name, "image_size": encoder.image_size, "precision": precision}
    recorded["threads"] = torch.get_num_threads()
    facts = {"params": recorded, "weights": encoder.weights, "images": images.digest}
    with hold(session.scratch, "embed", facts | session.numerics(device), out) as scratch:
        return embed(
            images,
            images_of_splits(images, device, encoder.resize),
            encoder,
            out,
            scratch,
            device,
            params=recorded,
            autocast=torch.bfloat16 if precision == "bfloat16" else None,
            report=session.progress("embed", "images"),
        )


def embed(
    images: store.Artifact,
    splits: Mapping[str, Any],
    encoder: Encoder,
    out: Path,
    scratch: Scratch,
    device: torch.device,
    *,
    params: Mapping[str, Any],
    autocast: torch.dtype | None = None,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Write features.zarr at `out` and return its facts.

    `splits` holds the images of every split [n h w ch], "train" among them, in memory or read from files ahead of use.
    Blocks of BLOCK images that were finished before are taken from `scratch`; the bytes are the same as without a stop.
    `report` is told how many images of all splits are done.
    """
    total, done, arrays = sum(len(pixels) for pixels in splits.values()), 0, {}
    for split, pixels in splits.items():
        so_far = functools.partial(_report_from, report, done, total)
        arrays["features" if split == "train" else f"{split}_features"] = _features(
            split,
            pixels,
            encoder,
            scratch,
            device,
            autocast,
            so_far,
        )
        done += len(pixels)
    store.write(
        out,
        FEATURES,
        arrays,
        params=params,
        inputs={"images": images.digest},
        attributes={"encoder": encoder.name, "weights": encoder.weights, "image_size": encoder.image_size},
    )
    return {
        "encoder": encoder.name,
        "samples": total,
        "features": arrays["features"].shape[1],
        "out": str(out),
    }


def _report_from(report: Report, start: int, total: int, done: int, _: int) -> None:
    """Report images of one split as some of all."""
    report(start + done, total)


def _features(
    split: str,
    pixels: Any,
    encoder: Encoder,
    scratch: Scratch,
    device: torch.device,
    autocast: torch.dtype | None,
    report: Report,
) -> Float32[np.ndarray, "n d"]:
    """The features of a split, block after block, each kept in the scratch folder as soon as it is there."""
    there, blocks = Blocks(scratch, split), list[torch.Tensor]()
    while (block := there.read(len(blocks))) is not None:
        blocks.append(block["features"])
    missing = features_of(encoder, pixels, device, autocast=autocast, skip=BLOCK * len(blocks), report=report)
    for features in missing:
        there.write(len(blocks), {"features": features})
        blocks.append(features)
    return torch.cat(blocks).numpy()
