"""Images and labels as arrays; one file per data set.

A data set is a module with `Params` and `prepare(params)`, which returns `ImageData` (`features` returns its own
`FeatureData`). The name of the file is the data set's name on the command line and in params.yaml. Modules that begin
with an underscore hold what several data sets share.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8, UInt32

from noisyctl.registry import Registry

BLOCK = 8192  # images whose pixels are counted at a time
REGISTRY = Registry(__name__, "data set", ("Params", "prepare"))

available, load = REGISTRY.available, REGISTRY.load


@dataclass(frozen=True, eq=False)
class Files:
    """Images that stay in their files, each a square of `image_size`; their split holds the paths.

    `value_counts` are the counts of the values of all their pixels; `checksums` the CRC-32 of each file.
    """

    image_size: int
    value_counts: Int64[np.ndarray, "ch 256"]
    checksums: UInt32[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images with an id each, in a fixed order. Ids and paths are numpy `StringDType`.

    An id is an official index, or is made from the content of the file (`images.content_ids`), in which case the
    images are sorted by it. It says nothing about the label. `paths` are relative to the root; None where the images
    are not in files of their own.
    """

    images: UInt8[np.ndarray, "n h w ch"] | Files
    ids: Shaped[np.ndarray, " n"]
    paths: Shaped[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class Quarantined:
    """A file of the user's that is not used, and the reason. `path` is relative to the root."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageData:
    """What a data set gives: its images by split, and its labels, which are known to be right or merely given.

    `splits` always has "train". `truth` holds the labels, by split, that are taken as right: of every split but
    "train", and of "train" if its clean labels are known. `given_labels` are the training labels as the user has
    them. `verified` are positions of training images, in increasing order, and the labels that the user has checked
    for them. `views` is the name of a recipe of augmentations (`noisyctl.views.RECIPES`), or a recipe.
    `normalization` is the mean and deviation of each channel; None means those of the training images. `detected`
    says how the user's data were understood.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    views: str | Mapping[str, Any]
    truth: Mapping[str, Int64[np.ndarray, " _"]] = field(default_factory=dict)
    given_labels: Int64[np.ndarray, " _"] | None = None
    verified: tuple[Int64[np.ndarray, " v"], Int64[np.ndarray, " v"]] | None = None
    quarantine: tuple[Quarantined, ...] = ()
    normalization: tuple[tuple[float, float], ...] | None = None
    detected: str = ""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, as a fraction of 255."""
        return tuple(mean for mean, _ in self.normalization or self._moments)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, as a fraction of 255; 1 where a channel is constant."""
        return tuple(std for _, std in self.normalization or self._moments)

    @functools.cached_property
    def _moments(self) -> list[tuple[float, float]]:
        images = self.splits["train"].images
        return [
            moments(c) for c in (images.value_counts if isinstance(images, Files) else value_counts(images))
        ]


def value_counts(images: UInt8[np.ndarray, "n h w ch"]) -> Int64[np.ndarray, "ch 256"]:
    """How often each value occurs in each channel."""
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), BLOCK):
        for channel, count in enumerate(counts):
            count += np.bincount(images[start : start + BLOCK, :, :, channel].reshape(-1), minlength=256)
    return counts


def moments(counts: Int64[np.ndarray, " 256"]) -> tuple[float, float]:
    """Mean and standard deviation, as fractions of 255, from counts of the values. The sums are exact."""
    number, total, squares = (
        sum(int(count) * value**power for value, count in enumerate(counts)) for power in range(3)
    )
    variance = (number * squares - total**2) / number**2
    return total / number / 255, math.sqrt(variance) / 255 or 1.0
