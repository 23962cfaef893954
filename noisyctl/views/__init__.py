"""Augmentations of whole batches of images, with random parameters for each sample.

This is own code because no library does the same. torchvision's v2 transforms draw one set of parameters for a whole
batch. kornia takes no generator (its random state is global), and its RandAugment chooses the operations once for a
batch. Here every sample has its own draws, from a generator that is passed in; nothing loops over samples or waits for
the device; and each operation equals torchvision's on a single image.

A processor computes the views of large images one after another instead, see one_by_one.py.

A view is a block of the recipe and a method of `ImageViews`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from noisyctl.errors import DataError, ParamsError
from noisyctl.views import one_by_one
from noisyctl.views.color import color_jitter, gaussian_blur, random_grayscale
from noisyctl.views.geometry import center_crop, pad_crop_flip, resized_crop, to_float
from noisyctl.views.recipes import RECIPES, Recipe, Simclr, read_recipe
from noisyctl.views.strong import augment, cutout, limits

__all__ = ["RECIPES", "ImageViews"]

RATIO = (3 / 4, 4 / 3)  # range of width / height of a resized crop; torchvision's default


@dataclass(frozen=True)
class ImageViews:
    """The views of one data set: uint8 [b h w ch] to float [b ch h w], normalized and contiguous.

    `recipe` is a name in RECIPES, or a mapping of the same form. `mean` and `std` hold one value per channel, as
    fractions of 255.
    """

    recipe: str | Mapping[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    _params: Recipe = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(std > 0 for std in self.std):
            raise ParamsError(
                f"views: mean {self.mean!r} and std {self.std!r}; give one of each per channel, with std above 0"
            )
        object.__setattr__(self, "_params", read_recipe(self.recipe))

    def plain(self, images: UInt8[Tensor, "b h w ch"]) -> Float[Tensor, "b ch h2 w2"]:
        """The images without augmentation; with a crop in the recipe, their center."""
        return self._normalize(to_float(center_crop(images, self._size(images)).permute(0, 3, 1, 2)))

    def weak(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h2 w2"]:
        """Weak view: pad with zeros, crop and flip; or, with `crop_scale`, a resized crop and a flip.

        Where the recipe has none of these it is the plain view, and nothing is drawn.
        """
        size = self._size(images)
        pad, flip, scale = self._params.weak.pad, self._params.weak.flip, self._params.weak.crop_scale
        if scale is not None:
            if one_by_one.is_worth_it(images):
                return self._collect(one_by_one.parts(images, scale, RATIO, size, flip, rng), images)
            views = to_float(images.permute(0, 3, 1, 2))
            return self._normalize(resized_crop(views, scale, RATIO, size, flip, rng))
        if pad is None:
            pad = max(1, min(size) // 8) if self._params.crop is None else 0
        if not pad and not flip and size == tuple(images.shape[1:3]):
            return self.plain(images)
        if one_by_one.is_worth_it(images):
            return self._collect(one_by_one.crops(images, pad, size, flip, rng), images)
        return self._normalize(to_float(pad_crop_flip(images, pad, size, flip, rng)))

    def strong(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h2 w2"]:
        """Strong view: crop, flip, a few operations drawn from fourteen, and a hole, as in ScanMix's official code."""
        strong, size = self._params.strong, self._size(images)
        longest = round(strong.cutout * min(size))
        if one_by_one.is_worth_it(images):
            views = self._collect(one_by_one.strong(images, strong, size, rng), images)
            if longest > 0:
                one_by_one.cut_holes(views, longest, rng)
            return views
        views = pad_crop_flip(images, 0, size, strong.flip, rng).float()
        ranges = limits(strong.rotate, strong.shear, strong.translate, strong.enhance, strong.posterize)
        views = self._normalize(augment(views, strong.steps, ranges, rng).div_(255))
        return cutout(views, longest, rng) if longest > 0 else views

    def simclr(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h2 w2"]:
        """One view of Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020, appendix A."""
        return self._contrastive(images, self._params.simclr, rng)

    def moco(self, images: UInt8[Tensor, "b h w ch"], rng: Generator) -> Float[Tensor, "b ch h2 w2"]:
        """One view of Chen et al., "Improved Baselines with Momentum Contrastive Learning" (MoCo v2), 2020."""
        return self._contrastive(images, self._params.moco, rng)

    def _contrastive(
        self, images: UInt8[Tensor, "b h w ch"], block: Simclr, rng: Generator
    ) -> Float[Tensor, "b ch h2 w2"]:
        """Resized crop, flip, color jitter, grayscale and blur, with the parameters in `block`."""
        size = self._size(images)
        kernel = _blur_kernel(min(size), block.blur_kernel) if block.blur_probability > 0 else 1
        if one_by_one.is_worth_it(images):
            return self._collect(one_by_one.contrastive(images, block, size, kernel, rng), images)
        views = to_float(images.permute(0, 3, 1, 2))
        views = resized_crop(views, block.crop_scale, block.crop_ratio, size, block.flip, rng)
        views = color_jitter(
            views,
            brightness=block.brightness,
            contrast=block.contrast,
            saturation=block.saturation,
            hue=block.hue,
            probability=block.jitter_probability,
            rng=rng,
        )
        if block.grayscale_probability > 0:
            views = random_grayscale(views, block.grayscale_probability, rng)
        if block.blur_probability > 0:
            views = gaussian_blur(views, block.blur_sigma, block.blur_probability, kernel, rng)
        return self._normalize(views)

    def _size(self, images: UInt8[Tensor, "b h w ch"]) -> tuple[int, int]:
        """Height and width of a view. Raises ParamsError if the recipe's crop is larger than the images."""
        (h, w), crop = images.shape[1:3], self._params.crop
        if crop is None:
            return h, w
        if crop > min(h, w):
            raise ParamsError(
                f"view recipe: crop is {crop}, the images are {h} x {w}; write at most {min(h, w)}, or null"
            )
        return crop, crop

    def _normalize(self, views: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b ch h w"]:
        """Subtract the mean and divide by the deviation of each channel."""
        mean, std = self._moments(views.shape[1], views.device)
        return views.sub(mean).div_(std)

    def _collect(
        self, views: one_by_one.Views, images: UInt8[Tensor, "b h w ch"]
    ) -> Float[Tensor, "b ch h2 w2"]:
        """The views of these images, given one after another, normalized and as one batch."""
        mean, std = (values[0] for values in self._moments(images.shape[3], images.device))
        batch = torch.empty(len(images), images.shape[3], *self._size(images), device=images.device)
        for row, view in zip(batch, views, strict=True):
            torch.sub(view, mean, out=row).div_(std)
        return batch

    def _moments(
        self, channels: int, device: torch.device
    ) -> tuple[Float[Tensor, "1 ch 1 1"], Float[Tensor, "1 ch 1 1"]]:
        """Mean and deviation of each channel. Raises DataError where the images have other channels."""
        if channels != len(self.mean):
            raise DataError(
                f"the images have {channels} channels, mean and std {len(self.mean)}; "
                f"convert the images to {len(self.mean)} channels"
            )
        return _on(device, tuple(self.mean)), _on(device, tuple(self.std))


@functools.lru_cache
def _on(device: torch.device, values: tuple[float, ...]) -> Float[Tensor, "1 ch 1 1"]:
    """A tensor of one number per channel, which is copied to the device once."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def _blur_kernel(side: int, kernel: int | None) -> int:
    """The number of taps of the blur for views with this shorter side; it is odd.

    Raises ParamsError if the kernel is too large for the reflection of the views at their edges.
    """
    taps = max(3, side // 10 | 1) if kernel is None else kernel
    if taps // 2 >= side:
        raise ParamsError(
            f"view recipe: blur_kernel is {taps}, the views have a side of {side}; write at most {2 * side - 1}"
        )
    return taps
