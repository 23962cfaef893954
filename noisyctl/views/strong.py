"""The strong view of ScanMix's official code: a few operations on each image, drawn from fourteen, and a hole.

The fourteen operations are the list that RandAugment (Cubuk et al., CVPR Workshops 2020) made common, with milder
magnitudes. The hole is that of Cutout (DeVries and Taylor, 2017). ScanMix (Sachdeva et al.) takes both from SCAN (Van
Gansbeke et al., ECCV 2020).

Each sample gets its own operation and magnitude. To avoid a loop over samples, all samples of a batch pass through the same
three computations, which together contain all operations:

  [1] look-up: solarize, posterize, autocontrast and equalize are tables that map each of the 256 levels to a new one
  [2] blend: brightness, contrast, color and sharpness mix the image with another one
  [3] move: rotate, shear and translate read the pixels at other places

In the computations that do not contain a sample's operation, its parameters are neutral: the table maps each level to
itself, the factor is 1, and pixels are read where they are.

A processor computes large images one after another (see the package), each with its own operations alone: `operate_one` and
`cut_one`, from numbers that are known on the host. They give the same levels.

Images are floats that hold whole levels 0..255, and every operation gives the same levels as Pillow does on 8 bits. One
exception is in [3]: where a pixel is read exactly halfway between two pixels, up to the rounding of float32, the other
one of the two may be taken.

Differs from the authors' code:
  - The code mirrors magnitudes at random. A magnitude that is uniform in -x..x needs no mirror, so none is drawn.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

LEVELS = 256
# weights of red, green and blue in gray, as in Pillow; exact in float32
LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)


class Op(IntEnum):
    """The fourteen operations; `limits` says in which unit the magnitude of each is."""

    IDENTITY = 0
    AUTOCONTRAST = 1
    EQUALIZE = 2
    ROTATE = 3
    SOLARIZE = 4
    COLOR = 5
    CONTRAST = 6
    BRIGHTNESS = 7
    SHARPNESS = 8
    SHEAR_X = 9
    SHEAR_Y = 10
    TRANSLATE_X = 11
    TRANSLATE_Y = 12
    POSTERIZE = 13


def limits(
    rotate: float,
    shear: float,
    translate: float,
    enhance: tuple[float, float],
    posterize: tuple[float, float],
) -> tuple[tuple[float, float], ...]:
    """Least and largest magnitude of each operation, in the order of `Op`.

    ROTATE: degrees, counterclockwise. SHEAR: pixels per pixel. TRANSLATE: fractions of the side. COLOR, CONTRAST,
    BRIGHTNESS, SHARPNESS: the factor of the image in a blend; 1 leaves it as it is, 0 makes it all gray, mean gray,
    black or smooth. SOLARIZE: the least level that is inverted. POSTERIZE: the number of bits that are kept, rounded
    down. Other operations have no magnitude.
    """
    by_op = {
        Op.ROTATE: (-rotate, rotate),
        Op.SOLARIZE: (0.0, 256.0),
        **dict.fromkeys((Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS), enhance),
        **dict.fromkeys((Op.SHEAR_X, Op.SHEAR_Y), (-shear, shear)),
        **dict.fromkeys((Op.TRANSLATE_X, Op.TRANSLATE_Y), (-translate, translate)),
        Op.POSTERIZE: posterize,
    }
    return tuple(by_op.get(op, (0.0, 0.0)) for op in Op)


def augment(
    images: Float[Tensor, "b ch h w"], steps: int, limits: tuple[tuple[float, float], ...], rng: Generator
) -> Float[Tensor, "b ch h w"]:
    """`steps` operations on each image, drawn with replacement, each with a uniform magnitude within its `limits`."""
    operations, magnitudes = draw_operations(len(images), steps, limits, images.device, rng)
    for i in range(steps):
        images = operate(images, operations[:, i], magnitudes[:, i])
    return images


def draw_operations(
    number: int, steps: int, limits: tuple[tuple[float, float], ...], device: torch.device, rng: Generator
) -> tuple[Int[Tensor, "b steps"], Float[Tensor, "b steps"]]:
    """Random operations and their magnitudes, for each sample and step."""
    operations = torch.randint(len(Op), (number, steps), generator=rng, device=device)
    low, high = _on(device, limits)[operations].unbind(2)
    return operations, low + (high - low) * torch.rand(number, steps, generator=rng, device=device)


def operate(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Apply to each image its own operation."""
    images = _look_up(images, operations, magnitudes)  # [1]
    images = _blend(images, operations, magnitudes)  # [2]
    return _move(images, operations, magnitudes)  # [3]


