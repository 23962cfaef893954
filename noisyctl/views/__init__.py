"""Augmentations on batches of images, per-sample parameters, generator passed in.

Own code, because torchvision's v2 transforms draw one parameter set a batch, and no library takes a generator.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from noisyctl.errors import ParamsError
from noisyctl.views.geometry import pad_crop_flip, resized_crop
from noisyctl.views.intensity import brightness_contrast

RECIPES: dict[str, dict[str, Any]] = {
    # digits are not flipped, and an 8 x 8 image moves by at most one pixel
    "digits": {"pad": 1, "flip": False, "scale": (0.8, 1.0), "jitter": 0.2},
    # pad and flip as in every paper's CIFAR set-up; crops as in SimCLR
    "natural": {"pad": 4, "flip": True, "scale": (0.2, 1.0), "jitter": 0.4},
    "natural_gray": {"pad": 4, "flip": True, "scale": (0.2, 1.0), "jitter": 0.4},
}


class Views:
    """The views of one data set: uint8 [b h w ch] to normalised float [b ch h w]."""

    def __init__(self, recipe: str, mean: Sequence[float], std: Sequence[float]) -> None:
        if recipe not in RECIPES:
            raise ParamsError(f"unknown view recipe {recipe!r}; one of: {', '.join(RECIPES)}")
        self._recipe = RECIPES[recipe]
        self._mean = torch.tensor(list(mean)).view(1, -1, 1, 1)
        self._std = torch.tensor(list(std)).view(1, -1, 1, 1)

    def plain(self, images: UInt8[Tensor, "b h w ch"]) -> Float[Tensor, "b ch h w"]:
        return self._normalize(_to_float(images))

    def weak(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """Pad with zeros, crop, flip."""
        return self._normalize(
            _to_float(pad_crop_flip(images, self._recipe["pad"], self._recipe["flip"], rng))
        )

    def simclr(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h w"]:
        """Resized crop, flip, brightness and contrast. Saturation, hue, grayscale and blur are not here yet."""
        views = resized_crop(_to_float(images), self._recipe["scale"], self._recipe["flip"], rng)
        return self._normalize(brightness_contrast(views, self._recipe["jitter"], 0.8, rng))

    def _normalize(self, images: Tensor) -> Tensor:
        self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        return (images - self._mean) / self._std


def _to_float(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255
