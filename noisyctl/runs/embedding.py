"""From images.zarr to features.zarr, with an encoder that comes trained; goes on where it was stopped."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from noisyctl import embedding
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.embedding import BLOCK, Encoder, features_of
from noisyctl.errors import ArtifactError
from noisyctl.layout import FILES
from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.runs.reading import read_images
from noisyctl.runs.samples import images_of_splits
from noisyctl.runs.workers import Make, Report, Tell, Work, Workers, workers_of
from noisyctl.session import Session
from noisyctl.training.scratch import Scratch, hold


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

    `weights`, `download` and `image_size` are as in `embedding.load`. Blocks of BLOCK images that were finished before are
    taken from the scratch folder; the bytes are the same as without a stop. Raises ParamsError where there is no such
    encoder.
    """
    session.start()
    encoder = embedding.load(name, weights, download, image_size)
    images = read_images(images_file)
    with workers_of(session, "embed") as workers:
        numerics, asked = workers.numerics(), Asked(name, weights, download, image_size, encoder.weights)
        recorded = {"encoder": encoder.name, "image_size": encoder.image_size}
        recorded |= {"precision": numerics["precision"], "threads": torch.get_num_threads()}
        facts = {"params": recorded, "weights": encoder.weights, "images": images.digest}
        of_worker = (
            images_file,
            images.digest,
            asked,
            replace(workers.session(), precision=numerics["precision"]),
        )
        opened = None if session.cluster else _embedder(images, encoder, of_worker[-1])
        work = Work(open_embedder, of_worker, _seen(images, weights), True, opened)
        with hold(session.scratch, "embed", facts | numerics, out) as scratch:
            arrays = _features(work, images, scratch, workers, session.progress("embed", "images", kept=True))
            about = {"encoder": encoder.name, "weights": encoder.weights, "image_size": encoder.image_size}
            inputs = {"images": images.digest}
            store.write(out, FEATURES, arrays, params=recorded, inputs=inputs, attributes=about)
    return {
        "encoder": encoder.name,
        "samples": sum(map(len, arrays.values())),
        "features": arrays["features"].shape[1],
        "out": str(out),
    }


@dataclass(frozen=True)
class Asked:
    """Which encoder embeds. `found` says which weights it has, wherever it is loaded."""

    name: str
    weights: Path | None
    download: bool
    image_size: int
    found: str


@dataclass(frozen=True)
class Part:
    """Some images of a split."""

    split: str
    rows: range

    def __len__(self) -> int:
        return len(self.rows)


def open_embedder(images_file: Path, digest: str, asked: Asked, session: Session) -> Make:
    """What embeds a part of the images. Raises NoisyctlError where images or weights are others than at the beginning."""
    encoder = embedding.load(asked.name, asked.weights, asked.download, asked.image_size)
    if encoder.weights != asked.found:
        raise ArtifactError(
            f"the weights of {asked.name} are {encoder.weights} here, and {asked.found} at the beginning"
        )
    images = read_images(images_file)
    store.require_digest(images, digest)
    return _embedder(images, encoder, session)


def _embedder(images: store.Artifact, encoder: Encoder, session: Session) -> Make:
    """What embeds a part of the images. It holds all images where their pixels are in images.zarr."""
    device = session.start()
    autocast = torch.bfloat16 if session.precision_on(device) == "bfloat16" else None
    splits = images_of_splits(images, device, encoder.resize)

    def embedded(part: Part, tell: Tell) -> Tensors:
        start, stop = part.rows.start, part.rows.stop
        (features,) = features_of(
            encoder,
            splits[part.split],
            device,
            autocast=autocast,
            skip=start,
            stop=stop,
            report=lambda done, _: tell(done - start),
        )
        return {"features": features}

    return embedded


def _seen(images: store.Artifact, weights: Path | None) -> tuple[Path, ...]:
    """What a worker must see: images.zarr, the folder of its files, and the file of the weights."""
    files = images.path.parent / FILES
    found = (images.path, *([files] if "train" not in images else []), *([weights] if weights else []))
    return tuple(found)


def _features(
    work: Work, images: store.Artifact, scratch: Scratch, workers: Workers, report: Report
) -> dict[str, Float32[np.ndarray, "_ d"]]:
    """The features of every split, by the name of their array; each block is kept as soon as it is there."""
    sizes = {n.removesuffix("_id"): images.lazy(n).shape[0] for n in images.names if n.endswith("_id")}
    total, done, arrays = sum(sizes.values()), 0, {}
    for split, size in sizes.items():
        parts = [Part(split, range(at, min(at + BLOCK, size))) for at in range(0, size, BLOCK)]
        so_far = functools.partial(_report_from, report, done, total)
        features = np.empty((0, 0), np.float32)
        for number, block in workers.finished(work, Blocks(scratch, split), parts, so_far):
            found = block["features"].numpy()
            if not features.size:
                features = np.empty((size, found.shape[1]), np.float32)
            features[parts[number].rows.start : parts[number].rows.stop] = found
        arrays["features" if split == "train" else f"{split}_features"] = features
        done += size
    return arrays


def _report_from(report: Report, start: int, total: int, done: int, _: int) -> None:
    """Report images of one split as some of all."""
    report(start + done, total)
