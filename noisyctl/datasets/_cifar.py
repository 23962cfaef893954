"""What CIFAR-10 and CIFAR-100 share: pixels and labels in files of Python 2's pickle format.

A pickle can run code. So a file is unpickled only if it has the official checksum, and even then only numbers, text,
lists, dicts and arrays of bytes can come out of it.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from noisyctl.datasets._official import Release, archived_contents
from noisyctl.errors import DataError

SIDE = 32


@dataclass(frozen=True)
class Layout:
    """How a release is divided: the files of each split, in order, with the number of images in each.

    `meta` is the file with the class names. `labels` are the keys of the kinds of labels, `names` the keys of their
    class names.
    """

    release: Release
    splits: Mapping[str, Mapping[str, int]]
    meta: str
    labels: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Content:
    """Images by split, labels by kind and split, and the class names of each kind."""

    images: dict[str, UInt8[np.ndarray, "_ 32 32 3"]]
    labels: dict[str, dict[str, Int64[np.ndarray, " _"]]]
    class_names: dict[str, tuple[str, ...]]


def read(place: Path, layout: Layout) -> Content:
    """All images and labels, in the official order. Raises DataError if a file is not as it should be."""
    sizes = {split: sum(files.values()) for split, files in layout.splits.items()}
    images = {split: np.empty((size, SIDE, SIDE, 3), np.uint8) for split, size in sizes.items()}
    labels = {
        kind: {split: np.empty(size, np.int64) for split, size in sizes.items()} for kind in layout.labels
    }
    rows = {}
    for split, files in layout.splits.items():
        ends = np.cumsum(list(files.values())).tolist()
        for name, end in zip(files, ends, strict=True):
            rows[name] = (split, slice(end - files[name], end))
    class_names: dict[str, tuple[str, ...]] = {}
    for name, content in archived_contents(place, layout.release):
        values = unpickled(content, f"{place}: {name}", layout.release)
        if name == layout.meta:
            for kind, key in zip(layout.labels, layout.names, strict=True):
                class_names[kind] = _names(
                    values.get(key.encode()), f"{place}: {name}: {key}", layout.release
                )
            continue
        split, part = rows[name]
        number = part.stop - part.start
        images[split][part] = _pixels(values.get(b"data"), number, f"{place}: {name}", layout.release)
        for kind in layout.labels:
            given = values.get(kind.encode())
            labels[kind][split][part] = _labels(given, number, f"{place}: {name}: {kind}", layout.release)
    for kind, names in class_names.items():
        for split, given in labels[kind].items():
            if given.max() >= len(names):
                raise DataError(
                    f"{place}: {kind} of {split} go up to {given.max()}, but {layout.meta} names "
                    f"{len(names)} classes; {layout.release.cure}"
                )
    return Content(images, labels, class_names)


def _pixels(data: Any, number: int, where: str, release: Release) -> UInt8[np.ndarray, "n 32 32 3"]:
    """The images. Each row of `data` holds all red values, then all green ones, then all blue ones."""
    shape = (number, 3 * SIDE * SIDE)
    if not isinstance(data, np.ndarray) or data.shape != shape:
        found = f"the shape {data.shape}" if isinstance(data, np.ndarray) else f"{type(data).__name__}"
        raise DataError(f"{where}: the pixels have {found}, not the shape {shape}; {release.cure}")
    return data.reshape(number, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _labels(given: Any, number: int, where: str, release: Release) -> Int64[np.ndarray, " n"]:
    if not isinstance(given, list) or not all(isinstance(label, int) and label >= 0 for label in given):
        raise DataError(f"{where} is not a list of whole numbers from 0 on; {release.cure}")
    if len(given) != number:
        raise DataError(f"{where} has {len(given)} labels for {number} images; {release.cure}")
    return np.array(given, np.int64)


def _names(given: Any, where: str, release: Release) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, bytes) and name.isascii() for name in given):
        raise DataError(f"{where} is not a list of names; {release.cure}")
    return tuple(name.decode() for name in given)


def unpickled(content: bytes, where: str, release: Release) -> dict[bytes, Any]:
    """The dict in a pickle. Raises DataError if it holds anything but plain data and arrays of bytes."""
    try:
        values = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _Refused as error:
        raise DataError(
            f"{where} asks for {error}, which may run code and was not run; {release.cure}"
        ) from error
    except Exception as error:  # on damaged pickles nearly any type is raised
        raise DataError(f"{where} is a damaged pickle ({type(error).__name__}); {release.cure}") from error
    if not isinstance(values, dict):
        raise DataError(f"{where} holds {type(values).__name__}, not a dict; {release.cure}")
    return values


class _Refused(Exception):
    """A pickle asks for something that it does not get; the message says what."""


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for the three names that an array of bytes needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): None,
            ("numpy", "dtype"): _byte,
        }
        if (module, name) not in known:
            raise _Refused(f"{module}.{name}")
        return known[module, name]


def _empty_array(*_: Any) -> UInt8[np.ndarray, " 0"]:
    """An empty array. The pickle fills it afterwards with the shape and bytes of its state."""
    return np.empty(0, np.uint8)


def _byte(name: bytes, *_: Any) -> np.dtype[np.uint8]:
    if name != b"u1":
        raise _Refused(f"an array of {name!r}")
    return np.dtype(np.uint8)
