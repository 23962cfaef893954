"""Color operations, sample by sample against torchvision's functional ones."""

import itertools

import pytest
import torch
import torchvision.transforms.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.views import color

CPU = torch.device("cpu")
THEIRS = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def photos(b, h=6, w=7, ch=3, seed=0):
    """Random pixels, some of them rounded so hard that channels tie: gray, black, white and pure colors."""
    images = torch.rand(b, ch, h, w, generator=rng(seed))
    images[:, :, : h // 2] = images[:, :, : h // 2].round()
    return images


def jitter_each(images, factors, shifts, orders):
    """`jitter` by the form for one image."""
    drawn = (values.tolist() for values in (factors, shifts, orders))
    return torch.stack([color.jitter_one(*row) for row in zip(images, *drawn, strict=True)])


def blur_each(images, sigmas, kernel):
    """`blur` by the form for one image."""
    return torch.stack([color.blur_one(*row, kernel) for row in zip(images, sigmas.tolist(), strict=True)])


def hue_each(images, shifts):
    """`adjust_hue` by the form for one image."""
    return torch.stack([color.adjust_hue_one(*row) for row in zip(images, shifts.tolist(), strict=True)])


def forms(name, *functions):
    return pytest.mark.parametrize(name, functions, ids=["batch", "one by one"])


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ch", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_torchvisions(name, ch):
    images, factors = photos(8, ch=ch), torch.tensor([0.0, 0.3, 0.6, 1.0, 1.2, 1.4, 1.9, 5.0])
    ours = getattr(color, f"adjust_{name}")(images, factors)
    for image, factor, view in zip(images, factors.tolist(), ours, strict=True):
        close(view, getattr(F, f"adjust_{name}")(image, factor))


@forms("adjust_hue", color.adjust_hue, hue_each)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.5, 0.5, width=32), min_size=1, max_size=5), st.integers(0, 999))
def test_hue_is_torchvisions(adjust_hue, shifts, seed):
    images = photos(len(shifts), seed=seed)
    ours = adjust_hue(images, torch.tensor(shifts))
    for image, shift, view in zip(images, shifts, ours, strict=True):
        close(view, F.adjust_hue(image, shift))


@forms("adjust_hue", color.adjust_hue, hue_each)
def test_hue_by_hand(adjust_hue):
    """A third of the circle on from red is green, from green blue; gray has no hue."""
    image = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.3, 0.3, 0.3]]).T.reshape(1, 3, 1, 3)
    turned = adjust_hue(image, torch.tensor([1 / 3]))
    close(turned.reshape(3, 3).T, torch.tensor([[0, 1.0, 0], [0, 0, 1.0], [0.3, 0.3, 0.3]]))


def test_neutral_parameters_change_nothing():
    images, one = photos(5), torch.ones(5)
    assert torch.equal(color.adjust_brightness(images, one), images)
    assert torch.equal(color.adjust_contrast(images, one), images)
    assert torch.equal(color.adjust_saturation(images, one), images)
    torch.testing.assert_close(color.adjust_hue(images, torch.zeros(5)), images, atol=1e-6, rtol=0)


@forms("jitter", color.jitter, jitter_each)
@pytest.mark.parametrize("ch", [1, 3])
def test_jitter_is_torchvisions_in_every_order(ch, jitter):
    orders = torch.tensor(list(itertools.permutations(range(4))))
    images = photos(24, ch=ch)
    factors = 0.4 + 1.2 * torch.rand(24, 3, generator=rng(1))
    shifts = torch.rand(24, generator=rng(2)) - 0.5
    views = jitter(images, factors, shifts, orders)
    for i, expected in enumerate(images):
        for operation in orders[i].tolist():
            strength = shifts[i] if operation == color.HUE else factors[i, operation]
            expected = THEIRS[operation](expected, float(strength))
        close(views[i], expected)


def test_orders_are_uniform():
    orders = color.draw_orders(24000, CPU, rng())
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert (counts - 1000).abs().max() < 5 * 1000**0.5


def test_jitter_draws_what_it_promises():
    """On a gray constant only brightness acts, so that the view tells its factor."""
    images = torch.full((8000, 3, 1, 1), 0.4)
    views = color.color_jitter(images, 0.5, 0.9, 0.9, 0.3, 0.8, rng())
    factors = views[:, 0, 0, 0] / 0.4
    touched = (factors - 1).abs() > 1e-4
    assert abs(touched.float().mean() - 0.8) < 0.02
    drawn = factors[touched].sort().values
    assert drawn[0] > 0.5 - 1e-5 and drawn[-1] < 1.5 + 1e-5
    uniform = torch.linspace(0.5, 1.5, len(drawn))
    assert (drawn - uniform).abs().max() < 0.025  # Kolmogorov: 1.95 / sqrt(6400) at one in a thousand


