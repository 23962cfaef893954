"""Crops and flips: one gather or one grid for the whole batch."""

import math

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

ASPECT = (3 / 4, 4 / 3)


def pad_crop_flip(
    images: UInt8[Tensor, "b h w ch"], pad: int, flip: bool, rng: Generator
) -> UInt8[Tensor, "b h w ch"]:
    """Pad by `pad` zeros, crop back at a random place, flip half of the images left to right."""
    b, device = len(images), images.device
    offsets = torch.randint(0, 2 * pad + 1, (b, 2), generator=rng, device=device)
    flips = torch.rand(b, generator=rng, device=device) < (0.5 if flip else 0.0)
    return crop_flip(images, offsets, flips, pad)


def crop_flip(
    images: UInt8[Tensor, "b h w ch"], offsets: Int[Tensor, "b 2"], flips: Bool[Tensor, " b"], pad: int
) -> UInt8[Tensor, "b h w ch"]:
    """The crop at (row, column) `offsets` of the padded image, flipped where `flips`."""
    b, h, w, ch = images.shape
    padded = images.new_zeros(b, h + 2 * pad, w + 2 * pad, ch)
    padded[:, pad : pad + h, pad : pad + w] = images
    rows = offsets[:, :1] + torch.arange(h, device=images.device)
    columns = torch.arange(w, device=images.device).expand(b, w)
    columns = offsets[:, 1:] + torch.where(flips[:, None], w - 1 - columns, columns)
    return padded[torch.arange(b, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def resized_crop(
    images: Float[Tensor, "b ch h w"], scale: tuple[float, float], flip: bool, rng: Generator
) -> Float[Tensor, "b ch h w"]:
    """A random part of each image (area in `scale`, aspect 3/4 to 4/3) at full size, bilinear, no antialiasing.

    Sides that would leave the image are cut to it, where torchvision draws again.
    """
    b = len(images)
    draws = torch.rand(b, 5, generator=rng, device=images.device)
    area = scale[0] + (scale[1] - scale[0]) * draws[:, 0]
    ratio = torch.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * draws[:, 1])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = (2 * draws[:, 2] - 1) * (1 - width), (2 * draws[:, 3] - 1) * (1 - height)
    sign = torch.where((draws[:, 4] < 0.5) & torch.tensor(flip, device=images.device), -1.0, 1.0)
    zero = torch.zeros_like(x)
    theta = torch.stack([torch.stack([width * sign, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
