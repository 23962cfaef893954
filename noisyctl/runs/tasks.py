"""From artifacts to the Task that a method sees, and to the images that only the runner sees."""

from typing import Any

import torch

from noisyctl.artifacts import store
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.layout import FILES
from noisyctl.runs.reading import read_paths
from noisyctl.seeds import stream
from noisyctl.streaming import FileImages
from noisyctl.task import Task
from noisyctl.views import Views


def make_task(
    images: store.Artifact | None, device: torch.device, **known: Any
) -> tuple[Task, dict[str, Any]]:
    """The Task, and the images of the other splits, which only the runner sees."""
    if images is None:
        return Task(None, None, known.pop("num_classes"), device, **known), {}
    about = images.attributes
    views = Views(about["views"], about["mean"], about["std"])
    num_classes = known.pop("num_classes", 0)  # label-free work knows of no classes
    pixels = splits_of(images, device)
    return Task(pixels.pop("train"), views, num_classes, device, **known), pixels


def splits_of(images: store.Artifact, device: torch.device, image_size: int | None = None) -> dict[str, Any]:
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


def hold_out(
    number: int, rate: float, seed: int, device: torch.device, verified: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Positions of the samples whose noisy labels validate, in order, no `verified` one among them; None without a rate."""
    size = round(rate * number)
    if rate and not 0 < size < number:
        raise ParamsError(f"validation_rate {rate} of {number} samples holds out {size}; choose another rate")
    order = torch.randperm(number, generator=stream(seed, "validation"))
    if verified is not None:
        order = order[~torch.isin(order, verified.cpu())]
        if size > len(order):
            raise ParamsError(
                f"validation_rate {rate} of {number} samples holds out {size}, and only {len(order)} are not verified: "
                f"noisy labels validate, and verified ones train; choose a rate of at most {len(order) / number:.3g}"
            )
    return order[:size].sort().values.to(device) if size else None
