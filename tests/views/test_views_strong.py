"""Operations of the strong view, sample by sample against Pillow's and torchvision's, and what is drawn."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare

from noisyctl.views import strong
from noisyctl.views.strong import Op

CPU = torch.device("cpu")
LIMITS = strong.limits(rotate=30.0, shear=0.1, translate=0.1, enhance=(0.05, 0.95), posterize=(4.0, 8.0))
SHAPES = [(32, 32, 3), (8, 8, 1), (12, 20, 3), (20, 12, 1), (2, 5, 3), (1, 1, 1)]
MOVES = [Op.ROTATE, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(b, h, w, ch, seed=0):
    """Whole levels; one image constant, one of two levels, one that misses both ends, the rest random."""
    images = torch.randint(256, (b, ch, h, w), generator=rng(seed)).float()
    images[0] = 77
    images[1 % b] = (images[1 % b] > 127).float() * 100 + 50
    images[2 % b] = (images[2 % b] / 3 + 40).floor()
    return images


def shear_or_shift(image, *matrix):
    """With the inverse map that Pillow takes: source x = a x + b y + c, source y = d x + e y + f."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


THEIRS = {
    Op.IDENTITY: lambda image, _: image,
    Op.AUTOCONTRAST: lambda image, _: F.autocontrast(image),
    Op.EQUALIZE: lambda image, _: F.equalize(image),
    Op.SOLARIZE: F.solarize,
    Op.COLOR: F.adjust_saturation,
    Op.CONTRAST: F.adjust_contrast,
    Op.BRIGHTNESS: F.adjust_brightness,
    Op.SHARPNESS: F.adjust_sharpness,
    Op.POSTERIZE: lambda image, bits: F.posterize(image, int(bits)),
    Op.ROTATE: lambda image, degrees: F.rotate(image, degrees),
    Op.SHEAR_X: lambda image, v: shear_or_shift(image, 1, v, 0, 0, 1, 0),
    Op.SHEAR_Y: lambda image, v: shear_or_shift(image, 1, 0, 0, v, 1, 0),
    Op.TRANSLATE_X: lambda image, v: shear_or_shift(image, 1, 0, v * image.width, 0, 1, 0),
    Op.TRANSLATE_Y: lambda image, v: shear_or_shift(image, 1, 0, 0, 0, 1, v * image.height),
}


def pillow(image):
    return F.to_pil_image(image.byte())


def pixels(image):
    return F.pil_to_tensor(image).float()


def operate_each(images, operations, magnitudes):
    """`operate` by the form for one image, which may overwrite it."""
    rows = zip(images.clone(), operations.tolist(), magnitudes.tolist(), strict=True)
    return torch.stack([strong.operate_one(*row) for row in rows])


FORMS = pytest.mark.parametrize("operate", [strong.operate, operate_each], ids=["batch", "one by one"])


def one_of_each(op, h, w, ch, operate, seed=0):
    """A few images, one operation at random magnitudes, what we make of them."""
    images = photos(6, h, w, ch, seed)
    low, high = LIMITS[op]
    magnitudes = low + (high - low) * torch.rand(6, generator=rng(seed + 1))
    return images, magnitudes, operate(images.clone(), torch.full((6,), int(op)), magnitudes)


@FORMS
@pytest.mark.parametrize("h, w, ch", SHAPES)
@pytest.mark.parametrize("op", [op for op in Op if op not in MOVES])
def test_levels_are_pillows(op, h, w, ch, operate):
    """Level for level: the authors' code worked on Pillow's images."""
    images, magnitudes, views = one_of_each(op, h, w, ch, operate)
    for image, magnitude, view in zip(images, magnitudes.tolist(), views, strict=True):
        assert torch.equal(view, pixels(THEIRS[op](pillow(image), magnitude)))


@FORMS
@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([op for op in Op if op not in MOVES]),
    st.integers(3, 24),
    st.integers(3, 24),
    st.sampled_from([1, 3]),
    st.integers(0, 9999),
)
def test_levels_are_pillows_on_any_shape(operate, op, h, w, ch, seed):
    images, magnitudes, views = one_of_each(op, h, w, ch, operate, seed)
    for image, magnitude, view in zip(images, magnitudes.tolist(), views, strict=True):
        assert torch.equal(view, pixels(THEIRS[op](pillow(image), magnitude)))


@FORMS
@pytest.mark.parametrize("op", [op for op in THEIRS if op not in MOVES])
def test_levels_are_torchvisions_on_tensors(op, operate):
    """torchvision rounds gray and its mean down, Pillow to the nearest: one level apart at most; tables agree."""
    images, magnitudes, views = one_of_each(op, 32, 32, 3, operate)
    blends = op in (Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS, Op.AUTOCONTRAST)
    for image, magnitude, view in zip(images, magnitudes.tolist(), views, strict=True):
        expected = THEIRS[op](image.byte(), magnitude)
        torch.testing.assert_close(view, expected.float(), atol=1 if blends else 0, rtol=0)


