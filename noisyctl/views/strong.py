"""The strong view of ScanMix's official code: a few operations on each image, drawn from fourteen, and a hole.

Fourteen is the list that RandAugment (Cubuk et al., CVPR Workshops 2020) made common, with milder magnitudes; the hole
is that of Cutout (DeVries and Taylor, 2017). ScanMix (Sachdeva et al.) takes both from SCAN (Van Gansbeke et al.,
ECCV 2020). A step gives each sample its own operation and magnitude, and treats all samples alike:

  [1] look up: solarize, posterize, autocontrast and equalize are tables of 256 levels
  [2] blend: brightness, contrast, color and sharpness
  [3] move: rotate, shear and translate are one grid

An operation that is not a sample's own is neutral there: its own table, factor 1, the grid at rest. Images are floats
that hold whole levels 0..255, so each operation equals Pillow's on 8 bits, level for level. In [3] a pixel whose
source lies between two pixels, up to the rounding of float32, may take the other one.

Differs from the authors' code: a uniform magnitude in -x..x needs no random mirror, so none is drawn.
"""

import functools
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

LEVELS = 256
# weights of red, green and blue in gray, Pillow's; exact in float32
LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)


class Op(IntEnum):
    """The operations; `limits` gives the unit of each magnitude."""

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

    Degrees, counterclockwise; pixels a pixel; fractions of the side; a factor (0: all gray, black or smooth, 1: as it
    is); the least level that is inverted; bits, rounded down.
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
    """`steps` operations on each image, drawn with replacement, each at a uniform magnitude."""
    operations, magnitudes = draw_operations(len(images), steps, limits, images.device, rng)
    for i in range(steps):
        images = operate(images, operations[:, i], magnitudes[:, i])
    return images


def draw_operations(
    number: int, steps: int, limits: tuple[tuple[float, float], ...], device: torch.device, rng: Generator
) -> tuple[Int[Tensor, "b steps"], Float[Tensor, "b steps"]]:
    """Operations and their magnitudes."""
    operations = torch.randint(len(Op), (number, steps), generator=rng, device=device)
    low, high = _on(device, limits)[operations].unbind(2)
    return operations, low + (high - low) * torch.rand(number, steps, generator=rng, device=device)


def operate(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """One operation on each image."""
    images = _look_up(images, operations, magnitudes)  # [1]
    images = _blend(images, operations, magnitudes)  # [2]
    return _move(images, operations, magnitudes)  # [3]


def _look_up(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Solarize and posterize have ready tables; autocontrast stretches them, equalize puts its own in their place."""
    levels = images.flatten(2).long()
    least, largest = (reduce(images.flatten(2), 2, keepdim=True) for reduce in (torch.amin, torch.amax))
    table = _fixed_tables(images.device).index_select(0, _table_number(operations, magnitudes))[:, None]
    table = _stretch(table, least, largest, _is(Op.AUTOCONTRAST, operations))
    table = _equalize(table, levels, largest, _is(Op.EQUALIZE, operations))
    return table.gather(2, levels).view_as(images)


def _table_number(operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Rows of `_fixed_tables`."""
    number = torch.where(operations == Op.POSTERIZE, LEVELS + 8 - magnitudes.floor(), LEVELS)
    return torch.where(operations == Op.SOLARIZE, magnitudes.ceil(), number).long()


@functools.lru_cache
def _fixed_tables(device: torch.device) -> Float[Tensor, "265 256"]:
    """Solarize from each of 256 levels on, then posterize to 8 bits (which is the identity), 7, ... 0."""
    level = torch.arange(LEVELS, device=device)
    solarized = torch.where(level < level[:, None], level, LEVELS - 1 - level)
    posterized = torch.stack([level >> lost << lost for lost in range(9)])
    return torch.cat([solarized, posterized]).float()


def _stretch(
    table: Float[Tensor, "b 1 256"],
    least: Float[Tensor, "b ch 1"],
    largest: Float[Tensor, "b ch 1"],
    chosen: Bool[Tensor, "b 1 1"],
) -> Float[Tensor, "b ch 256"]:
    """The levels from `least` to `largest` over 0..255; in float64, as Pillow, since whole numbers are at stake."""
    chosen = chosen & (largest > least)
    span = (largest - least).double()
    whole = torch.full_like(span, LEVELS - 1)  # number / tensor multiplies by a reciprocal: it rounds twice
    scale = torch.where(chosen, whole / span, 1)
    return table.mul(scale).sub_(torch.where(chosen, least * scale, 0)).floor_().float()


def _equalize(
    table: Float[Tensor, "b ch 256"],
    levels: Int[Tensor, "b ch n"],
    largest: Float[Tensor, "b ch 1"],
    chosen: Bool[Tensor, "b 1 1"],
) -> Float[Tensor, "b ch 256"]:
    """Each level by the number of darker pixels, so that all levels become about as frequent."""
    ones = torch.ones((), device=levels.device).expand_as(levels)
    counts = torch.zeros_like(table).scatter_add_(2, levels, ones)
    step = ((levels.shape[2] - counts.gather(2, largest.long())) / (LEVELS - 1)).floor()
    darker = counts.cumsum(dim=2).sub_(counts)
    equalized = darker.add_((step / 2).floor()).div_(step.clamp_min(1)).floor_().clamp_max_(LEVELS - 1)
    return torch.lerp(table, equalized, (chosen & (step > 0)).float())


def _blend(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Brightness, contrast, color and sharpness: away from black, mean gray, gray and the smooth image.

    A pixel at an edge has no smooth one, and stays.
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
    """Mean of 3 x 3 pixels with five times the weight on the middle one, where there are 3 x 3."""
    rows = (images[:, :, :-2] + images[:, :, 1:-1]).add_(images[:, :, 2:])
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    return total.add_(images[:, :, 1:-1, 1:-1], alpha=4).div_(13).add_(0.5).floor_()


def _move(
    images: Float[Tensor, "b ch h w"], operations: Int[Tensor, " b"], magnitudes: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Rotated about the middle, sheared along the upper or left edge, or shifted; nearest pixel, black comes in."""
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
    """Zeros in a square around a uniform pixel, its side uniform in 1..`longest`, made even from above; clipped."""
    b, _, h, w = views.shape
    draws = torch.rand(b, 3, generator=rng, device=views.device)
    lengths = (draws[:, 0] * longest).long() + 1
    centers = torch.stack([draws[:, 1] * h, draws[:, 2] * w], dim=1).long()
    return cut(views, centers, lengths)


def cut(
    views: Float[Tensor, "b ch h w"], centers: Int[Tensor, "b 2"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Zeros in rows and columns `center` - length // 2 up to, without, `center` + length // 2."""
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


def _is(op: Op, operations: Int[Tensor, " b"]) -> Bool[Tensor, "b 1 1"]:
    return (operations == op)[:, None, None]


def _mix(other: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """other + factor (images - other), rounded down as Pillow does; factor 1 is the identity."""
    return (images - other).mul_(factor).add_(other).floor_()


def _gray(images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b 1 h w"]:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    gray = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return gray.add_(0.5).floor_()[:, None]


@functools.lru_cache
def _on(device: torch.device, values: tuple[tuple[float, float], ...]) -> Float[Tensor, "op 2"]:
    """Copied to the device once."""
    return torch.tensor(values, device=device)


def _centers(size: int, device: torch.device) -> Float[Tensor, " size"]:
    """The middle of each of `size` pixels, where the image reaches from -1 to 1, as grid_sample counts."""
    return (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