def test_hue_shifts_are_uniform():
    """On pure red a shift below a sixth of the circle raises green or blue by six times itself."""
    images = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).repeat(4000, 1, 1, 1)
    views = color.color_jitter(images, 0.0, 0.0, 0.0, 0.1, 1.0, rng())
    shifts = ((views[:, 1] - views[:, 2]) / 6).flatten().sort().values
    assert (shifts - torch.linspace(-0.1, 0.1, 4000)).abs().max() < 0.2 * 1.95 / 4000**0.5


def test_strength_above_one_never_inverts():
    images = torch.full((500, 3, 1, 1), 0.1)
    views = color.color_jitter(images, 3.0, 0.0, 0.0, 0.0, 1.0, rng())
    assert 0 <= views.min() < 0.01 and 0.39 < views.max() <= 0.4 + 1e-6


@pytest.mark.parametrize("ch", [1, 3])
def test_grayscale_is_torchvisions_and_idempotent(ch):
    images = photos(3, ch=ch)
    gray = color.grayscale(images)
    if ch == 3:
        close(gray, F.rgb_to_grayscale(images, num_output_channels=3))
    torch.testing.assert_close(color.grayscale(gray), gray, atol=1.1e-4, rtol=0)  # the weights sum to 0.9999


def test_grayscale_rate_and_touch():
    images = photos(4000, 2, 2)
    views = color.random_grayscale(images, 0.2, rng())
    gray = (views == color.grayscale(images)).flatten(1).all(1)
    assert abs(gray.float().mean() - 0.2) < 0.025
    assert torch.equal(views[~gray], images[~gray])


@pytest.mark.parametrize("probability, touched", [(0.0, False), (1.0, True)])
def test_probability_at_its_ends(probability, touched):
    images = photos(20)
    for views in (
        color.color_jitter(images, 0.4, 0.4, 0.4, 0.1, probability, rng()),
        color.random_grayscale(images, probability, rng()),
        color.gaussian_blur(images, (0.5, 2.0), probability, 3, rng()),
    ):
        changed = (views - images).abs().flatten(1).amax(1) > 1e-5
        assert changed.all() if touched else not changed.any()


@forms("blur", color.blur, blur_each)
@pytest.mark.parametrize(
    "h, w, ch, kernel", [(8, 8, 1, 3), (12, 20, 3, 5), (20, 12, 3, 9), (3, 3, 3, 5), (24, 30, 3, 23)]
)
def test_blur_is_torchvisions(h, w, ch, kernel, blur):
    images, sigmas = photos(5, h, w, ch), torch.tensor([0.1, 0.3, 0.8, 1.5, 2.0])
    views = blur(images, sigmas, kernel)
    for image, sigma, view in zip(images, sigmas.tolist(), views, strict=True):
        close(view, F.gaussian_blur(image, [kernel, kernel], [sigma, sigma]))


@forms("blur", color.blur, blur_each)
def test_blur_keeps_a_constant(blur):
    close(blur(torch.full((2, 3, 9, 9), 0.7), torch.tensor([0.2, 2.0]), 7), torch.full((2, 3, 9, 9), 0.7))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.permutations(range(6)))
def test_samples_are_independent(seed, order):
    """Permuting the batch permutes the views, bit for bit."""
    order = torch.tensor(order)
    images, orders = photos(6, seed=seed), color.draw_orders(6, CPU, rng(seed))
    factors, shifts = 0.5 + torch.rand(6, 3, generator=rng(seed)), torch.rand(6, generator=rng(seed)) - 0.5
    views = color.jitter(images, factors, shifts, orders)
    torch.testing.assert_close(
        color.jitter(images[order], factors[order], shifts[order], orders[order]),
        views[order],
        atol=1e-6,
        rtol=0,
    )


def test_one_channel_has_no_color():
    images = photos(20, ch=1)
    assert torch.equal(color.color_jitter(images, 0.0, 0.0, 0.9, 0.5, 1.0, rng()), images)
    assert torch.equal(color.random_grayscale(images, 1.0, rng()), images)
    assert torch.equal(color.adjust_hue(images, torch.rand(20)), images)