def operate_one(image: Float[Tensor, "ch h w"], operation: int, magnitude: float) -> Float[Tensor, "ch h w"]:
    """The same for one image. The image that is given may be overwritten."""
    match operation:
        case Op.IDENTITY:
            return image
        case Op.SOLARIZE:  # torch.where is slow on a processor: a factor of -1 mirrors at the middle
            middle, side = (LEVELS - 1) / 2, torch.sub(math.ceil(magnitude) - 0.5, image).sign_()
            return image.sub_(middle).mul_(side).add_(middle)
        case Op.POSTERIZE:
            step = 2 ** (8 - math.floor(magnitude))
            return image.div_(step).floor_().mul_(step)
        case Op.AUTOCONTRAST | Op.EQUALIZE:
            return _look_up_one(image, operation)
        case Op.BRIGHTNESS:
            return image.mul_(magnitude).floor_()
        case Op.COLOR:
            return _mix(_gray(image[None])[0], image, magnitude)
        case Op.CONTRAST:
            return _mix(_gray(image[None]).mean().add_(0.5).floor_(), image, magnitude)
        case Op.SHARPNESS:
            inner = image[:, 1:-1, 1:-1]
            inner.copy_(_mix(_smooth(image[None])[0], inner, magnitude))
            return image
        case Op.ROTATE:
            return _move(image[None], torch.tensor([operation]), torch.tensor([magnitude]))[0]
    return _shift_one(image, operation, magnitude)


def _look_up_one(image: Float[Tensor, "ch h w"], operation: int) -> Float[Tensor, "ch h w"]:
    """Autocontrast and equalize [1], which look at all pixels first."""
    pixels, chosen = image.flatten(1), torch.ones(1, 1, 1, dtype=torch.bool)
    largest = pixels.amax(dim=1)[None, :, None]
    if operation == Op.AUTOCONTRAST:
        least = pixels.amin(dim=1)[None, :, None]
        return _stretch(pixels[None], least, largest, chosen).view_as(image)
    levels = pixels.long()
    counts = torch.stack([channel.bincount(minlength=LEVELS) for channel in levels]).float()[None]
    table = _fixed_tables(image.device)[LEVELS].expand_as(counts)
    table = _equalize(table, counts, levels.shape[1], largest, chosen)
    return table[0].gather(1, levels).view_as(image)


def _shift_one(image: Float[Tensor, "ch h w"], operation: int, magnitude: float) -> Float[Tensor, "ch h w"]:
    """Shear and translate [3]: every row or column is shifted by whole pixels, and those with one shift at once."""
    across = operation in (Op.SHEAR_X, Op.TRANSLATE_X)  # rows are shifted, along their length
    lines = image if across else image.transpose(1, 2)
    moved, (number, length) = torch.zeros_like(image), lines.shape[1:]
    into = moved if across else moved.transpose(1, 2)
    if operation in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
        shifts = [round(magnitude * length)] * number
    else:
        shifts = [round(magnitude * (line + 0.5)) for line in range(number)]
    start = 0
    for shift, group in itertools.groupby(shifts):
        end, left = start + len(list(group)), max(length - abs(shift), 0)
        read, write = max(shift, 0), max(-shift, 0)
        into[:, start:end, write : write + left] = lines[:, start:end, read : read + left]
        start = end
    return moved