def sources(op, magnitude, h, w):
    """Where each pixel's middle comes from, from the definition, in float64."""
    x, y = torch.meshgrid(torch.arange(w) + 0.5, torch.arange(h) + 0.5, indexing="xy")
    x, y = x.double(), y.double()
    if op is Op.ROTATE:
        c, s, dx, dy = (
            math.cos(math.radians(magnitude)),
            math.sin(math.radians(magnitude)),
            x - w / 2,
            y - h / 2,
        )
        return c * dx - s * dy + w / 2, s * dx + c * dy + h / 2
    return {
        Op.SHEAR_X: (x + magnitude * y, y),
        Op.SHEAR_Y: (x, y + magnitude * x),
        Op.TRANSLATE_X: (x + magnitude * w, y),
        Op.TRANSLATE_Y: (x, y + magnitude * h),
    }[op]


@FORMS
@pytest.mark.parametrize("h, w, ch", SHAPES)
@pytest.mark.parametrize("op", MOVES)
def test_moves_are_pillows(op, h, w, ch, operate):
    """But for pixels whose source lies within 1/1000 of the edge between two."""
    images, magnitudes, views = one_of_each(op, h, w, ch, operate)
    decided = 0
    for image, magnitude, view in zip(images, magnitudes.tolist(), views, strict=True):
        sharp = torch.ones(h, w, dtype=torch.bool)
        for source in sources(op, magnitude, h, w):
            sharp &= (source - source.round()).abs() > 1e-3
        assert torch.equal(view[:, sharp], pixels(THEIRS[op](pillow(image), magnitude))[:, sharp])
        decided += int(sharp.sum())
    assert decided > 0.98 * 6 * h * w


@FORMS
@pytest.mark.parametrize("op", MOVES)
def test_moves_are_torchvisions(op, operate):
    """torchvision's affine on tensors, whose shear is an angle; same nearest pixel but for one in a hundred."""
    images, magnitudes, views = one_of_each(op, 32, 32, 3, operate)
    for image, v, view in zip(images, magnitudes.tolist(), views, strict=True):
        degrees = math.degrees(math.atan(v))
        words = {
            Op.ROTATE: {"angle": -v},
            Op.SHEAR_X: {"shear": [degrees, 0.0], "center": [0.0, 0.0]},
            Op.SHEAR_Y: {"shear": [0.0, degrees], "center": [0.0, 0.0]},
        }.get(op, {})
        if op in (
            Op.TRANSLATE_X,
            Op.TRANSLATE_Y,
        ):  # torchvision shifts by whole pixels on Pillow's images only
            words = {"translate": [-32 * v, 0.0] if op is Op.TRANSLATE_X else [0.0, -32 * v]}
        words = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0], **words}
        expected = F.affine(image, **words)
        assert (view != expected).float().mean() < 0.01


@FORMS
def test_by_hand(operate):
    """A column each: 4 levels of gray in a row of 4 pixels."""
    row = torch.tensor([0.0, 51, 102, 255]).view(1, 1, 1, 4)
    cases = [
        (Op.IDENTITY, 0.0, [0, 51, 102, 255]),
        (Op.BRIGHTNESS, 0.5, [0, 25, 51, 127]),  # halves, rounded down
        (Op.CONTRAST, 0.0, [102, 102, 102, 102]),  # the mean, (0 + 51 + 102 + 255) / 4
        (Op.COLOR, 0.05, [0, 51, 102, 255]),  # gray has no color
        (Op.SOLARIZE, 102.0, [0, 51, 153, 0]),  # 102 and above are inverted
        (Op.SOLARIZE, 102.1, [0, 51, 102, 0]),
        (Op.SOLARIZE, 256.0, [0, 51, 102, 255]),
        (Op.SOLARIZE, 0.0, [255, 204, 153, 0]),
        (Op.POSTERIZE, 1.9, [0, 0, 0, 128]),  # one bit
        (Op.POSTERIZE, 8.0, [0, 51, 102, 255]),
        (Op.POSTERIZE, 0.0, [0, 0, 0, 0]),
        (Op.TRANSLATE_X, 0.25, [51, 102, 255, 0]),  # looks one pixel to the right
        (Op.TRANSLATE_Y, 1.0, [0, 0, 0, 0]),  # out of sight
        (Op.AUTOCONTRAST, 0.0, [0, 51, 102, 255]),  # already from 0 to 255
        (Op.EQUALIZE, 0.0, [0, 51, 102, 255]),  # fewer than 255 pixels: stays, as in Pillow
    ]
    for op, magnitude, expected in cases:
        view = operate(row.clone(), torch.tensor([int(op)]), torch.tensor([magnitude]))
        assert view.flatten().tolist() == expected, (op, magnitude)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 999), st.permutations(range(14)))
