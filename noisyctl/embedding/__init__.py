"""Encoders that come trained, and the features that they give; one file a family, found by name.

An encoder is named `efficientnet_lite0`, or FAMILY:NAME such as `timm:vit_small_patch14_dinov2`. A family is a module with
NAMES, those that need no family in front, and `load(name, weights, download)`, which returns an `Encoder`. Nothing here
sees a label, and nothing is downloaded unless that was asked for.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from noisyctl.errors import ParamsError, suggest

BLOCK = 1024  # images whose features are kept at a time
BATCH = 32  # images that the network sees at a time


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network without its classifier, images [b 3 s s] to features [b d], and how it wants its images.

    `image_size` is the side s of its input, `resize` that of the square whose center it is cut from, both in pixels; `mean`
    and `std` are per channel, as fractions of 255; `interpolation` is bicubic or bilinear. `weights` says which weights they
    are: a package with its version, or the sha256 of a file.
    """

    name: str
    network: nn.Module
    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    weights: str

    def prepared(self, images: UInt8[Tensor, "b h w ch"]) -> Float32[Tensor, "b 3 s s"]:
        """Images as the network wants them: enlarged or reduced, the center cut out, normalized; gray ones in 3 channels.

        Images smaller than the network's input are enlarged to it whole: nothing is cut from the little there is.
        """
        side = images.shape[1]
        pixels = images.permute(0, 3, 1, 2).float() / 255
        pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
        size = self.image_size if side < self.image_size else self.resize
        if side != size:
            pixels = interpolate(pixels, size=(size, size), mode=self.interpolation, antialias=True).clamp(
                0, 1
            )
        edge = (size - self.image_size) // 2
        pixels = pixels[:, :, edge : edge + self.image_size, edge : edge + self.image_size]
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std


def families() -> tuple[str, ...]:
    """The families of encoders, from the files of this folder."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def available() -> tuple[str, ...]:
    """The encoders that have a name of their own; more are named FAMILY:NAME."""
    return tuple(sorted(name for family in families() for name in _family(family).NAMES))


def load(name: str, weights: Path | None = None, download: bool = False, image_size: int = 0) -> Encoder:
    """An encoder in eval mode on the CPU. `image_size` is the side of its input in pixels, 0: its own.

    Raises ParamsError where there is no encoder of this name, where what it needs is not installed, or where its weights
    are not here: then `weights` names their file, or `download` lets them be fetched.
    """
    family, _, rest = name.rpartition(":")
    owner = family or next((f for f in families() if rest in _family(f).NAMES), "")
    if owner not in families():
        known = [*available(), *(f"{other}:NAME" for other in families() if not _family(other).NAMES)]
        raise ParamsError(f"unknown encoder {name!r}; {suggest(name, known)}")
    encoder: Encoder = _family(owner).load(rest, weights, download)
    encoder.network.eval().requires_grad_(False)
    return encoder if image_size in (0, encoder.image_size) else _of_size(encoder, image_size)


@torch.no_grad()
def features_of(
    encoder: Encoder,
    images: Any,
    device: torch.device,
    *,
    autocast: torch.dtype | None = None,
    skip: int = 0,
    stop: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Float[Tensor, "b d"]]:
    """The features of all images but the first `skip`, in order, BLOCK at a time, on the CPU in float32.

    With `stop` they end before the image of this number.

    `images` is a tensor [n h w ch] of bytes, or what reads files as such (`streaming.FileImages`); those are
    decoded in threads while the network computes. `skip` is a multiple of BLOCK. `report` is told how many of all are done.
    """
    network = encoder.network.to(device).to(memory_format=torch.channels_last)
    total = len(images) if stop is None else stop
    batches = [
        index
        for start in range(skip, total, BLOCK)
        for index in torch.arange(start, min(start + BLOCK, total)).split(BATCH)
    ]
    found: list[Tensor] = []
    with _ahead(images, batches), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for index in batches:
            pixels = encoder.prepared(images[index].to(device))
            out = network(pixels.to(memory_format=torch.channels_last))
            found.append(out.float().flatten(1).cpu())
            done = int(index[-1]) + 1
            report(done, total)
            if (done - skip) % BLOCK == 0 or done == total:
                yield torch.cat(found)
                found = []


def _ahead(images: Any, batches: list[Tensor]) -> AbstractContextManager[None]:
    return images.prefetch(batches) if hasattr(images, "prefetch") else nullcontext()


def _family(name: str) -> ModuleType:
    return importlib.import_module(f"noisyctl.embedding.{name}")


def _of_size(encoder: Encoder, image_size: int) -> Encoder:
    """The same encoder for inputs of another size, with the same share cut off."""
    if image_size < 32:
        raise ParamsError(f"the image size is {image_size} pixels; an encoder needs 32 or more")
    return replace(
        encoder, image_size=image_size, resize=round(image_size * encoder.resize / encoder.image_size)
    )
