"""Crops and flips, sample by sample against torchvision, and what is drawn against what it promises."""

import math

import pytest
import torch
import torchvision.transforms.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop

from noisyctl.views import geometry

CPU = torch.device("cpu")
RATIO = (3 / 4, 4 / 3)
SHAPES = [(8, 8, 1), (32, 32, 3), (12, 20, 3), (20, 12, 1), (1, 5, 3)]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(b, h, w, ch, seed=0):
    return torch.randint(256, (b, h, w, ch), dtype=torch.uint8, generator=rng(seed))


def crop_flip_each(images, offsets, flips, pad, size):
    """`crop_flip` by the form for one image."""
    rows = zip(images, offsets.tolist(), flips.tolist(), strict=True)
    return torch.stack([geometry.crop_flip_one(*row, pad, size).permute(2, 0, 1) for row in rows])


def crop_resize_each(images, boxes, flips, size):
    """`crop_resize` by the form for one image."""
    rows = zip(images, boxes.tolist(), flips.tolist(), strict=True)
    return torch.stack([geometry.crop_resize_one(*row, size) for row in rows])


def crop_resize_batch(images, boxes, flips, size):
    return geometry.crop_resize(images.permute(0, 3, 1, 2) / 255, boxes, flips, size)


def forms(name, *functions):
    return pytest.mark.parametrize(name, functions, ids=["batch", "one by one"])


CROPS = forms("crop_flip", geometry.crop_flip, crop_flip_each)
RESIZES = forms("crop_resize", crop_resize_batch, crop_resize_each)


def chi_square(values, cells):
    """(sum of squared deviations / expected - degrees of freedom) / its standard deviation, for a uniform law."""
    counts = torch.bincount(values.reshape(-1), minlength=cells).double()
    expected = counts.sum() / cells
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float((statistic - (cells - 1)) / math.sqrt(2 * (cells - 1)))


@CROPS
def test_crop_flip_by_hand(crop_flip):
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 2, 2, 1)
    places = torch.tensor([[0, 0], [1, 1], [1, 1], [2, 0]])
    flips = torch.tensor([False, False, True, True])
    crops = crop_flip(image.expand(4, 2, 2, 1), places, flips, 1, (2, 2))
    assert crops[:, 0].tolist() == [
        [[0, 0], [0, 1]],  # the corner of the padding, and the first pixel
        [[1, 2], [3, 4]],  # in the middle: the image
        [[2, 1], [4, 3]],  # in the middle, flipped
        [[3, 0], [0, 0]],  # down to the left [[0, 3], [0, 0]], flipped
    ]


@CROPS
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 4), st.integers(0, 999))
def test_crop_flip_is_torchvisions(crop_flip, h, w, ch, pad, seed):
    images = photos(6, h, w, ch, seed)
    size = (1 + seed % h, 1 + seed % w)
    spread = (h + 2 * pad - size[0] + 1, w + 2 * pad - size[1] + 1)
    places = geometry.draw_offsets(6, *spread, CPU, rng(seed))
    flips = torch.rand(6, generator=rng(seed)) < 0.5
    crops = crop_flip(images, places, flips, pad, size)
    for image, (top, left), flip, crop in zip(images, places.tolist(), flips, crops, strict=True):
        expected = F.crop(F.pad(image.permute(2, 0, 1), [pad]), top, left, *size)
        assert torch.equal(crop, F.hflip(expected) if flip else expected)


def test_offsets_and_flips_are_uniform_and_independent():
    """The place of the one bright pixel tells offset and flip: 5 x 5 places, flipped or not."""
    b, pad = 20000, 2
    images = torch.zeros(b, 9, 9, 2, dtype=torch.uint8)
    images[:, 4, 4, 0] = 1  # in the middle: where it goes tells the offset, but for the flip
    images[:, 4, 3, 1] = 1  # its left neighbor, on the other channel: which side it is on tells the flip
    crops = geometry.pad_crop_flip(images, pad, (9, 9), True, rng())
    middle, neighbor = crops[:, 0].flatten(1).int().argmax(1), crops[:, 1].flatten(1).int().argmax(1)
    flipped = neighbor > middle
    row, column = middle // 9 - 2, middle % 9 - 2
    assert abs(chi_square((row * 5 + column) * 2 + flipped.long(), 50)) < 4
    assert len(crops[:, 0].unique(dim=0)) == 25


@pytest.mark.parametrize("flip", [True, False])
def test_flip_rate(flip):
    flips = geometry.draw_flips(10000, flip, CPU, rng())
    assert abs(flips.float().mean() - 0.5) < 0.02 if flip else not flips.any()


def test_no_padding_and_no_flip_is_the_image():
    images = photos(4, 6, 5, 3)
    assert torch.equal(geometry.pad_crop_flip(images, 0, (6, 5), False, rng()), images.permute(0, 3, 1, 2))


@RESIZES
@pytest.mark.parametrize("h, w, ch", SHAPES)
@pytest.mark.parametrize("antialias", [False, True])
def test_crop_resize_is_torchvisions(h, w, ch, antialias, crop_resize):
    """With the antialias filter or without: a box is never larger than the image, and the filter only acts then."""
    pixels = photos(64, h, w, ch)
    images = pixels.permute(0, 3, 1, 2).float() / 255
    boxes = geometry.draw_boxes(64, h, w, (0.05, 1.0), (0.4, 2.5), CPU, rng(1))
    boxes[0], boxes[1] = torch.tensor([0, 0, h, w]), torch.tensor([h - 1, w - 1, 1, 1])
    flips, size = geometry.draw_flips(64, True, CPU, rng(2)), (h, w)
    views = crop_resize(pixels, boxes, flips, size)
    for image, box, flip, view in zip(images, boxes.tolist(), flips, views, strict=True):
        expected = F.resized_crop(image, *box, [h, w], antialias=antialias)
        torch.testing.assert_close(view, F.hflip(expected) if flip else expected, atol=1e-5, rtol=0)


