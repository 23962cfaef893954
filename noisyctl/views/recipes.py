"""Recipes: what the views of a kind of images are made of, with a block for each view.

A recipe is plain JSON, so that artifacts can carry it. RECIPES holds the recipes that have a name.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, field_validator

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import Params, param


def _require_part(limits: tuple[float, float] | None) -> None:
    """Raises ValueError unless the limits are fractions in ascending order."""
    if limits is not None and not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError("write [low, high] with 0 < low <= high <= 1")


class Weak(Params):
    """Weak view: pad with zeros, crop to the size before, and flip; or a resized crop and a flip."""

    pad: int | None = param(
        None,
        "pixels that are added on each side; null: an eighth of the shorter side, at least 1, or 0 with a "
        "`crop`",
        source="official codes of the papers: 4 at 32 x 32",
        ge=0,
    )
    flip: bool = param(True, "flip half of the images left to right", source="official codes of the papers")
    crop_scale: tuple[float, float] | None = param(
        None,
        "range of the area of a random part, resized to the view, in place of pad and crop; null: pad and "
        "crop",
        source="official code of DivideMix: 0.08 to 1 on WebVision",
    )

    @field_validator("crop_scale")
    @classmethod
    def _is_part(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        _require_part(limits)
        return limits


class Simclr(Params):
    """SimCLR's view: resized crop, flip, color jitter, grayscale and blur."""

    crop_scale: tuple[float, float] = param(
        (0.2, 1.0),
        "range of the area of the crop, as a fraction of the image's",
        source="official code of ScanMix",
    )
    crop_ratio: tuple[float, float] = param(
        (3 / 4, 4 / 3), "range of width / height of the crop", source="torchvision's default"
    )
    flip: bool = param(True, "flip half of the images left to right", source="official code of ScanMix")
    brightness: float = param(
        0.4, "strength x: the factor is drawn from 1 - x..1 + x", source="official code of ScanMix", ge=0
    )
    contrast: float = param(
        0.4, "strength x: the factor is drawn from 1 - x..1 + x", source="official code of ScanMix", ge=0
    )
    saturation: float = param(
        0.4, "strength x: the factor is drawn from 1 - x..1 + x", source="official code of ScanMix", ge=0
    )
    hue: float = param(
        0.1,
        "strength x: the shift is drawn from -x..x, as a fraction of the full circle",
        source="official code of ScanMix",
        ge=0,
        le=0.5,
    )
    jitter_probability: float = param(
        0.8,
        "probability of changing brightness, contrast, saturation and hue",
        source="official code of ScanMix",
        ge=0,
        le=1,
    )
    grayscale_probability: float = param(
        0.2, "probability of turning an image gray", source="official code of ScanMix", ge=0, le=1
    )
    blur_probability: float = param(
        0.0,
        "probability of blur",
        source="official code of ScanMix: none; SimCLR paper A: 0.5 on ImageNet",
        ge=0,
        le=1,
    )
    blur_sigma: tuple[float, float] = param(
        (0.1, 2.0), "range of sigma of the blur, in pixels", source="SimCLR paper A"
    )
    blur_kernel: int | None = param(
        None,
        "taps of the blur, an odd number; null: a tenth of the shorter side, at least 3",
        source="SimCLR paper A",
        ge=1,
    )

    @field_validator("crop_scale")
    @classmethod
    def _is_part(cls, limits: tuple[float, float]) -> tuple[float, float]:
        _require_part(limits)
        return limits

    @field_validator("crop_ratio", "blur_sigma")
    @classmethod
    def _is_range(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 < limits[0] <= limits[1] < float("inf"):
            raise ValueError("write [low, high] with 0 < low <= high")
        return limits

    @field_validator("blur_kernel")
    @classmethod
    def _is_odd(cls, kernel: int | None) -> int | None:
        if kernel is not None and kernel % 2 == 0:
            raise ValueError(f"write an odd number, {kernel - 1} or {kernel + 1}")
        return kernel


class Moco(Simclr):
    """MoCo v2's view: as SimCLR's, with the same values, but with blur."""

    blur_probability: float = param(
        0.5, "probability of blur", source="MoCo v2 paper: SimCLR's blur", ge=0, le=1
    )


class Strong(Params):
    """Strong view: flip, a few operations drawn from fourteen, and a hole of zeros."""

    flip: bool = param(True, "flip half of the images left to right", source="official code of ScanMix")
    steps: int = param(
        4,
        "number of operations on each image, drawn with replacement",
        source="official code of ScanMix",
        ge=0,
    )
    rotate: float = param(
        30.0,
        "largest angle of a rotation, in degrees, to either side",
        source="official code of ScanMix",
        ge=0,
        le=180,
    )
    shear: float = param(
        0.1,
        "largest shear, in pixels per pixel, to either side",
        source="official code of ScanMix",
        ge=0,
        le=1,
    )
    translate: float = param(
        0.1,
        "largest shift, as a fraction of the side, to either side",
        source="official code of ScanMix",
        ge=0,
        le=1,
    )
    enhance: tuple[float, float] = param(
        (0.05, 0.95),
        "range of the factor of color, contrast, brightness and sharpness, in 0..1",
        source="official code of ScanMix",
    )
    posterize: tuple[float, float] = param(
        (4.0, 8.0),
        "range of the number of bits that are kept, which is rounded down",
        source="official code of ScanMix",
    )
    cutout: float = param(
        0.5,
        "longest side of the hole, as a fraction of the image's shorter side; 0: no hole",
        source="official code of ScanMix: 16 of 32 pixels, 75 of 227 on WebVision",
        ge=0,
        le=1,
    )

    @field_validator("enhance")
    @classmethod
    def _is_share(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= limits[0] <= limits[1] <= 1:
            raise ValueError("write [low, high] with 0 <= low <= high <= 1")
        return limits

    @field_validator("posterize")
    @classmethod
    def _are_bits(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= limits[0] <= limits[1] <= 8:
            raise ValueError("write [low, high] with 0 <= low <= high <= 8")
        return limits


class Recipe(Params):
    """A block for each view, and the part of the image that all views show."""

    crop: int | None = param(
        None,
        "side of the square part that a view shows, in pixels: the center for plain, a random part for weak "
        "and strong, a resized part for simclr and moco; null: the whole image",
        source="official codes: 224 of 256 on Clothing1M, 227 of 256 on WebVision",
        ge=1,
    )
    weak: Weak = Weak()
    simclr: Simclr = Simclr()
    moco: Moco = Moco()
    strong: Strong = Strong()


def read_recipe(recipe: str | Mapping[str, Any]) -> Recipe:
    """The recipe of this name, or with these values; what is not given has its default.

    Raises ParamsError with one line per problem.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ParamsError(f"unknown view recipe {recipe!r}; {suggest(recipe, RECIPES)}")
        recipe = RECIPES[recipe]
    try:
        return Recipe.model_validate(dict(recipe))
    except ValidationError as error:
        problems = [
            _problem(entry["type"], entry["loc"], entry["input"], entry["msg"]) for entry in error.errors()
        ]
        raise ParamsError("\n".join(problems)) from None


def _problem(kind: str, place: tuple[int | str, ...], given: Any, message: str) -> str:
    """One line about an invalid value, with the place in the recipe and the cure."""
    name = ".".join(map(str, place))
    if kind == "extra_forbidden":
        block = Recipe.model_fields[str(place[0])].annotation if len(place) > 1 else Recipe
        assert isinstance(block, type) and issubclass(block, Params)
        return f"view recipe: {name} is not a parameter; {suggest(str(place[-1]), block.model_fields)}"
    cure = message.removeprefix("Value error, ")
    return f"view recipe: {name} is {given!r}: {cure[0].lower()}{cure[1:]}"


_GRAY: dict[str, Any] = {"saturation": 0, "hue": 0, "grayscale_probability": 0}

# Digits need milder views than photos (ours). They have no color; the mirror image of a digit is not this digit; a small
# part of one may be part of any other; one that is turned far may be another one or, at 8 x 8 pixels, illegible. Their
# strokes are thin, so that blur or a hole which would not harm a photo hides them.
_DIGIT: dict[str, Any] = {**_GRAY, "crop_scale": (0.5, 1.0), "flip": False}
_DIGITS = Recipe(
    weak=Weak(pad=1, flip=False),
    simclr=Simclr(**_DIGIT),
    moco=Moco(**_DIGIT, blur_sigma=(0.1, 0.5)),
    strong=Strong(flip=False, rotate=15, cutout=0.25),
)

RECIPES: dict[str, dict[str, Any]] = {
    name: recipe.model_dump(mode="json")
    for name, recipe in {
        "digits": _DIGITS,
        # 28 x 28 pixels, with a margin of four pixels around the strokes
        "mnist": _DIGITS.model_copy(update={"weak": Weak(pad=2, flip=False), "moco": Moco(**_DIGIT)}),
        # no augmentation, as Patrini et al. have it
        "mnist_still": _DIGITS.model_copy(update={"weak": Weak(pad=0, flip=False), "moco": Moco(**_DIGIT)}),
        "natural": Recipe(),
        "natural_gray": Recipe(simclr=Simclr(**_GRAY), moco=Moco(**_GRAY)),
        # no augmentation, as JoCoR's code has it for CIFAR
        "natural_still": Recipe(weak=Weak(pad=0, flip=False)),
    }.items()
}
