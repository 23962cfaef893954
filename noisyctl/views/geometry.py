"""Crops and flips of a whole batch, with a random place for each sample.

The distributions are those of torchvision's RandomCrop(size, padding), RandomHorizontalFlip and RandomResizedCrop. Each
random function draws, and then calls a function that takes what was drawn. A whole batch is cropped with one gather, or
resized with one grid.

Differs from torchvision on PIL images:
  - A resized crop is not rounded to 8 bits.
  - It is not antialiased. Antialiasing acts only where an image is reduced: never where the view is as large as the
    image, and by a factor of 256 / 224 at most where the recipe crops 224 of 256 pixels.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

TRIES = 10  # like torchvision, draw at most this many crops before the central one is taken


def pad_crop_flip(
    images: UInt8[Tensor, "b h w ch"], pad: int, size: tuple[int, int], flip: bool, rng: Generator
) -> UInt8[Tensor, "b ch h2 w2"]:
    """Pad each side with `pad` zeros, crop to `size` at a random place, and flip half of the images left to right."""
    return crop_flip(images, *draw_crops(images, pad, size, flip, rng), pad, size)


def draw_crops(
    images: UInt8[Tensor, "b h w ch"], pad: int, size: tuple[int, int], flip: bool, rng: Generator
) -> tuple[Int[Tensor, "b 2"], Bool[Tensor, " b"]]:
    """Where `pad_crop_flip` crops the padded images, and which ones it flips."""
    b, h, w, _ = images.shape
    offsets = draw_offsets(b, h + 2 * pad - size[0] + 1, w + 2 * pad - size[1] + 1, images.device, rng)
    return offsets, draw_flips(b, flip, images.device, rng)


def draw_offsets(
    number: int, rows: int, columns: int, device: torch.device, rng: Generator
) -> Int[Tensor, "b 2"]:
    """A row below `rows` and a column below `columns` for each sample.

    Where both limits are equal, rows and columns are drawn together.
    """
    if rows == columns:
        return torch.randint(rows, (number, 2), generator=rng, device=device)
    limits = (rows, columns)
    return torch.stack([torch.randint(n, (number,), generator=rng, device=device) for n in limits], dim=1)


def crop_flip(
    images: UInt8[Tensor, "b h w ch"],
    offsets: Int[Tensor, "b 2"],
    flips: Bool[Tensor, " b"],
    pad: int,
    size: tuple[int, int],
) -> UInt8[Tensor, "b ch h2 w2"]:
    """The crop of `size` at the (row, column) `offsets` of the padded image, flipped left to right where `flips`."""
    b, h, w, ch = images.shape
    height, width = size
    padded = images.new_zeros(b, ch, h + 2 * pad, w + 2 * pad)
    padded[:, :, pad : pad + h, pad : pad + w] = images.permute(0, 3, 1, 2)
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    columns = offsets[:, 1:] + torch.where(flips[:, None], width - 1 - columns, columns)
    pixels = rows[:, :, None] * (w + 2 * pad) + columns[:, None, :]
    pixels = pixels.view(b, 1, height * width).expand(b, ch, height * width)
    return padded.flatten(2).gather(2, pixels).view(b, ch, height, width)


def crop_flip_one(
    image: UInt8[Tensor, "h w ch"], offset: Sequence[int], flip: bool, pad: int, size: tuple[int, int]
) -> UInt8[Tensor, "h2 w2 ch"]:
    """The crop of `size` at the (row, column) `offset` of the padded image, flipped left to right if `flip`."""
    top, left = (start - pad for start in offset)
    (h, w, _), (height, width) = image.shape, size
    part = image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if part.shape[:2] != size:
        crop = image.new_zeros(height, width, image.shape[2])
        crop[max(-top, 0) : max(h - top, 0), max(-left, 0) : max(w - left, 0)] = part
        part = crop
    return part.flip(1) if flip else part


def center_crop(images: UInt8[Tensor, "b h w ch"], size: tuple[int, int]) -> UInt8[Tensor, "b h2 w2 ch"]:
    """The center of `size`. Where it would start between two pixels, it starts at the even one, as in torchvision."""
    top, left = (round((side - part) / 2) for side, part in zip(images.shape[1:3], size, strict=True))
    return images[:, top : top + size[0], left : left + size[1]]


def resized_crop(
    images: Float[Tensor, "b ch h w"],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    size: tuple[int, int],
    flip: bool,
    rng: Generator,
) -> Float[Tensor, "b ch h2 w2"]:
    """A random part of each image, resized to `size`; half of the parts are flipped left to right.

    The area of a part, as a fraction of the image's, is uniform in `scale`. The logarithm of its width / height is
    uniform between the logarithms of `ratio`.
    """
    b, _, h, w = images.shape
    boxes, flips = draw_parts(b, h, w, scale, ratio, flip, images.device, rng)
    return crop_resize(images, boxes, flips, size)


def draw_parts(
    number: int,
    h: int,
    w: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    flip: bool,
    device: torch.device,
    rng: Generator,
) -> tuple[Int[Tensor, "b 4"], Bool[Tensor, " b"]]:
    """Which part `resized_crop` takes of each image (top, left, height, width), and which ones it flips."""
    boxes = draw_boxes(number, h, w, scale, ratio, device, rng)
    return boxes, draw_flips(number, flip, device, rng)


def crop_resize(
    images: Float[Tensor, "b ch h w"],
    boxes: Int[Tensor, "b 4"],
    flips: Bool[Tensor, " b"],
    size: tuple[int, int],
) -> Float[Tensor, "b ch h2 w2"]:
    """The part in each box (top, left, height, width), resized to `size` (bilinear), and flipped where `flips`.

    As if the part had been cut out first, pixels outside the box do not influence its edges.
    """
    top, left, height, width = boxes.to(images.dtype).unsqueeze(2).unbind(1)
    h, w = images.shape[2:]
    rows = _source(top, height, size[0], h)
    columns = _source(left, width, size[1], w)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    shape = (len(images), *size)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=3)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def crop_resize_one(
    image: UInt8[Tensor, "h w ch"], box: Sequence[int], flip: bool, size: tuple[int, int]
) -> Float[Tensor, "ch h2 w2"]:
    """The part in the box (top, left, height, width) as floats between 0 and 1, resized to `size`, and flipped if `flip`.

    First the columns are mixed and then the rows, each as the first axis of a contiguous tensor: that is twice as fast as
    torch's interpolation.
    """
    top, left, height, width = box
    columns = to_float(image[top : top + height, left : left + width].permute(1, 2, 0))
    columns = _mix_slices(columns.flatten(1), size[1], flip).view(size[1], -1, height)
    rows = _mix_slices(columns.permute(2, 1, 0).flatten(1), size[0], False)
    return rows.view(size[0], -1, size[1]).permute(1, 0, 2)


def _mix_slices(slices: Float[Tensor, "n m"], size: int, backwards: bool) -> Float[Tensor, "size m"]:
    """The rows, resized to `size` of them (bilinear), in order or backwards."""
    number = len(slices)
    place = (torch.arange(size) + 0.5).mul_(number / size).sub_(0.5).clamp_(0, number - 1)
    place = place.flip(0) if backwards else place
    first = place.floor().clamp_max_(max(number - 2, 0))
    second = (first + 1).clamp_max_(number - 1)
    a, b = (slices.index_select(0, at.long()) for at in (first, second))
    return torch.lerp(a, b, (place - first)[:, None])


def to_float(images: UInt8[Tensor, "*b ch h w"]) -> Float[Tensor, "*b ch h w"]:
    """The images as contiguous floats between 0 and 1."""
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _source(
    start: Float[Tensor, "b 1"], length: Float[Tensor, "b 1"], size: int, side: int
) -> Float[Tensor, "b size"]:
    """Where each of `size` output pixels is read: -1 is the first edge of the image's `side`, 1 the last."""
    centers = torch.arange(size, device=start.device) + 0.5
    inside = (centers * length / size).clamp_min(0.5).minimum(length - 0.5)
    return (start + inside) * (2 / side) - 1


