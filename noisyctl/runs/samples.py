"""What networks see of a data set: its images, or the vectors (features) that an encoder made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.layout import FILES
from noisyctl.runs.reading import image_size, read_images, read_paths
from noisyctl.streaming import FileImages
from noisyctl.views import ImageViews
from noisyctl.views.vectors import VectorViews

VECTORS = "vectors"  # the view recipe of vectors, as artifacts carry it
ROWS = 8192  # rows of which mean and deviation are summed at a time


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a data set as networks see them.

    `made_from` are the digests that a training on them records: of the images, and of the features where these are what the
    network sees. `channels` and `size` (height and width) are those of one sample; a vector of d features is an image of one
    pixel and d channels. `recipe`, `mean` and `std` are what its views are made from. `encoder` says what made the vectors.
    """

    artifact: store.Artifact
    made_from: Mapping[str, str]
    channels: int
    size: list[int]
    recipe: Any
    mean: list[float]
    std: list[float]
    encoder: Mapping[str, Any] | None = None
    images: store.Artifact | None = field(default=None, repr=False)

    @classmethod
    def of_images(cls, images: store.Artifact) -> "Samples":
        """Images as they are."""
        about = images.attributes
        made_from = {"images": images.digest}
        mean, std = about["mean"], about["std"]
        size = image_size(images)
        return cls(images, made_from, len(mean), size, about["views"], mean, std, images=images)

    @classmethod
    def of_features(cls, features: store.Artifact, images: store.Artifact | None) -> "Samples":
        """The vectors of features.zarr; `images` are those that they were made from, where these are at hand."""
        of_images = features.inputs.get("images", features.digest)  # own features stand for their images
        if images is not None:
            store.require_input(features, "images", images.digest, images.path)
        made_from = {"images": of_images, "features": features.digest}
        rows = features.array("features")
        mean, std = _moments(rows)
        encoder = None if images is None else _encoder_of(features, images)
        return cls(features, made_from, rows.shape[1], [1, 1], VECTORS, mean, std, encoder, images=images)

    @property
    def views(self) -> ImageViews | VectorViews:
        return views_of(self.recipe, self.mean, self.std)

    @property
    def ids(self) -> np.ndarray | None:
        """The ids of the training samples; None of vectors without their images."""
        return None if self.images is None else self.images.array("train_id")

    def splits(self, device: torch.device) -> dict[str, Any]:
        """The samples of every split: pixels or vectors on the device, or files that are decoded ahead of use."""
        if self.recipe != VECTORS:
            return images_of_splits(self.artifact, device)
        names = {"train": "features"}
        names |= {n.removesuffix("_features"): n for n in self.artifact.names if n.endswith("_features")}
        return {split: torch.as_tensor(self.artifact.array(n)).to(device) for split, n in names.items()}


def _encoder_of(features: store.Artifact, images: store.Artifact) -> dict[str, Any]:
    """How new images become such vectors: by which encoder, and how it wants them.

    `channels` are those of the images. An encoder that came trained has a name, weights and an input size, and `from_files`
    says that it saw files in their own size; one that was trained here is known by its digest, and has the images' views.
    """
    about, of_images = features.attributes, images.attributes
    common = {"channels": len(of_images["mean"])}
    if "weights" in about:
        named = {name: about[name] for name in ("encoder", "weights", "image_size")}
        return common | named | {"from_files": "train" not in images}
    views = {name: of_images[name] for name in ("views", "mean", "std")}
    return common | {"digest": features.inputs.get("encoder", "")} | views


def views_of(recipe: Any, mean: list[float], std: list[float]) -> ImageViews | VectorViews:
    """The views of images or of vectors."""
    return VectorViews(mean, std) if recipe == VECTORS else ImageViews(recipe, mean, std)


def images_at_hand(images: Path | None, features: Path | None) -> Path | None:
    """The place of the images; None where `features` are seen instead and the images are not there."""
    return None if features is not None and images is not None and not images.exists() else images


def read_samples(images: Path | None, features: Path | None) -> Samples:
    """The vectors of `features` where these are given, and else the images.

    With vectors, images.zarr may be missing: then samples are known by the ids of their labels. Raises ArtifactError.
    """
    place = images_at_hand(images, features)
    there = None if place is None else read_images(place)
    if features is not None:
        return Samples.of_features(store.read(features, FEATURES), there)
    assert there is not None
    return Samples.of_images(there)


def ids_of(samples: Samples | None, labels: store.Artifact) -> np.ndarray:
    """The ids of the training samples, from the images or else from the labels.

    Raises ArtifactError where neither has them.
    """
    ids = samples.ids if samples is not None else None
    if ids is not None:
        return ids
    if "train_id" not in labels:
        raise ArtifactError(
            f"{labels.path} does not name its samples, and there is no images.zarr that does; give --images"
        )
    return labels.array("train_id")


def images_of_splits(
    images: store.Artifact, device: torch.device, image_size: int | None = None
) -> dict[str, Any]:
    """The images of every split [n h w ch]: pixels on the device, or files that are decoded ahead of use.

    `image_size` is the side of the squares that files are decoded to, if not that of the artifact.
    """
    splits = [name.removesuffix("_id") for name in images.names if name.endswith("_id")]
    return {name: _images_of(images, name, device, image_size) for name in splits}


def _images_of(images: store.Artifact, split: str, device: torch.device, image_size: int | None) -> Any:
    if split in images:
        return torch.as_tensor(images.array(split)).to(device)
    about, root = images.attributes, images.path.parent / FILES
    if not root.is_dir():
        raise ArtifactError(f"{root} leads to no folder of images; {images.remake}")
    paths = read_paths(images.path.with_name("paths.zarr"), images).array(f"{split}_path").tolist()
    checksums = images.array(f"{split}_checksum")
    size = image_size or about["image_size"]
    return FileImages(root, paths, size, len(about["mean"]), device, checksums=checksums)


def _moments(rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each feature over the training samples, summed in float64."""
    blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
    squares = sum(((block - mean) ** 2).sum(axis=0) for block in blocks)
    std = np.sqrt(squares / len(rows))
    if not (std > 0).any():
        raise ParamsError(
            "every feature has the same value for all samples, so nothing can be learned from them"
        )
    return mean.astype(np.float32).tolist(), std.astype(np.float32).tolist()
