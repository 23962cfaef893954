"""Fashion-MNIST: 70000 gray images of 28x28 pixels, articles of clothing, in MNIST's format.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747. There are 60000 training and 10000 test images. The four official IDX files are read, compressed or not;
each must have the official content.
"""

from noisyctl.datasets import ImageData
from noisyctl.datasets._idx import image_data
from noisyctl.datasets._official import File, Release, locate
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

RELEASE = Release(
    name="fashion_mnist",
    sites=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    downloads=(
        File("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        File("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
        File("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        File("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    ),
    files=(
        File("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        File("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
        File("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
        File("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    folder="FashionMNIST/raw",
)
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Params(BaseParams):
    """`fashion_mnist` in params.yaml."""

    root: str | None = param(
        None, "folder of the official files, or the archive; downloads are kept there", path=True
    )
    download: bool = param(False, "fetch the official files if they are not there")


def prepare(params: Params) -> ImageData:
    """The images in the official order, with their clean labels."""
    place = locate(params.root, params.download, RELEASE)
    return image_data(place, RELEASE, CLASS_NAMES, "natural_gray", "Fashion-MNIST, official checksums")
