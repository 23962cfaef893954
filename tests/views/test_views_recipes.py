"""Views as the stages use them: recipes, randomness, shapes, errors."""

import dataclasses
import json

import pytest
import torch
import torchvision.transforms.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from noisyctl.errors import DataError, ParamsError
from noisyctl.seeds import stream
from noisyctl.views import RECIPES, ImageViews, one_by_one

MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.3, 0.25)
CHANNELS = {"digits": 1, "mnist": 1, "mnist_still": 1, "natural": 3, "natural_gray": 1, "natural_still": 3}
KINDS = ("weak", "strong", "simclr", "moco")
SIZES = [(8, 8), (32, 32), (12, 20), (17, 9)]


NEUTRAL = {
    "crop_scale": [1, 1],
    "crop_ratio": [1, 1],
    "flip": False,
    "jitter_probability": 0,
    "grayscale_probability": 0,
}


@pytest.fixture(autouse=True, params=["batch", "one by one"])
def form(request, monkeypatch):
    """Every test sees both forms, of which the images' size chooses one otherwise."""
    monkeypatch.setattr(one_by_one, "LARGE", 0 if request.param == "one by one" else 1 << 40)
    return request.param


def both(act, monkeypatch):
    """What `act` returns in the form for a batch, and in the form for one image after another."""
    found = []
    for least in (1 << 40, 0):
        monkeypatch.setattr(one_by_one, "LARGE", least)
        found.append(act())
    return found


