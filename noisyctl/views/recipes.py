"""What the views of a kind of images are made of: a block a view, one line a parameter.

A recipe is plain JSON, so that an artifact can carry it. RECIPES holds those that have a name.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, field_validator

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import Params, param


def _require_part(limits: tuple[float, float] | None) -> None:
    if limits is not None and not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError("write [low, high] with 0 < low <= high <= 1")


class Weak(Params):
    """Pad with zeros, crop back, flip; or a resized crop and flip."""

    pad: int | None = param(
        None,
        "pixels added on each side; null: an eighth of the shorter side, at least 1, and 0 under `crop`",
        source="official codes of the papers: 4 at 32 x 32",
        ge=0,
    )
    flip: bool = param(True, "flip half of the images left to right", source="official codes of the papers")
    crop_scale: tuple[float, float] | None = param(
        None,
        "area of a part that is resized to the view, in place of pad and crop; null: pad and crop",
        source="official code of DivideMix: 0.08 to 1 on WebVision",
    )

    @field_validator("crop_scale")
    @classmethod
    def _is_part(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        _require_part(limits)
        return limits


class Simclr(Params):
    """Resized crop, flip, color jitter, grayscale, blur."""

    crop_scale: tuple[float, float] = param((0.2, 1.0), "area of the crop", source="official code of ScanMix")
    crop_ratio: tuple[float, float] = param(
        (3 / 4, 4 / 3), "width / height of it", source="torchvision's default"
    )
    flip: bool = param(True, "flip half of the images left to right", source="official code of ScanMix")
    brightness: float = param(0.4, "factor in 1 - x..1 + x", source="official code of ScanMix", ge=0)
    contrast: float = param(0.4, "factor in 1 - x..1 + x", source="official code of ScanMix", ge=0)
    saturation: float = param(0.4, "factor in 1 - x..1 + x", source="official code of ScanMix", ge=0)
    hue: float = param(0.1, "shift in -x..x of the circle", source="official code of ScanMix", ge=0, le=0.5)
    jitter_probability: float = param(0.8, "of the four above", source="official code of ScanMix", ge=0, le=1)
    grayscale_probability: float = param(0.2, "of gray", source="official code of ScanMix", ge=0, le=1)
    blur_probability: float = param(
        0.0, "of blur", source="official code of ScanMix: none; SimCLR paper A: 0.5 on ImageNet", ge=0, le=1
    )
    blur_sigma: tuple[float, float] = param((0.1, 2.0), "of the blur, pixels", source="SimCLR paper A")
    blur_kernel: int | None = param(
        None, "taps, odd; null: a tenth of the shorter side, at least 3", source="SimCLR paper A", ge=1
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
    """As Simclr, whose values MoCo v2 shares, and blurred."""

    blur_probability: float = param(0.5, "of blur", source="MoCo v2 paper: SimCLR's blur", ge=0, le=1)


class Strong(Params):
    """Flip, a few operations drawn from fourteen, a hole of zeros."""

    flip: bool = param(True, "flip half of the images left to right", source="official code of ScanMix")
    steps: int = param(4, "operations, drawn with replacement", source="official code of ScanMix", ge=0)
    rotate: float = param(30.0, "degrees, -x..x", source="official code of ScanMix", ge=0, le=180)
    shear: float = param(0.1, "pixels a pixel, -x..x", source="official code of ScanMix", ge=0, le=1)
    translate: float = param(
        0.1, "fraction of the side, -x..x", source="official code of ScanMix", ge=0, le=1
    )
    enhance: tuple[float, float] = param(
        (0.05, 0.95),
        "factor of color, contrast, brightness and sharpness, 0..1",
        source="official code of ScanMix",
    )
    posterize: tuple[float, float] = param(
        (4.0, 8.0), "bits, rounded down", source="official code of ScanMix"
    )
    cutout: float = param(
        0.5,
        "longest side of the hole, fraction of the shorter side; 0: no hole",
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
    """One block a view, and what all of them show."""

    crop: int | None = param(
        None,
        "side of the square part that a view shows, pixels: the middle for plain, a random one for weak and strong, "
        "a resized one for simclr and moco; null: the whole image",
        source="official codes: 224 of 256 on Clothing1M, 227 of 256 on WebVision",
        ge=1,
    )
    weak: Weak = Weak()
    simclr: Simclr = Simclr()
    moco: Moco = Moco()
    strong: Strong = Strong()


def read_recipe(recipe: str | Mapping[str, Any]) -> Recipe:
    """The recipe of this name, or with these values; what is not given has its default.

    Raises ParamsError with one line a problem.
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
    name = ".".join(map(str, place))
    if kind == "extra_forbidden":
        block = Recipe.model_fields[str(place[0])].annotation if len(place) > 1 else Recipe
        assert isinstance(block, type) and issubclass(block, Params)
        return f"view recipe: {name} is not a parameter; {suggest(str(place[-1]), block.model_fields)}"
    cure = message.removeprefix("Value error, ")
    return f"view recipe: {name} is {given!r}: {cure[0].lower()}{cure[1:]}"


_GRAY: dict[str, Any] = {"saturation": 0, "hue": 0, "grayscale_probability": 0}

# A digit is not its mirror image, has no color, and a small part of one may be any other. Turned far it is another one,
# or at 8 x 8 pixels none; its strokes are thin, so a blur or a hole that a photo bears hides it. Ours.
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
        # 28 x 28, strokes end four pixels before the edge
        "mnist": _DIGITS.model_copy(update={"weak": Weak(pad=2, flip=False), "moco": Moco(**_DIGIT)}),
        # as Patrini et al. have it: no augmentation
        "mnist_still": _DIGITS.model_copy(update={"weak": Weak(pad=0, flip=False), "moco": Moco(**_DIGIT)}),
        "natural": Recipe(),
        "natural_gray": Recipe(simclr=Simclr(**_GRAY), moco=Moco(**_GRAY)),
        # as JoCoR's code has CIFAR: no augmentation
        "natural_still": Recipe(weak=Weak(pad=0, flip=False)),
    }.items()
}