def test_samples_are_independent(seed, order):
    """Each of the fourteen in one batch: permuting the samples permutes the views, bit for bit."""
    order, images = torch.tensor(order), photos(14, 9, 11, 3, seed)
    operations, (low, high) = torch.arange(14), torch.tensor(LIMITS).unbind(1)
    magnitudes = low + (high - low) * torch.rand(14, generator=rng(seed))
    views = strong.operate(images, operations, magnitudes)
    assert torch.equal(strong.operate(images[order], operations[order], magnitudes[order]), views[order])


def test_levels_stay_levels():
    views = strong.augment(photos(200, 12, 12, 3), 4, LIMITS, rng())
    assert torch.equal(views, views.floor()) and views.min() >= 0 and views.max() <= 255


def test_augment_is_the_steps_in_turn():
    images = photos(40, 10, 10, 3)
    operations, magnitudes = strong.draw_operations(40, 3, LIMITS, CPU, rng(5))
    expected = images
    for i in range(3):
        expected = strong.operate(expected, operations[:, i], magnitudes[:, i])
    assert torch.equal(strong.augment(images, 3, LIMITS, rng(5)), expected)


def test_draws_are_uniform_and_independent():
    """All pairs of two steps; magnitudes over their range."""
    operations, magnitudes = strong.draw_operations(40000, 2, LIMITS, CPU, rng())
    pairs = torch.bincount(operations[:, 0] * 14 + operations[:, 1], minlength=196)
    assert chisquare(pairs).pvalue > 1e-4
    for op in Op:
        drawn, (low, high) = magnitudes[operations == op], LIMITS[op]
        if low == high:
            assert (drawn == low).all()
            continue
        assert low <= drawn.min() and drawn.max() <= high
        cells = ((drawn - low) / (high - low) * 10).long().clamp_max(9)
        assert chisquare(torch.bincount(cells, minlength=10)).pvalue > 1e-4, op


def test_limits_are_the_authors():
    assert dict(zip([op.name for op in Op], LIMITS, strict=True)) == {
        "IDENTITY": (0, 0),
        "AUTOCONTRAST": (0, 0),
        "EQUALIZE": (0, 0),
        "ROTATE": (-30, 30),
        "SOLARIZE": (0, 256),
        "COLOR": (0.05, 0.95),
        "CONTRAST": (0.05, 0.95),
        "BRIGHTNESS": (0.05, 0.95),
        "SHARPNESS": (0.05, 0.95),
        "SHEAR_X": (-0.1, 0.1),
        "SHEAR_Y": (-0.1, 0.1),
        "TRANSLATE_X": (-0.1, 0.1),
        "TRANSLATE_Y": (-0.1, 0.1),
        "POSTERIZE": (4, 8),
    }


def test_cut_by_hand():
    ones = torch.ones(4, 1, 4, 4)
    centers = torch.tensor([[1, 2], [0, 0], [3, 3], [2, 2]])
    holes = strong.cut(ones, centers, torch.tensor([2, 5, 4, 1]))[:, 0]
    for one, center, length, hole in zip(ones.clone(), centers.tolist(), [2, 5, 4, 1], holes, strict=True):
        strong.cut_one(one, center, length)
        assert torch.equal(one[0], hole)
    assert holes.tolist() == [
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]],  # rows 0, 1, columns 1, 2
        [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],  # 5 counts as 4: from -2 to 2, clipped
        [[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],  # from 1 to 5, clipped
        [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],  # 1 counts as 0
    ]


def test_cutout_is_uniform():
    """Length 1..16 and center anywhere: side and place of the holes that lie inside tell both."""
    views = strong.cutout(torch.ones(8000, 1, 40, 30), 16, rng())
    assert views.unique().tolist() == [0, 1]
    hole = views[:, 0] == 0
    rows, columns = hole.any(2), hole.any(1)
    top, left, side = rows.int().argmax(1), columns.int().argmax(1), rows.sum(1)
    middle_row, middle_column = top + side // 2, left + columns.sum(1) // 2
    inside = (middle_row >= 8) & (middle_row < 32) & (middle_column >= 8) & (middle_column < 22) & (side > 0)
    assert torch.equal(rows[inside].sum(1), columns[inside].sum(1))
    halves = torch.bincount(side[inside] // 2, minlength=9)[1:]
    # two lengths make a half of 1..7, 2 and 3 for example; length 16 alone makes the half of 8
    assert (
        chisquare(halves, halves.sum() * torch.tensor([2, 2, 2, 2, 2, 2, 2, 1]).double() / 15).pvalue > 1e-4
    )
    assert chisquare(torch.bincount(middle_row[inside] - 8, minlength=24)).pvalue > 1e-4
    assert chisquare(torch.bincount(middle_column[inside] - 8, minlength=14)).pvalue > 1e-4
    assert abs((~hole.flatten(1).any(1)).float().mean() - 1 / 16) < 5 * (1 / 16 / 8000) ** 0.5  # length 1
