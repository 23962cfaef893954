"""What MNIST and Fashion-MNIST share: 28x28 gray images and labels in four IDX files.

An IDX file consists of a magic number (two zeros, the type, the number of axes), the length of each axis as a big-endian
32-bit integer, and the values.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from noisyctl.datasets import ImageData
from noisyctl.datasets._official import Release, gzipped_contents, splits
from noisyctl.errors import DataError

SIDE = 28
COUNTS = {"train": 60000, "t10k": 10000}
SPLITS = {"train": "train", "t10k": "test"}
UINT8 = 8  # the number of this type in IDX


def read(
    place: Path, release: Release, num_classes: int, counts: Mapping[str, int]
) -> tuple[dict[str, UInt8[np.ndarray, "_ 28 28 1"]], dict[str, Int64[np.ndarray, " _"]]]:
    """Images and labels by split, in the official order."""
    arrays = {}
    for name, content in gzipped_contents(place, release):
        part, kind = name.split("-")[:2]
        shape = (counts[part], SIDE, SIDE) if kind == "images" else (counts[part],)
        arrays[SPLITS[part], kind] = parsed(content, shape, f"{place}: {name}", release)
    images = {split: arrays[split, "images"][..., None] for split in SPLITS.values()}
    labels = {split: arrays[split, "labels"].astype(np.int64) for split in SPLITS.values()}
    for split, given in labels.items():
        if given.max() >= num_classes:
            raise DataError(
                f"{place}: a {split} label is {given.max()}, not below {num_classes}; {release.cure}"
            )
    return images, labels


def parsed(content: bytes, shape: tuple[int, ...], where: str, release: Release) -> UInt8[np.ndarray, "..."]:
    """The array in an IDX file, without a copy. Raises DataError if the file is not as it should be."""
    start = 4 + 4 * len(shape)
    magic = bytes([0, 0, UINT8, len(shape)])
    if content[:4] != magic:
        raise DataError(
            f"{where} begins with {content[:4].hex() or 'nothing'}, not with the magic number {magic.hex()}; {release.cure}"
        )
    found = tuple(np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">i4").tolist())
    if found != shape:
        raise DataError(f"{where} has the shape {found}, not {shape}; {release.cure}")
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape):
        raise DataError(
            f"{where} holds {values.size} values for the shape {shape}: cut short; {release.cure}"
        )
    return values.reshape(shape)


def image_data(
    place: Path, release: Release, class_names: tuple[str, ...], views: str, detected: str
) -> ImageData:
    """The images in the official order, with their clean labels."""
    images, labels = read(place, release, len(class_names), COUNTS)
    return ImageData(
        splits=splits(images, release.name),
        class_names=class_names,
        views=views,
        truth=labels,
        detected=detected,
    )