def _look_up(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Solarize, posterize, autocontrast and equalize [1].

    Solarize and posterize have fixed tables, and other operations the identity. Autocontrast then stretches the
    table; equalize replaces it.
    """
    levels = images.flatten(2).long()
    least, largest = (reduce(images.flatten(2), 2, keepdim=True) for reduce in (torch.amin, torch.amax))
    table = _fixed_tables(images.device).index_select(0, _table_number(operations, magnitudes))[:, None]
    table = _stretch(table, least, largest, _is(Op.AUTOCONTRAST, operations))
    ones = torch.ones((), device=levels.device).expand_as(levels)
    counts = torch.zeros_like(table).scatter_add_(2, levels, ones)
    table = _equalize(table, counts, levels.shape[2], largest, _is(Op.EQUALIZE, operations))
    return table.gather(2, levels).view_as(images)


def _table_number(operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The row of `_fixed_tables` that each sample uses."""
    number = torch.where(operations == Op.POSTERIZE, LEVELS + 8 - magnitudes.floor(), LEVELS)
    return torch.where(operations == Op.SOLARIZE, magnitudes.ceil(), number).long()


@functools.lru_cache
def _fixed_tables(device: torch.device) -> Float[Tensor, "265 256"]:
    """The tables that do not depend on an image, one per row.

    Rows 0 to 255 solarize, from this level on. Row 256 keeps 8 bits and so is the identity; row 264 keeps 0 bits.
    """
    level = torch.arange(LEVELS, device=device)
    solarized = torch.where(level < level[:, None], level, LEVELS - 1 - level)
    posterized = torch.stack([level >> lost << lost for lost in range(9)])
    return torch.cat([solarized, posterized]).float()


def _stretch(
    table: Float[Tensor, "b #ch n"],
    least: Float[Tensor, "b ch 1"],
    largest: Float[Tensor, "b ch 1"],
    chosen: Bool[Tensor, "b 1 1"],
) -> Float[Tensor, "b ch n"]:
    """Autocontrast where `chosen`: the levels from `least` to `largest` are stretched to 0..255.

    It is computed in float64, as in Pillow, since the result is rounded down to whole numbers.
    """
    chosen = chosen & (largest > least)
    span = (largest - least).double()
    # a tensor, since number / tensor multiplies by the reciprocal and so rounds twice
    whole = torch.full_like(span, LEVELS - 1)
    scale = torch.where(chosen, whole / span, 1)
    return table.mul(scale).sub_(torch.where(chosen, least * scale, 0)).floor_().float()


def _equalize(
    table: Float[Tensor, "b ch 256"],
    counts: Float[Tensor, "b ch 256"],
    pixels: int,
    largest: Float[Tensor, "b ch 1"],
    chosen: Bool[Tensor, "b 1 1"],
) -> Float[Tensor, "b ch 256"]:
    """Equalize where `chosen`: each level is replaced by one in proportion to the number of darker pixels.

    All levels then become about equally frequent. `counts` says how often each level stands among the `pixels`.
    """
    step = ((pixels - counts.gather(2, largest.long())) / (LEVELS - 1)).floor()
    darker = counts.cumsum(dim=2).sub_(counts)
    equalized = darker.add_((step / 2).floor()).div_(step.clamp_min(1)).floor_().clamp_max_(LEVELS - 1)
    return torch.lerp(table, equalized, (chosen & (step > 0)).float())


def _blend(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Brightness, contrast, color and sharpness [2]: blends with black, mean gray, gray and the smoothed image.

    Pixels at the edge have no smoothed version, so sharpness leaves them as they are.
    """
    brightness, contrast, color, sharpness = (
        _is(op, operations)[..., None] for op in (Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.SHARPNESS)
    )
    magnitudes = magnitudes[:, None, None, None]
    gray = _gray(images)
    mean = gray.mean(dim=(2, 3), keepdim=True).add_(0.5).floor_()
    images = _mix(
        gray * color + mean * contrast, images, torch.where(brightness | contrast | color, magnitudes, 1)
    )
    inner = images[:, :, 1:-1, 1:-1]
    inner.copy_(_mix(_smooth(images), inner, torch.where(sharpness, magnitudes, 1)))
    return images


def _smooth(images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b ch h2 w2"]:
    """The smoothed image, without the pixels at its edge.

    A pixel becomes the mean of the 3 x 3 pixels around it, in which it has five times the weight of the others.
    """
    rows = (images[:, :, :-2] + images[:, :, 1:-1]).add_(images[:, :, 2:])
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    return total.add_(images[:, :, 1:-1, 1:-1], alpha=4).div_(13).add_(0.5).floor_()


def _move(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Rotate about the center, shear along the upper or left edge, or shift [3].

    The nearest pixel is read; what comes in from outside is black.
    """
    b, _, h, w = images.shape
    angle = torch.where(operations == Op.ROTATE, magnitudes.deg2rad(), 0)[:, None, None]
    shear_x, shear_y, shift_x, shift_y = (
        torch.where(operations == op, magnitudes, 0)[:, None, None]
        for op in (Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y)
    )
    x, y = _centers(w, images.device), _centers(h, images.device)[:, None]
    cos, sin = angle.cos(), angle.sin()
    grid = images.new_empty(b, h, w, 2)
    torch.add(cos * x + 2 * shift_x, ((shear_x - sin) * y + shear_x) * (h / w), out=grid[..., 0])
    torch.add(cos * y + 2 * shift_y, ((shear_y + sin) * x + shear_y) * (w / h), out=grid[..., 1])
    return grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def cutout(views: Float[Tensor, "b ch h w"], longest: int, rng: Generator) -> Float[Tensor, "b ch h w"]:
    """A square hole of zeros in each image, around a uniformly drawn pixel.

    Its side is uniform in 1..`longest`, an odd side is reduced by one, and what lies outside the image is clipped.
    """
    return cut(views, *draw_holes(len(views), views.shape[2:], longest, views.device, rng))


def draw_holes(
    number: int, size: Sequence[int], longest: int, device: torch.device, rng: Generator
) -> tuple[Int[Tensor, "b 2"], Int[Tensor, " b"]]:
    """Center (row, column) and side of each hole, before an odd side is reduced by one."""
    draws = torch.rand(number, 3, generator=rng, device=device)
    lengths = (draws[:, 0] * longest).long() + 1
    return torch.stack([draws[:, 1] * size[0], draws[:, 2] * size[1]], dim=1).long(), lengths


def cut(
    views: Float[Tensor, "b ch h w"], centers: Int[Tensor, "b 2"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Zeros in the rows and columns from `center` - length // 2 up to, but not including, `center` + length // 2."""
    h, w = views.shape[2:]
    half = (lengths // 2)[:, None]
    rows, columns = (
        (places >= center - half) & (places < center + half)
        for center, places in (
            (centers[:, :1], torch.arange(h, device=views.device)),
            (centers[:, 1:], torch.arange(w, device=views.device)),
        )
    )
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def cut_one(view: Float[Tensor, "ch h w"], center: Sequence[int], length: int) -> None:
    """The same for one view, in place."""
    rows, columns = (slice(max(place - length // 2, 0), place + length // 2) for place in center)
    view[:, rows, columns] = 0


def _is(op: Op, operations: Int[Tensor, " b"]) -> Bool[Tensor, "b 1 1"]:
    """Mask of the samples whose operation is `op`."""
    return (operations == op)[:, None, None]


def _mix(other: Tensor, images: Tensor, factor: Tensor | float) -> Tensor:
    """other + factor (images - other), rounded down as in Pillow; with factor 1 the images are unchanged."""
    return (images - other).mul_(factor).add_(other).floor_()


def _gray(images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b 1 h w"]:
    """Gray images, with one channel, rounded to whole levels."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    gray = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return gray.add_(0.5).floor_()[:, None]


@functools.lru_cache
def _on(device: torch.device, values: tuple[tuple[float, float], ...]) -> Float[Tensor, "op 2"]:
    """The values as a tensor, which is copied to the device once."""
    return torch.tensor(values, device=device)


def _centers(size: int, device: torch.device) -> Float[Tensor, " size"]:
    """The center of each of `size` pixels, in an image that reaches from -1 to 1, as grid_sample counts."""
    return (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
