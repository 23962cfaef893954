"""CIFAR-100: 60000 color images of 32x32 pixels in 100 classes, five in each of 20 superclasses.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, University of Toronto, 2009. There
are 50000 training and 10000 test images. The labels are the fine ones; `coarse_labels` gives the superclasses. The
official python version is read, as an archive or unpacked; every file must have the official checksum.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int64

from noisyctl.datasets import ImageData
from noisyctl.datasets._cifar import Content, Layout, read
from noisyctl.datasets._official import File, Release, locate, splits
from noisyctl.errors import DataError
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

RELEASE = Release(
    name="cifar100",
    sites=("https://www.cs.toronto.edu/~kriz/",),
    downloads=(File("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),),
    files=(
        File("train", "16019d7e3df5f24257cddd939b257f8d"),
        File("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        File("meta", "7973b15100ade9c7d40fb424638fde48"),
    ),
    folder="cifar-100-python",
)
LAYOUT = Layout(
    release=RELEASE,
    splits={"train": {"train": 50000}, "test": {"test": 10000}},
    meta="meta",
    labels=("fine_labels", "coarse_labels"),
    names=("fine_label_names", "coarse_label_names"),
)

SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
FINE_NAMES = tuple(sorted(name for names in SUPERCLASSES.values() for name in names))
COARSE_NAMES = tuple(SUPERCLASSES)
COARSE_OF_FINE = tuple(
    coarse for fine in FINE_NAMES for coarse, names in enumerate(SUPERCLASSES.values()) if fine in names
)


class Params(BaseParams):
    """`cifar100` in params.yaml."""

    root: str | None = param(
        None, "folder of the official files, or the archive; downloads are kept there", path=True
    )
    download: bool = param(False, "fetch the official files if they are not there")
    pixels: Literal["standardized", "unit"] = param(
        "standardized",
        "standardized: mean 0, deviation 1, weak views shifted and flipped; unit: 0 to 1, weak views are the "
        "plain images",
        source="ours; JoCoR code: unit",
    )


def prepare(params: Params) -> ImageData:
    """The images in the official order, with their clean fine labels."""
    content = read(locate(params.root, params.download, RELEASE), LAYOUT)
    require_superclasses(content)
    return ImageData(
        splits=splits(content.images, "cifar100"),
        class_names=content.class_names["fine_labels"],
        views={"standardized": "natural", "unit": "natural_still"}[params.pixels],
        normalization=None if params.pixels == "standardized" else ((0.0, 1.0),) * 3,
        truth=content.labels["fine_labels"],
        detected="CIFAR-100, python version, official checksums, fine labels",
    )


def coarse_labels(fine_labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The superclass of each fine label: a position in COARSE_NAMES."""
    return np.array(COARSE_OF_FINE, np.int64)[fine_labels]


def require_superclasses(content: Content) -> None:
    """Raise DataError if names or superclasses are not those listed here, on which the asymmetric noise is built."""
    for kind, expected in (("fine_labels", FINE_NAMES), ("coarse_labels", COARSE_NAMES)):
        if content.class_names[kind] != expected:
            raise DataError(f"the names of the {kind} are not CIFAR-100's; {RELEASE.cure}")
    for split, fine in content.labels["fine_labels"].items():
        wrong = np.flatnonzero(coarse_labels(fine) != content.labels["coarse_labels"][split])
        if len(wrong):
            raise DataError(
                f"{len(wrong)} {split} images (the first is {wrong[0]}) lie in a superclass that is not "
                f"that of their fine label; {RELEASE.cure}"
            )
