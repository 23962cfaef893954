"""Food-101N: 310,009 images of dishes from the web in the 101 classes of Food-101, about a fifth labeled wrongly.

Lee, He, Zhang and Yang, "CleanNet: Transfer Learning for Scalable Image Classifier Training with Label Noise", CVPR 2018.
The test images are those of Food-101: Bossard, Guillaumin and Van Gool, ECCV 2014, 25,250 images.

For 52,868 training images people said whether the label is right. Where it is, it is a verified label. Where it is not,
the right label is not known, and the image is trained on like any other. The 4,741 images that were checked for
validation are also among the training images, and are not used otherwise.

Differs from the papers' codes:
  - The middle square of an image is kept, and views are crops of it. The codes crop from the whole rectangle.
"""

from pathlib import Path

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
    read_lines,
)
from noisyctl.errors import DataError, few
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

ORIGIN = Origin(
    name="food101n",
    site="https://kuanghuei.github.io/Food-101N/, and Food-101 from "
    "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz (MD5 85eeb15f3717b99a5da872d97d918f87)",
    terms="its site states them; of Food-101: any use beyond scientific fair use needs the owners' consent",
    layout=("meta/imagelist.tsv", "meta/verified_train.tsv", "meta/classes.txt", "images"),
    sizes={"train": 310_009, "test": 25_250},
)
NUM_CLASSES = 101


class Params(BaseParams):
    """`food101n` in params.yaml."""

    root: str = param(meaning="folder of the official files, Food-101N_release", path=True)
    food101: str | None = param(
        None,
        "folder of Food-101, with meta/test.txt and images/; null: the folder food-101 in or beside the root",
        path=True,
    )
    image_size: int = param(
        256,
        "pixels of the shorter side after scaling; views are crops of 7/8 of it",
        source="official code of Jo-SRC: 224 of 256",
        ge=8,
    )
    train_share: float = param(
        1.0, "share of the training images of each given class that is used", gt=0, le=1
    )
    subset_seed: int = param(0, "seed of the random choice of `train_share`", ge=0)


def read(params: Params) -> Lists:
    """What the lists say, without reading images. Raises DataError if a file is missing or not as it should be."""
    root = existing_root(params.root, ORIGIN)
    names = _rows(root / "meta/classes.txt")
    if len(set(names)) != NUM_CLASSES:
        raise DataError(
            f"{root / 'meta/classes.txt'} names {len(set(names))} classes, not {NUM_CLASSES}; {ORIGIN.cure}"
        )
    classes = {name: label for label, name in enumerate(names)}
    aside: list[Quarantined] = []
    listed = root / "meta/imagelist.tsv"
    train = first_of_each(_labeled(listed, _rows(listed), classes, "images/", ""), aside)
    checked = {f"images/{key}": right for key, right in _checked(root / "meta/verified_train.tsv").items()}
    aside += [Quarantined(path, "checked, but not in imagelist.tsv") for path in checked if path not in train]
    verified = {path: train[path] for path, right in checked.items() if right and path in train}
    test = _food101(root, params.food101)
    tests = test / "meta/test.txt"
    splits = {
        "train": drawn(train, params.train_share, params.subset_seed),
        "test": first_of_each(
            _labeled(tests, read_keys(tests, ORIGIN), classes, f"{below(root, test)}images/", ".jpg"), aside
        ),
    }
    return Lists(splits, tuple(names), verified, aside)


def _rows(path: Path) -> list[str]:
    """The rows of a table, without its header line."""
    return [line for line in read_lines(path, ORIGIN)[1:] if line]


def _labeled(
    path: Path, keys: list[str], classes: dict[str, int], prefix: str, suffix: str
) -> list[tuple[str, int]]:
    """Paths and labels. The class of `class/image` is its folder."""
    if unknown := [key for key in keys if key.partition("/")[0] not in classes]:
        raise DataError(f"{path}: {few(unknown)} are in no class of meta/classes.txt; {ORIGIN.cure}")
    return [(f"{prefix}{key}{suffix}", classes[key.partition("/")[0]]) for key in keys]


def _checked(path: Path) -> dict[str, bool]:
    """For each checked image, whether its label was found right."""
    found = {}
    for row in _rows(path):
        key, _, right = row.partition("\t")
        if right not in ("0", "1"):
            raise DataError(f"{path}: {row!r} is not an image and 0 or 1; {ORIGIN.cure}")
        found[key] = right == "1"
    return found


def _food101(root: Path, place: str | None) -> Path:
    places = [Path(place).expanduser()] if place else [root / "food-101", root.resolve().parent / "food-101"]
    for folder in places:
        if folder.is_dir():
            return folder
    raise DataError(
        f"{places[-1]} is not a folder: the test images are Food-101's; get them and name it by --food101"
    )


def prepare(params: Params) -> ImageData:
    """The images that the lists name."""
    return image_data(
        existing_root(params.root, ORIGIN),
        read(params),
        params.image_size,
        {"crop": params.image_size * 7 // 8},
        IMAGENET,
    )
