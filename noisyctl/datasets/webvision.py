"""WebVision 1.0: images from Google and Flickr, found by the names of ILSVRC12's 1000 classes.

Li, Wang, Li, Agustsson and Van Gool, "WebVision Database: Visual Learning and Understanding from Web Data",
arXiv:1708.02862. The label of a training image is the query that found it. The papers train on the first 50 classes of
the Google part, 65,944 images, and test on the validation images of these classes. `ilsvrc12` adds the validation images
of ILSVRC12 as a further split.

Differs from the papers' codes:
  - The middle square of an image is kept, and views are crops of it. The codes crop from the whole rectangle.
"""

from pathlib import Path
from typing import Any, Literal

from noisyctl.datasets import ImageData, Quarantined
from noisyctl.datasets._lists import (
    IMAGENET,
    Lists,
    Origin,
    below,
    drawn,
    existing_root,
    first_of_each,
    image_data,
    read_keys,
    read_labeled,
)
from noisyctl.errors import DataError
from noisyctl.images import find
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

ORIGIN = Origin(
    name="webvision",
    site="https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html (version 1.0, resized images, and info)",
    terms="its site states them; the images belong to their owners",
    layout=(
        "info/synsets.txt",
        "info/train_filelist_google.txt",
        "info/val_filelist.txt",
        "google",
        "val_images_256",
    ),
    sizes={"train": 65_944, "test": 2_500},
)
NUM_CLASSES = 1000
# image size, size of the crop, and the rest of the view recipe
RECIPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "crop227": (256, 227, {"strong": {"cutout": 75 / 227}}),
    "resized299": (320, 299, {"weak": {"crop_scale": [0.08, 1.0]}}),
}


class Params(BaseParams):
    """`webvision` in params.yaml."""

    root: str = param(meaning="folder of the official files", path=True)
    classes: int = param(
        50, "number of classes, which are the first of the 1000", source="DivideMix 4.1", ge=2, le=1000
    )
    sources: Literal["google", "google_flickr"] = param(
        "google", "parts of the data set to train on", source="DivideMix 4.1"
    )
    ilsvrc12: str | None = param(
        None,
        "folder of ILSVRC12's validation images, with a folder per synset, for the split ilsvrc12_val; null: "
        "no such split",
        path=True,
    )
    recipe: Literal["crop227", "resized299"] = param(
        "crop227",
        "sizes of images and views; crop227: crops of 227 of 256 pixels; resized299: resized crops of 299 of "
        "320 pixels",
        source="official code of ScanMix, MixNN VI-A; DivideMix's code had both",
    )
    image_size: int | None = param(
        None, "pixels of the shorter side after scaling, with crops in proportion; null: the recipe's", ge=8
    )
    train_share: float = param(
        1.0, "share of the training images of each given class that is used", gt=0, le=1
    )
    subset_seed: int = param(0, "seed of the random choice of `train_share`", ge=0)


def read(params: Params) -> Lists:
    """What the lists say, without reading images. Raises DataError if a file is missing or not as it should be."""
    root = existing_root(params.root, ORIGIN)
    synsets = read_keys(root / "info/synsets.txt", ORIGIN)
    if len(synsets) != NUM_CLASSES:
        raise DataError(
            f"{root / 'info/synsets.txt'} names {len(synsets)} classes, not {NUM_CLASSES}; {ORIGIN.cure}"
        )
    pairs = []
    for source in params.sources.split("_"):
        pairs += read_labeled(root / f"info/train_filelist_{source}.txt", NUM_CLASSES, ORIGIN)
    tests = read_labeled(root / "info/val_filelist.txt", NUM_CLASSES, ORIGIN)
    aside: list[Quarantined] = []
    train = first_of_each([pair for pair in pairs if pair[1] < params.classes], aside)
    splits = {
        "train": drawn(train, params.train_share, params.subset_seed),
        "test": first_of_each(
            [(f"val_images_256/{path}", label) for path, label in tests if label < params.classes], aside
        ),
    }
    kept = synsets[: params.classes]
    if params.ilsvrc12:
        splits["ilsvrc12_val"] = _ilsvrc12(root, params.ilsvrc12, [line.split()[0] for line in kept], aside)
    return Lists(splits, tuple(line.partition(",")[0] for line in kept), aside=aside)


def _ilsvrc12(root: Path, place: str, synsets: list[str], aside: list[Quarantined]) -> dict[str, int]:
    """The images in the folders of these synsets."""
    folder = Path(place).expanduser()
    cure = "sort ILSVRC2012_img_val.tar into one folder per synset, such as n01440764, and give their folder as --ilsvrc12"
    if lacking := [name for name in synsets if not (folder / name).is_dir()]:
        raise DataError(f"{place} has no folder {', '.join(lacking[:5])}; {cure}")
    found: dict[str, int] = {}
    for label, name in enumerate(synsets):
        prefix = below(root, folder / name)
        paths, others = find(folder / name)
        found |= {prefix + path: label for path in paths}
        aside += [Quarantined(prefix + file.path, file.reason) for file in others]
    return found


def prepare(params: Params) -> ImageData:
    """The images that the lists name."""
    size, crop, recipe = RECIPES[params.recipe]
    image_size = params.image_size or size
    views = {"crop": image_size * crop // size, **recipe}
    return image_data(existing_root(params.root, ORIGIN), read(params), image_size, views, IMAGENET)
