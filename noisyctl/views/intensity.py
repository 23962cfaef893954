"""Brightness and contrast, as torchvision's adjust_* does for one image, with a factor for each."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

LUMA = (0.2989, 0.587, 0.114)


def brightness_contrast(
    images: Float[Tensor, "b ch h w"], strength: float, probability: float, rng: Generator
) -> Float[Tensor, "b ch h w"]:
    """Brightness then contrast by factors uniform in 1 - strength .. 1 + strength, on a share of the images."""
    draws = torch.rand(len(images), 3, generator=rng, device=images.device)
    factors = 1 + strength * (2 * draws - 1)
    changed = adjust_contrast(adjust_brightness(images, factors[:, 0]), factors[:, 1])
    return torch.where((draws[:, 2] < probability)[:, None, None, None], changed, images)


def adjust_brightness(
    images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    return (images * factors[:, None, None, None]).clamp(0, 1)


def adjust_contrast(
    images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Towards or away from the mean of each image's gray levels."""
    gray = images
    if images.shape[1] == 3:
        gray = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    mean, f = gray.mean(dim=(1, 2, 3), keepdim=True), factors[:, None, None, None]
    return (f * images + (1 - f) * mean).clamp(0, 1)
