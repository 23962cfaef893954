"""Clothing1M: a million images of clothes from shops, labeled by the text around them, in 14 classes.

Xiao, Xia, Yang, Huang and Wang, "Learning from Massive Noisy Labeled Data for Image Classification", CVPR 2015. The
authors' lists name 1,000,000 images with a noisy label only, and 47,570, 14,313 and 10,526 images with a clean label for
training, validation and test. Of the clean training images 24,637 have a noisy label, too.

`train` says which images are trained on. Their given label is the noisy one; a clean training image without a noisy label
gets its clean one, as in the code of Jo-SRC. The clean labels of training images are verified labels, which a run only
sees if it is given verified.zarr. No clean label of the million images is known, so the noise is not measured.

Differs from the papers' codes:
  - The middle square of an image is kept, and views are crops of it. The codes crop from the whole rectangle.
"""

from pathlib import Path
from typing import Literal

from noisyctl.datasets import ImageData, Quarantined
from noisyctl.datasets._lists import (
    IMAGENET,
    Lists,
    Origin,
    drawn,
    existing_root,
    first_of_each,
    image_data,
    labels_of,
    read_keys,
    read_labeled,
)
from noisyctl.errors import DataError
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

ORIGIN = Origin(
    name="clothing1m",
    site="https://github.com/Cysu/noisy_label (its authors answer requests by e-mail)",
    terms="non-commercial research and education only; not to be passed on",
    layout=(
        "annotations/noisy_train_key_list.txt",
        "annotations/noisy_label_kv.txt",
        "annotations/clean_train_key_list.txt",
        "annotations/clean_val_key_list.txt",
        "annotations/clean_test_key_list.txt",
        "annotations/clean_label_kv.txt",
        "annotations/category_names_eng.txt",
        "images",
    ),
    sizes={"train": 1_024_637, "val": 14_313, "test": 10_526},
)
NUM_CLASSES = 14
NORMALIZATIONS = {
    "imagenet": IMAGENET,
    "dividemix": ((0.6959, 0.3113), (0.6537, 0.3192), (0.6371, 0.3214)),
    "measured": None,
}


class Params(BaseParams):
    """`clothing1m` in params.yaml."""

    root: str = param(meaning="folder of the official files", path=True)
    train: Literal["noisy", "both", "all", "clean"] = param(
        "both",
        "training images; noisy: those with a noisy label only; both: also the clean training images that "
        "have a noisy label; all: also the other clean training images; clean: only clean training images, "
        "with their clean labels",
        source="ours: SMP 4.1's 25k verified labels need `both`; MixNN and ScanMix `noisy`; Jo-SRC's code `all`; "
        "Two-Stage's fine-tuning `clean`",
    )
    normalization: Literal["imagenet", "dividemix", "measured"] = param(
        "imagenet",
        "mean and deviation of the channels; measured: those of the training images",
        source="official code of Jo-SRC; DivideMix's has its own",
    )
    image_size: int = param(
        256,
        "pixels of the shorter side after scaling; views are crops of 7/8 of it",
        source="SMP 4.1: 224 of 256",
        ge=8,
    )
    train_share: float = param(
        1.0,
        "share of the training images of each given class that is used",
        source="ours: all; ScanMix used about a tenth",
        gt=0,
        le=1,
    )
    subset_seed: int = param(0, "seed of the random choice of `train_share`", ge=0)


def read(params: Params) -> Lists:
    """What the lists say, without reading images. Raises DataError if a file is missing or not as it should be."""
    root = existing_root(params.root, ORIGIN)
    folder = root / "annotations"
    if not folder.exists() and (root / "noisy_train_key_list.txt").exists():
        folder = root  # as DivideMix's code expects it
    noisy, clean = (
        dict(read_labeled(folder / f"{kind}_label_kv.txt", NUM_CLASSES, ORIGIN))
        for kind in ("noisy", "clean")
    )
    keys = {
        name: read_keys(folder / f"{name}_key_list.txt", ORIGIN)
        for name in ("noisy_train", "clean_train", "clean_val", "clean_test")
    }
    aside: list[Quarantined] = []
    given = labels_of(keys["noisy_train"], noisy, folder / "noisy_label_kv.txt", ORIGIN)
    checked = dict(labels_of(keys["clean_train"], clean, folder / "clean_label_kv.txt", ORIGIN))
    added = {
        "noisy": {},
        "both": {key: noisy[key] for key in checked if key in noisy},
        "all": checked | {key: noisy[key] for key in checked if key in noisy},
        "clean": checked,
    }[params.train]
    train = {} if params.train == "clean" else first_of_each(given, aside)
    splits = {"train": drawn(train | added, params.train_share, params.subset_seed)}
    for name in ("val", "test"):
        pairs = labels_of(keys[f"clean_{name}"], clean, folder / "clean_label_kv.txt", ORIGIN)
        splits[name] = first_of_each(pairs, aside)
    verified = {} if params.train == "clean" else checked  # with `clean` they are the given labels already
    return Lists(splits, _class_names(folder / "category_names_eng.txt"), verified, aside)


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(read_keys(path, ORIGIN))
    if len(set(names)) != NUM_CLASSES:
        raise DataError(f"{path} names {len(set(names))} classes, not {NUM_CLASSES}; {ORIGIN.cure}")
    return names


def prepare(params: Params) -> ImageData:
    """The images that the lists name."""
    return image_data(
        existing_root(params.root, ORIGIN),
        read(params),
        params.image_size,
        {"crop": params.image_size * 7 // 8},
        NORMALIZATIONS[params.normalization],
    )
