"""scikit-learn's digits: 1797 real images of 8x8 gray values, small enough for a CPU.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (its test part).
They come with scikit-learn, so nothing is downloaded. The split is ours: it is stratified, and always the same.
"""

import numpy as np
from jaxtyping import Bool, Int64

from noisyctl.datasets import ImageData, Split
from noisyctl.params import Params as BaseParams
from noisyctl.params import param

FULL_INK = 16  # the largest gray value


class Params(BaseParams):
    """`digits` in params.yaml."""

    test_size: int = param(
        500, "number of images held out for the test", source="ours: 1% is 5 images", ge=10, le=1287
    )
    val_size: int = param(
        0, "number of further held-out images with right labels, for the split `val`", ge=0, le=500
    )


def prepare(params: Params) -> ImageData:
    """The digits and their clean labels, split into training, test and, if asked for, val."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * 255 / FULL_INK).astype(np.uint8)[..., None]
    ids = np.array([f"digits-{index:04}" for index in range(len(images))], np.dtypes.StringDType())
    labels = digits.target.astype(np.int64)
    is_test = held_out(labels, params.test_size)
    parts = {"train": ~is_test, "test": is_test}
    if params.val_size:
        parts["val"] = np.zeros(len(labels), bool)
        parts["val"][~is_test] = held_out(labels[~is_test], params.val_size)
        parts["train"] = ~is_test & ~parts["val"]
    return ImageData(
        splits={name: Split(images[part], ids[part]) for name, part in parts.items()},
        class_names=tuple(str(name) for name in digits.target_names),
        views="digits",
        truth={name: labels[part] for name, part in parts.items()},
        detected=f"scikit-learn's digits, {params.test_size} of {len(images)} for the test",
    )


def held_out(labels: Int64[np.ndarray, " n"], size: int) -> Bool[np.ndarray, " n"]:
    """Mask of `size` samples, in proportion to the classes: the first ones of each class in a fixed random order.

    The number for each class is rounded down; the samples that are then missing go to the classes with the largest
    remainders.
    """
    from noisyctl.seeds import numpy_stream

    order = np.argsort(numpy_stream(0, "datasets", "digits", "split").random(len(labels)), kind="stable")
    quotas, remainders = np.divmod(np.bincount(labels) * size, len(labels))
    quotas[np.argsort(-remainders, kind="stable")[: size - quotas.sum()]] += 1
    mask = np.zeros(len(labels), bool)
    for label, quota in enumerate(quotas):
        mask[order[labels[order] == label][:quota]] = True
    return mask
