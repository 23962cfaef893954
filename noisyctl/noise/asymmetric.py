"""Asymmetric noise: a class is mistaken for one similar class, by a fixed map.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017. Maps:

  cifar10              truck->automobile, bird->airplane, deer->horse, cat<->dog: five of ten classes, as in all published
                       code that was read, so that a rate r makes r/2 of the labels wrong
  cifar10_one_way      the same, but cat->dog only, as the texts of DivideMix and ScanMix print it: 0.4 r are wrong
  mnist                7->1, 2->7, 3->8, 5<->6 (Patrini, JoCoR)
  cifar100_superclass  circular within the true superclasses of five, as Patrini, JoCoR and MixNN describe it
  cifar100_blocks      circular within blocks of five consecutive fine labels, which is what their codes do. Fine labels are
                       in alphabetical order, so only 6 of the 100 flips stay in the true superclass
  custom               the params' `pairs`

`draw`: Patrini and JoCoR use iid; ELR, Joint-Optim and Active-Passive use exact; DivideMix, MixNN and ScanMix use
exact_total, which is int(r n) images of all classes, of which those of unmapped classes keep their label.

Differs from the authors' code:
  - Only in the random generator.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.errors import ParamsError
from noisyctl.noise import check_labels, touch
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()

CIFAR10_ONE_WAY = {9: 1, 2: 0, 3: 5, 4: 7}
CIFAR10 = CIFAR10_ONE_WAY | {5: 3}
MNIST = {7: 1, 2: 7, 3: 8, 5: 6, 6: 5}
# fmt: off
SUPERCLASS = (  # superclass of each CIFAR-100 fine label, from the data set's meta file (Krizhevsky 2009)
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
# fmt: on
SIZES = {
    "cifar10": 10,
    "cifar10_one_way": 10,
    "mnist": 10,
    "cifar100_superclass": 100,
    "cifar100_blocks": 100,
}


class Params(Base):
    """A block of `noises:` with `kind: asymmetric`."""

    rate: float = param(meaning="share of the labels of each mapped class that are flipped [r]", ge=0, le=1)
    map: Literal[
        "cifar10", "cifar10_one_way", "mnist", "cifar100_superclass", "cifar100_blocks", "custom"
    ] = param(meaning="which class is mistaken for which; custom: as `pairs` says")
    pairs: dict[int, int] = param(
        {}, "for map custom: {clean class: noisy class}; other classes keep their labels"
    )
    draw: Literal["iid", "exact", "exact_total"] = param(
        "iid",
        "how labels are chosen; iid: each independently; exact: round(r n_c) of each class; exact_total: "
        "int(r n) of all",
        source="iid: Patrini, JoCoR code; exact: ELR; exact_total: DivideMix code",
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The noisy labels."""
    check_labels(clean, num_classes)
    touched = touch(clean, params.rate, params.draw, rng)
    return np.where(touched, targets(num_classes, params)[clean], clean)


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c c"]:
    """The nominal matrix: P(noisy = j | clean = i)."""
    eye = np.eye(num_classes)
    return (1 - params.rate) * eye + params.rate * eye[targets(num_classes, params)]


def targets(num_classes: int, params: Params) -> Int[np.ndarray, " c"]:
    """The class that each class is mistaken for; an unmapped class is mapped to itself."""
    _check(num_classes, params)
    mapped = np.arange(num_classes)
    for source, target in _pairs(params).items():
        mapped[source] = target
    return mapped


def _pairs(params: Params) -> dict[int, int]:
    """The map as {clean class: noisy class}."""
    if params.map == "cifar100_superclass":
        return _circles(np.array(SUPERCLASS))
    if params.map == "cifar100_blocks":
        return _circles(np.arange(100) // 5)
    known = {"cifar10": CIFAR10, "cifar10_one_way": CIFAR10_ONE_WAY, "mnist": MNIST, "custom": params.pairs}
    return known[params.map]


def _circles(group: Int[np.ndarray, " c"]) -> dict[int, int]:
    """Maps each class to the next one of its group in ascending order, and the last one to the first."""
    members = (np.flatnonzero(group == g) for g in np.unique(group))
    return {int(a): int(b) for m in members for a, b in zip(m, np.roll(m, -1), strict=True)}


def _check(num_classes: int, params: Params) -> None:
    """Raises ParamsError if map, pairs and the number of classes do not fit together."""
    if (params.map == "custom") != bool(params.pairs):
        raise ParamsError(
            f"map is {params.map!r} and pairs is {params.pairs!r}; map: custom goes with pairs, "
            "for example {3: 5, 5: 3}, and no other map does"
        )
    if num_classes != SIZES.get(params.map, num_classes):
        raise ParamsError(
            f"map {params.map!r} is for {SIZES[params.map]} classes, but the data set has {num_classes}; "
            "choose another map, or map: custom with pairs"
        )
    outside = [c for pair in params.pairs.items() for c in pair if not 0 <= c < num_classes]
    if outside:
        raise ParamsError(
            f"pairs: class {outside[0]} lies outside 0..{num_classes - 1}; number the classes as class_names does"
        )
