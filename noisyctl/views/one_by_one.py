"""The views of large images on a processor: one image after another, each with its own operations alone.

A batch of large images does not fit into a processor's caches, so that every operation on the whole batch waits for memory.
The form for batches also computes every operation for every image. Here an image passes through the operations that it
drew, while it is in the cache. The numbers are drawn for the batch, in the same order, and the views are the same up to the
rounding of float32; the levels of the strong view are the same.

It reads what was drawn on the host, and each image costs some tens of calls. So it is neither for a GPU nor for small
images. Each function gives the views before normalization, in turn.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from noisyctl.views.color import blur_one, draw_blurs, draw_chosen, draw_jitter, grayscale, jitter_one
from noisyctl.views.geometry import crop_flip_one, crop_resize_one, draw_crops, draw_parts, to_float
from noisyctl.views.recipes import Simclr, Strong
from noisyctl.views.strong import cut_one, draw_holes, draw_operations, limits, operate_one

LARGE = 112 * 112  # pixels of an image from which on it is worth it

Images = UInt8[Tensor, "b h w ch"]
Views = Iterator[Tensor]  # float [ch h w]


def is_worth_it(images: Images) -> bool:
    """Whether the views of these images are to be computed one after another."""
    return images.device.type == "cpu" and images.shape[1] * images.shape[2] >= LARGE


def crops(images: Images, pad: int, size: tuple[int, int], flip: bool, rng: Generator) -> Views:
    """As `pad_crop_flip`."""
    offsets, flips = draw_crops(images, pad, size, flip, rng)
    for image, offset, flipped in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        yield to_float(crop_flip_one(image, offset, flipped, pad, size).permute(2, 0, 1))


def parts(
    images: Images,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    size: tuple[int, int],
    flip: bool,
    rng: Generator,
) -> Views:
    """As `resized_crop`."""
    b, h, w, _ = images.shape
    boxes, flips = draw_parts(b, h, w, scale, ratio, flip, images.device, rng)
    for image, box, flipped in zip(images, boxes.tolist(), flips.tolist(), strict=True):
        yield crop_resize_one(image, box, flipped, size)


def contrastive(
    images: Images,
    block: Simclr,
    size: tuple[int, int],
    kernel: int,
    rng: Generator,
) -> Views:
    """Resized crop, flip, color jitter, grayscale and blur, with the parameters in `block`."""
    (b, h, w, _), device = images.shape, images.device
    boxes, flips = draw_parts(b, h, w, block.crop_scale, block.crop_ratio, block.flip, device, rng)
    strengths = (block.brightness, block.contrast, block.saturation, block.hue)
    jitters = draw_jitter(b, strengths, block.jitter_probability, device, rng)
    grays, sigmas = [False] * b, [0.0] * b
    if block.grayscale_probability > 0:
        grays = draw_chosen(b, block.grayscale_probability, device, rng).tolist()
    if block.blur_probability > 0:
        drawn, chosen = draw_blurs(b, block.blur_sigma, block.blur_probability, device, rng)
        sigmas = (drawn * chosen).tolist()
    rows = zip(*(drawn.tolist() for drawn in (boxes, flips, *jitters)), grays, sigmas, strict=True)
    for image, (box, flipped, factors, shift, order, gray, sigma) in zip(images, rows, strict=True):
        view = jitter_one(crop_resize_one(image, box, flipped, size), factors, shift, order)
        view = grayscale(view[None])[0] if gray else view
        yield blur_one(view, sigma, kernel) if sigma else view


def strong(images: Images, block: Strong, size: tuple[int, int], rng: Generator) -> Views:
    """Crop, flip, and a few operations; without the hole."""
    places = draw_crops(images, 0, size, block.flip, rng)
    ranges = limits(block.rotate, block.shear, block.translate, block.enhance, block.posterize)
    steps = draw_operations(len(images), block.steps, ranges, images.device, rng)
    rows = zip(*(drawn.tolist() for drawn in (*places, *steps)), strict=True)
    for image, (offset, flipped, operations, magnitudes) in zip(images, rows, strict=True):
        view = crop_flip_one(image, offset, flipped, 0, size).permute(2, 0, 1)
        view = view.to(torch.float32, memory_format=torch.contiguous_format)
        for operation, magnitude in zip(operations, magnitudes, strict=True):
            view = operate_one(view, operation, magnitude)
        yield view.div_(255)


def cut_holes(views: Float[Tensor, "b ch h w"], longest: int, rng: Generator) -> None:
    """As `cutout`, in place."""
    holes = draw_holes(len(views), views.shape[2:], longest, views.device, rng)
    for view, center, length in zip(views, *(drawn.tolist() for drawn in holes), strict=True):
        cut_one(view, center, length)