def draw_boxes(
    number: int,
    h: int,
    w: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device,
    rng: Generator,
) -> Int[Tensor, "b 4"]:
    """Boxes (top, left, height, width): the first of ten draws that fits into the image, or else the central one."""
    draws = torch.rand(number, TRIES, 2, generator=rng, device=device)
    areas = h * w * (scale[0] + (scale[1] - scale[0]) * draws[:, :, 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = (low + (high - low) * draws[:, :, 1]).exp()
    heights, widths = (areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()
    fits = (heights > 0) & (heights <= h) & (widths > 0) & (widths <= w)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.gather(1, first)[:, 0]
    central_h, central_w = central_box(h, w, ratio)
    height = torch.where(found, heights.gather(1, first)[:, 0], central_h)
    width = torch.where(found, widths.gather(1, first)[:, 0], central_w)
    place = torch.rand(number, 2, generator=rng, device=device)
    top = torch.where(found, (place[:, 0] * (h - height + 1)).floor(), (h - central_h) // 2)
    left = torch.where(found, (place[:, 1] * (w - width + 1)).floor(), (w - central_w) // 2)
    return torch.stack([top, left, height, width], dim=1).long()


def central_box(h: int, w: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest part of the image whose width / height lies in `ratio`."""
    if w / h < ratio[0]:
        return round(w / ratio[0]), w
    if w / h > ratio[1]:
        return h, round(h * ratio[1])
    return h, w


def draw_flips(number: int, flip: bool, device: torch.device, rng: Generator) -> Bool[Tensor, " b"]:
    """True for each sample with probability 1/2.

    Without `flip` it is False for all samples, and nothing is drawn.
    """
    if not flip:
        return torch.zeros(number, dtype=torch.bool, device=device)
    return torch.rand(number, generator=rng, device=device) < 0.5