@RESIZES
@pytest.mark.parametrize("size", [(7, 7), (31, 31)])
def test_crop_resize_to_another_size(size, crop_resize):
    """Smaller or larger than the image; without the filter of reductions."""
    pixels = photos(64, 20, 16, 3)
    images = pixels.permute(0, 3, 1, 2).float() / 255
    boxes = geometry.draw_boxes(64, 20, 16, (0.05, 1.0), RATIO, CPU, rng(1))
    views = crop_resize(pixels, boxes, torch.zeros(64, dtype=torch.bool), size)
    for image, box, view in zip(images, boxes.tolist(), views, strict=True):
        expected = F.resized_crop(image, *box, list(size), antialias=False)
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("h, w, size", [(8, 8, (4, 4)), (9, 8, (4, 5)), (5, 9, (2, 2)), (7, 7, (7, 7))])
def test_center_crop_is_torchvisions(h, w, size):
    images = photos(2, h, w, 3)
    expected = F.center_crop(images.permute(0, 3, 1, 2), list(size)).permute(0, 2, 3, 1)
    assert torch.equal(geometry.center_crop(images, size), expected)


def test_offsets_are_uniform_on_either_axis():
    """Four rows and seven columns; likewise with as many rows as columns."""
    for rows, columns in [(4, 7), (5, 5)]:
        offsets = geometry.draw_offsets(20000, rows, columns, CPU, rng())
        cells = offsets[:, 0] * columns + offsets[:, 1]
        assert abs(chi_square(cells, rows * columns)) < 4


def test_crop_resize_of_everything_is_the_image():
    images = torch.rand(3, 3, 7, 11, generator=rng())
    boxes = torch.tensor([[0, 0, 7, 11]]).expand(3, 4)
    views = geometry.crop_resize(images, boxes, torch.zeros(3, dtype=torch.bool), (7, 11))
    torch.testing.assert_close(views, images, atol=1e-6, rtol=0)


def test_pixels_outside_the_box_have_no_influence():
    images = torch.rand(1, 1, 8, 8, generator=rng()).repeat(2, 1, 1, 1)
    images[1, :, :2], images[1, :, 6:], images[1, :, :, :3], images[1, :, :, 6:] = 9.0, 9.0, 9.0, 9.0
    views = geometry.crop_resize(
        images, torch.tensor([[2, 3, 4, 3]] * 2), torch.tensor([False, True]), (8, 8)
    )
    torch.testing.assert_close(views[0], views[1].flip(2), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 999))
def test_boxes_lie_in_the_image(h, w, low, high, seed):
    boxes = geometry.draw_boxes(50, h, w, (min(low, high), max(low, high)), RATIO, CPU, rng(seed))
    top, left, height, width = boxes.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= h).all() and (left + width <= w).all()


@pytest.mark.parametrize("h, w", [(32, 32), (24, 40), (10, 40)])
def test_boxes_have_torchvisions_distribution(h, w):
    """Means and deviations of place, sides and area over 4000 draws of each, within 5 standard errors."""
    number = 4000
    ours = geometry.draw_boxes(number, h, w, (0.2, 1.0), RATIO, CPU, rng(3)).double()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        image = torch.empty(1, h, w)
        theirs = [RandomResizedCrop.get_params(image, [0.2, 1.0], list(RATIO)) for _ in range(number)]
    theirs = torch.tensor(theirs).double()
    for a, b in [(ours, theirs), (ours**2, theirs**2), (ours[:, 2:].prod(1), theirs[:, 2:].prod(1))]:
        error = ((a.var(0) + b.var(0)) / number).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-9).all()


def test_area_and_ratio_are_uniform():
    """On a large image, where rounding is small, and with areas so small that every draw fits."""
    boxes = geometry.draw_boxes(20000, 1000, 1000, (0.1, 0.5), RATIO, CPU, rng()).double()
    area = boxes[:, 2:].prod(1) / 1e6
    ratio = (boxes[:, 3] / boxes[:, 2]).log()
    for values, low, high in [(area, 0.1, 0.5), (ratio, math.log(3 / 4), math.log(4 / 3))]:
        assert low - 0.002 <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high + 0.002
        cells = ((values - low) / (high - low) * 20).long().clamp(0, 19)
        assert abs(chi_square(cells, 20)) < 4
    assert abs(chi_square((boxes[:, 0] / (1001 - boxes[:, 2]) * 20).long(), 20)) < 4


@pytest.mark.parametrize(
    "h, w, expected",
    [
        (4, 64, [0, 29, 4, 5]),  # too wide for any draw: the height, and 4/3 of it, in the middle
        (64, 4, [29, 0, 5, 4]),  # too high
    ],
)
def test_without_a_fit_the_central_box(h, w, expected):
    boxes = geometry.draw_boxes(20, h, w, (0.9, 1.0), RATIO, CPU, rng())
    assert boxes.tolist() == [expected] * 20
    assert list(RandomResizedCrop.get_params(torch.empty(1, h, w), [0.9, 1.0], list(RATIO))) == expected


def test_central_box_of_a_plain_image_is_the_image():
    assert geometry.central_box(30, 32, RATIO) == (30, 32)
