"""Labels as the user writes them, and the classes that they stand for."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64

from noisyctl.errors import DataError, few


def sorted_classes(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """The distinct labels, unchanged; sorted as numbers if all of them are whole numbers, else by code point.

    Raises DataError if there are fewer than two, or if two of them look the same.
    """
    names = set(labels)
    if all(_is_whole(name) for name in names):
        names_in_order = sorted(names, key=lambda name: (int(name), name))
    else:
        names_in_order = sorted(names)
    alike: dict[str, list[str]] = {}
    for name in names_in_order:
        alike.setdefault(unicodedata.normalize("NFC", name).strip(), []).append(name)
    for twins in alike.values():
        if len(twins) > 1:
            raise DataError(f"{where}: the classes {few(map(ascii, twins))} look the same; write them alike")
    if len(names) < 2:
        raise DataError(
            f"{where}: {few(names_in_order) or 'no class'} is the only class; labels need two or more"
        )
    return tuple(names_in_order)


def _is_whole(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit()


def encoded(labels: Sequence[str], class_names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The position of each label in `class_names`."""
    position = {name: index for index, name in enumerate(class_names)}
    return np.array([position[label] for label in labels], np.int64)