def photos(b, h, w, ch, seed=0):
    return torch.randint(256, (b, h, w, ch), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_a_weak_view_without_shift_and_flip_is_the_plain_one_and_draws_nothing():
    images, rng = photos(3, 28, 28, 1), stream(0, "weak")
    before = rng.get_state()
    views = ImageViews("mnist_still", (0.0,), (1.0,))
    weak = views.weak(images, rng)
    assert torch.equal(weak, views.plain(images))
    assert torch.equal(weak, images.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(rng.get_state(), before)


def views_of(recipe, ch):
    return ImageViews(recipe, MEAN[:ch], STD[:ch])


def random_views(views, images, rng):
    return {kind: getattr(views, kind)(images, rng) for kind in KINDS}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("h, w", SIZES)
@pytest.mark.parametrize("b", [1, 5])
def test_every_recipe_on_every_shape(recipe, h, w, b):
    ch = CHANNELS[recipe]
    images = photos(b, h, w, ch)
    views = views_of(recipe, ch)
    for view in (views.plain(images), *random_views(views, images, stream(0, "test")).values()):
        assert view.shape == (b, ch, h, w) and view.dtype == torch.float32
        assert view.is_contiguous() and view.isfinite().all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_works_on_one_channel(recipe):
    for view in random_views(views_of(recipe, 1), photos(3, 8, 8, 1), stream(0, "test")).values():
        assert view.shape == (3, 1, 8, 8) and view.isfinite().all()


def test_plain_is_torchvisions():
    images = photos(4, 9, 5, 3)
    for image, view in zip(images, views_of("natural", 3).plain(images), strict=True):
        expected = F.normalize(F.to_tensor(image.numpy()), MEAN, STD)
        torch.testing.assert_close(view, expected, atol=1e-6, rtol=1e-6)


def test_weak_is_a_moved_image():
    """Each weak view of a digit is one of the 9 places of the padded image, never flipped."""
    image, views = photos(1, 8, 8, 1), views_of("digits", 1)
    padded = torch.nn.functional.pad(image.permute(0, 3, 1, 2), [1] * 4).permute(0, 2, 3, 1)
    places = [padded[:, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    expected = views.plain(torch.cat(places))
    seen = views.weak(image.expand(300, 8, 8, 1), stream(0, "test"))
    matches = (seen[:, None] == expected[None]).flatten(2).all(2)
    assert matches.any(1).all() and matches.any(0).all()


def test_the_default_padding_is_an_eighth_of_the_shorter_side():
    for h, w, pad in [(32, 32, 4), (4, 4, 1), (24, 80, 3)]:
        explicit = {"weak": {"pad": pad}}
        images = photos(10, h, w, 3)
        given = views_of(explicit, 3).weak(images, stream(0, "test"))
        assert torch.equal(views_of("natural", 3).weak(images, stream(0, "test")), given)


def test_a_recipe_without_effect_is_plain():
    neutral = {
        "weak": {"pad": 0, "flip": False},
        "strong": {"flip": False, "steps": 0, "cutout": 0},
        "simclr": NEUTRAL,
        "moco": {**NEUTRAL, "blur_probability": 0},
    }
    images, views = photos(6, 10, 10, 3), views_of(neutral, 3)
    for view in random_views(views, images, stream(0, "test")).values():
        torch.testing.assert_close(view, views.plain(images), atol=1e-5, rtol=0)


def test_a_gray_recipe_gives_gray():
    images = photos(6, 10, 10, 3)
    always = {"simclr": {"grayscale_probability": 1}}
    view = ImageViews(always, (0.5,) * 3, (0.25,) * 3).simclr(images, stream(0, "test"))
    assert torch.equal(view[:, 0], view[:, 1]) and torch.equal(view[:, 0], view[:, 2])


@pytest.mark.parametrize("kind", ["simclr", "moco"])
@pytest.mark.parametrize("size, kernel", [(16, 3), (32, 3), (59, 5)])
def test_a_blurred_recipe_blurs(kind, size, kernel):
    """The default kernel: a tenth of the side, made odd, at least 3."""
    only_blur = {**NEUTRAL, "blur_probability": 1, "blur_sigma": [1.5, 1.5]}
    images = photos(3, size, size, 3)
    views = getattr(views_of({kind: only_blur}, 3), kind)(images, stream(0, "test"))
    for image, view in zip(images, views, strict=True):
        blurred = F.gaussian_blur(F.to_tensor(image.numpy()), [kernel, kernel], [1.5, 1.5])
        torch.testing.assert_close(view, F.normalize(blurred, MEAN, STD), atol=1e-4, rtol=0)


def test_moco_is_simclr_with_blur():
    """One function, two blocks: where moco's block is simclr's, so is the view; by default half are blurred."""
    images = photos(64, 16, 16, 3)
    sharp = views_of({"moco": {"blur_probability": 0}}, 3)
    unblurred = sharp.simclr(images, stream(0, "test"))
    assert torch.equal(sharp.moco(images, stream(0, "test")), unblurred)
    moco = views_of("natural", 3).moco(images, stream(0, "test"))
    same = (moco - unblurred).abs().flatten(1).amax(1) < 1e-5
    assert 16 < same.sum() < 48


def test_strong_is_a_moved_image_with_a_hole():
    """No operations: each view is the image or its mirror image but for one square of zeros after normalization."""
    images, views = photos(1, 32, 32, 3), views_of({"strong": {"steps": 0}}, 3)
    plain = views.plain(images)
    seen = views.strong(images.expand(400, 32, 32, 3), stream(0, "test"))
    hole = (seen == 0).all(1)
    either = torch.cat([plain, plain.flip(3)])
    same = ((seen[:, None] == either[None]) | hole[:, None, None]).flatten(2).all(2)
    assert same.any(1).all() and same.any(0).all()
    sides = torch.stack([hole.any(2).sum(1), hole.any(1).sum(1)], dim=1)
    assert sides.max() == 16 and torch.equal(sides.prod(1), hole.flatten(1).sum(1))


def test_strong_operates_before_it_normalizes():
    """Solarize, equalize and so on at levels 0..255: without hole and flip, views hold whole levels of each image."""
    images = photos(200, 9, 9, 3)
    views = views_of({"strong": {"flip": False, "cutout": 0}}, 3)
    seen = views.strong(images, stream(0, "test"))
    levels = (seen * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    assert levels.min() > -1e-3 and levels.max() < 255 + 1e-3
    assert ((seen == views.plain(images)).flatten(1).all(1)).float().mean() < 0.2


def test_the_recipe_of_cifar():
    """The official codes on CIFAR: RandomCrop(32, padding=4) with zeros, flip; the strong view as METHODS has it."""
    natural = RECIPES["natural"]
    assert natural["weak"] == {"pad": None, "flip": True, "crop_scale": None} and natural["crop"] is None
    images, views = photos(300, 32, 32, 3), views_of({"weak": {"pad": 4}}, 3)
    weak = views_of("natural", 3).weak(images, stream(0, "test"))
    assert torch.equal(weak, views.weak(images, stream(0, "test")))
    assert natural["strong"] == {
        "flip": True,
        "steps": 4,
        "rotate": 30.0,
        "shear": 0.1,
        "translate": 0.1,
        "enhance": [0.05, 0.95],
        "posterize": [4.0, 8.0],
        "cutout": 0.5,
    }


@pytest.mark.parametrize("h, w", [(10, 10), (12, 9)])
def test_a_crop_shows_a_part(h, w):
    """plain the middle, weak and strong any part, mirrored or not; all views of one size."""
    image = photos(1, h, w, 3)
    views = views_of({"crop": 8, "strong": {"steps": 0, "cutout": 0}}, 3)
    whole = views_of("natural", 3).plain(image)
    parts = [whole[:, :, i : i + 8, j : j + 8] for i in range(h - 7) for j in range(w - 7)]
    parts = torch.cat([mirrored for part in parts for mirrored in (part, part.flip(3))])
    middle = whole[:, :, round((h - 8) / 2) :, round((w - 8) / 2) :][:, :, :8, :8]
    assert torch.equal(views.plain(image), middle)
    seen = random_views(views, image.expand(600, h, w, 3), stream(0, "test"))
    for kind in ("weak", "strong"):
        matches = (seen[kind][:, None] == parts[None]).flatten(2).all(2)
        assert matches.any(1).all() and matches.any(0).all()
    assert all(view.shape == (600, 3, 8, 8) and view.is_contiguous() for view in seen.values())


def test_a_weak_view_can_be_a_resized_crop():
    """As the contrastive views crop, where their colors stay."""
    neutral = {"jitter_probability": 0, "grayscale_probability": 0}
    images = photos(6, 20, 20, 3)
    views = views_of(
        {"crop": 12, "weak": {"crop_scale": [0.08, 1]}, "simclr": {**neutral, "crop_scale": [0.08, 1]}}, 3
    )
    weak, contrastive = (view(images, stream(0, "test")) for view in (views.weak, views.simclr))
    assert weak.shape == (6, 3, 12, 12)
    torch.testing.assert_close(weak, contrastive, atol=1e-5, rtol=0)


def test_a_cropped_image_can_be_padded():
    """RandomCrop(8, padding=2) of 10 x 10: none, one or two black rows, all at an edge."""
    black = ImageViews({"crop": 8, "weak": {"pad": 2}}, (0.0,), (1.0,))
    seen = black.weak(torch.full((500, 10, 10, 1), 255, dtype=torch.uint8), stream(0, "test"))
    empty_rows = (seen[:, 0] == 0).all(2)
    assert set(empty_rows.sum(1).tolist()) == {0, 1, 2}
    assert torch.equal(seen[~empty_rows.any(1)].amin((1, 2)).unique(), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("kind", ["plain", *KINDS])
def test_a_crop_of_a_smaller_image(kind):
    rng = () if kind == "plain" else (stream(0, "test"),)
    with pytest.raises(ParamsError, match="crop is 224, the images are 32 x 40; write at most 32, or null"):
        getattr(views_of({"crop": 224}, 3), kind)(photos(2, 32, 40, 3), *rng)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_batch_differ(kind):
    images = photos(1, 32, 32, 3).expand(64, 32, 32, 3)
    view = random_views(views_of("natural", 3), images, stream(0, "test"))[kind]
    assert len(view.flatten(1).unique(dim=0)) > (40 if kind == "weak" else 63)


def test_same_seed_same_bytes_and_the_stream_goes_on():
    images, views = photos(16, 12, 12, 3), views_of("natural", 3)
    rng = stream(1, "test")
    first, second = random_views(views, images, rng), random_views(views, images, rng)
    again = random_views(views, images, stream(1, "test"))
    for kind in first:
        assert torch.equal(first[kind], again[kind])
        assert not torch.equal(first[kind], second[kind])


def test_the_global_generator_is_neither_read_nor_moved():
    recipe = {"simclr": {"blur_probability": 0.5}}
    images, views = photos(16, 12, 12, 3), views_of(recipe, 3)
    results = []
    with torch.random.fork_rng():
        for poison in (1, 2):
            torch.manual_seed(poison)
            before = torch.get_rng_state()
            results.append(random_views(views, images, stream(1, "test")))
            assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(results[0][kind], results[1][kind]) for kind in results[0])


def test_the_images_are_not_changed():
    images = photos(8, 12, 12, 1)
    kept, views = images.clone(), views_of("natural_gray", 1)
    views.plain(images)
    random_views(views, images, stream(0, "test"))
    assert torch.equal(images, kept)


class NoSync(TorchDispatchMode):
    """Fails on what makes a host wait for its device: a number read, a shape that depends on data, a copy."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "lift_fresh",
        "_to_copy_from_host",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in self.FORBIDDEN), func
        if "index" in str(func) and len(args) > 1 and isinstance(args[1], list | tuple):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "a mask as index"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", [*RECIPES, {"simclr": {"blur_probability": 0.5}}])
def test_no_host_sync(recipe, monkeypatch):
    """In the form for a batch, which a GPU gets."""
    monkeypatch.setattr(one_by_one, "LARGE", 1 << 40)
    ch = CHANNELS.get(recipe, 3) if isinstance(recipe, str) else 3
    images, views, rng = photos(4, 12, 12, ch), views_of(recipe, ch), stream(0, "test")
    views.plain(images)  # copies mean and std to the device, once
    random_views(views, images, rng)  # and the tables of the strong view
    with NoSync():
        views.plain(images)
        random_views(views, images, rng)


@pytest.mark.parametrize(
    "act",
    [
        lambda images: images.max().item(),
        lambda images: images[images > 7],
        lambda images: (images > 7).nonzero(),
        lambda images: images.new_tensor([1, 2]),
        lambda images: torch.tensor([1, 2]),
    ],
)
def test_no_sync_sees_a_sync(act):
    images = photos(1, 2, 2, 1)
    with pytest.raises(AssertionError), NoSync():
        act(images)


@pytest.mark.parametrize("recipe", [*RECIPES, {"crop": 20, "weak": {"crop_scale": [0.1, 1]}}])
def test_both_forms_draw_the_same_and_give_the_same(recipe, monkeypatch):
    """To the rounding of float32, of which the hue makes most; weak and strong views to the last bit."""
    ch = CHANNELS.get(recipe, 3) if isinstance(recipe, str) else 3
    images, views = photos(40, 40, 33, ch), ImageViews(recipe, (0.5,) * ch, (1.0,) * ch)
    for kind in KINDS:
        rngs = [stream(3, "test"), stream(3, "test")]
        batch, one = both(
            lambda rngs=iter(rngs), kind=kind: getattr(views, kind)(images, next(rngs)), monkeypatch
        )
        torch.testing.assert_close(one, batch, atol=2e-5, rtol=0)
        if kind == "strong" or (kind == "weak" and isinstance(recipe, str)):
            assert torch.equal(one, batch)
        assert torch.equal(rngs[0].get_state(), rngs[1].get_state())


def test_large_images_on_a_processor_are_computed_one_after_another(monkeypatch):
    monkeypatch.undo()
    for side, device, expected in [
        (32, "cpu", False),
        (64, "cpu", False),
        (224, "cpu", True),
        (224, "meta", False),
    ]:
        assert (
            one_by_one.is_worth_it(torch.empty(2, side, side, 3, dtype=torch.uint8, device=device))
            == expected
        )


def test_recipes_are_json():
    assert set(RECIPES) == set(CHANNELS)
    for recipe in RECIPES.values():
        assert json.loads(json.dumps(recipe)) == recipe
        assert ImageViews(recipe, MEAN, STD)


def test_a_name_is_its_recipe():
    images = photos(4, 12, 12, 3)
    by_name, by_value = (
        views_of(recipe, 3).simclr(images, stream(0, "test")) for recipe in ("natural", RECIPES["natural"])
    )
    assert torch.equal(by_name, by_value)


@pytest.mark.parametrize(
    "recipe, message",
    [
        ("natrual", "unknown view recipe 'natrual'; did you mean 'natural'?"),
        ({"weka": {}}, "view recipe: weka is not a parameter; did you mean 'weak'?"),
        (
            {"simclr": {"crop_scal": [0.2, 1]}},
            "simclr.crop_scal is not a parameter; did you mean 'crop_scale'?",
        ),
        ({"simclr": {"crop_scale": [1.0, 0.2]}}, "write [low, high] with 0 < low <= high <= 1"),
        ({"simclr": {"crop_scale": [0.2, 1.5]}}, "write [low, high] with 0 < low <= high <= 1"),
        ({"weak": {"crop_scale": [0, 1]}}, "weak.crop_scale is [0, 1]: write [low, high] with 0 < low"),
        ({"simclr": {"crop_ratio": [0, 1]}}, "simclr.crop_ratio is [0, 1]: write [low, high] with 0 < low"),
        ({"simclr": {"hue": 0.6}}, "simclr.hue is 0.6: input should be less than or equal to 0.5"),
        ({"simclr": {"grayscale_probability": 2}}, "simclr.grayscale_probability is 2"),
        ({"simclr": {"blur_kernel": 4}}, "simclr.blur_kernel is 4: write an odd number, 3 or 5"),
        ({"weak": {"pad": -1}}, "weak.pad is -1: input should be greater than or equal to 0"),
        ({"weak": {"pad": 1.5}}, "weak.pad is 1.5"),
        ({"weak": 3}, "view recipe: weak is 3"),
        ({"crop": 0}, "crop is 0: input should be greater than or equal to 1"),
        ({"strong": {"step": 4}}, "strong.step is not a parameter; did you mean 'steps'?"),
        (
            {"strong": {"enhance": [0.5, 1.5]}},
            "strong.enhance is [0.5, 1.5]: write [low, high] with 0 <= low",
        ),
        (
            {"strong": {"posterize": [8, 4]}},
            "strong.posterize is [8, 4]: write [low, high] with 0 <= low <= hi",
        ),
        ({"strong": {"cutout": 1.2}}, "strong.cutout is 1.2: input should be less than or equal to 1"),
        (
            {"moco": {"blur_sigma": [2, 1]}},
            "moco.blur_sigma is [2, 1]: write [low, high] with 0 < low <= high",
        ),
    ],
)
def test_a_bad_recipe(recipe, message):
    with pytest.raises(ParamsError) as caught:
        ImageViews(recipe, MEAN, STD)
    assert message in str(caught.value)


def test_every_problem_at_once():
    with pytest.raises(ParamsError) as caught:
        ImageViews({"weak": {"pad": -1, "flop": True}}, MEAN, STD)
    assert len(str(caught.value).splitlines()) == 2


def test_bad_moments():
    with pytest.raises(ParamsError, match="std above 0"):
        ImageViews("natural", MEAN, (0.2, 0.0, 0.2))
    with pytest.raises(ParamsError, match="one of each per channel"):
        ImageViews("natural", MEAN, (0.2,))


def test_other_channels_than_the_moments():
    with pytest.raises(DataError, match="the images have 1 channels, mean and std 3"):
        views_of("natural", 3).plain(photos(2, 8, 8, 1))


def test_a_kernel_wider_than_the_image():
    views = views_of({"simclr": {"blur_probability": 1, "blur_kernel": 17}}, 3)
    with pytest.raises(ParamsError, match="blur_kernel is 17, the views have a side of 8; write at most 15"):
        views.simclr(photos(2, 8, 8, 3), stream(0, "test"))


def test_views_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        views_of("natural", 3).mean = MEAN


def test_still_views_are_the_images_and_pixels_from_0_to_1_where_nothing_is_subtracted() -> None:
    """JoCoR's code: ToTensor alone."""
    images = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).view(2, 4, 4, 3)
    views = ImageViews("natural_still", (0.0,) * 3, (1.0,) * 3)
    expected = images.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(views.weak(images, stream(0, "test")), expected)
    assert torch.equal(views.plain(images), expected)
