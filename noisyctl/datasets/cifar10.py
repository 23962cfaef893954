"""CIFAR-10: 60000 color images of 32x32 pixels in 10 classes, the most common benchmark of the field.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, University of Toronto, 2009. There
are 50000 training images (batches 1 to 5, in their order) and 10000 test images. The official python version is read, as
an archive or unpacked; every file must have the official checksum.
"""

from noisyctl.datasets import ImageData
from noisyctl.datasets._cifar import Layout, read
from noisyctl.datasets._official import File, Release, locate, splits
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

RELEASE = Release(
    name="cifar10",
    sites=("https://www.cs.toronto.edu/~kriz/",),
    downloads=(File("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),),
    files=(
        File("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        File("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        File("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        File("data_batch_4", "634d18415352ddfa80567beed471001a"),
        File("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        File("test_batch", "40351d587109b95175f43aff81a1287e"),
        File("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    ),
    folder="cifar-10-batches-py",
)
LAYOUT = Layout(
    release=RELEASE,
    splits={
        "train": {f"data_batch_{number}": 10000 for number in range(1, 6)},
        "test": {"test_batch": 10000},
    },
    meta="batches.meta",
    labels=("labels",),
    names=("label_names",),
)


class Params(BaseParams):
    """`cifar10` in params.yaml."""

    root: str | None = param(
        None, "folder of the official files, or the archive; downloads are kept there", path=True
    )
    download: bool = param(False, "fetch the official files if they are not there")


def prepare(params: Params) -> ImageData:
    """The images in the official order, with their clean labels."""
    content = read(locate(params.root, params.download, RELEASE), LAYOUT)
    return ImageData(
        splits=splits(content.images, "cifar10"),
        class_names=content.class_names["labels"],
        views="natural",
        truth=content.labels["labels"],
        detected="CIFAR-10, python version, official checksums",
    )
