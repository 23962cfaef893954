"""MNIST: 70000 gray images of 28x28 pixels, handwritten digits.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE,
1998. There are 60000 training and 10000 test images. The four official IDX files are read, compressed or not; each must
have the official content.
"""

from dataclasses import replace
from typing import Literal

from noisyctl.datasets import ImageData
from noisyctl.datasets._idx import image_data
from noisyctl.datasets._official import File, Release, locate
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

RELEASE = Release(
    name="mnist",
    sites=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    downloads=(
        File("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        File("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
        File("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        File("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    ),
    files=(
        File("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
        File("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
        File("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
        File("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
    ),
    folder="MNIST/raw",
)


class Params(BaseParams):
    """`mnist` in params.yaml."""

    root: str | None = param(
        None, "folder of the official files, or the archive; downloads are kept there", path=True
    )
    download: bool = param(False, "fetch the official files if they are not there")
    pixels: Literal["standardized", "unit"] = param(
        "standardized",
        "standardized: mean 0, deviation 1, weak views shifted by up to 2 pixels; unit: 0 to 1, weak views "
        "are the plain images",
        source="ours; Patrini code: unit",
    )


def prepare(params: Params) -> ImageData:
    """The images in the official order, with their clean labels."""
    place = locate(params.root, params.download, RELEASE)
    views = {"standardized": "mnist", "unit": "mnist_still"}[params.pixels]
    found = image_data(place, RELEASE, tuple("0123456789"), views, "MNIST, official checksums")
    return found if params.pixels == "standardized" else replace(found, normalization=((0.0, 1.0),))
