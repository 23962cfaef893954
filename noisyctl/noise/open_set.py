"""Open-set noise: images of unknown classes get labels of known ones, beside wrong labels among the known.

Yao et al., "Jo-SRC: A Contrastive Approach for Combating Noisy Labels", CVPR 2021: CIFAR80N-O is CIFAR-100 whose last 20
classes are unknown. With K known classes:

  [1] an image of an unknown class gets a label drawn uniformly from the K known ones, so it is always wrong
  [2] an image of a known class keeps its label with probability 1 - n_c; otherwise it gets another known class: one drawn
      uniformly (symmetric, n_c / (K - 1) each), or the next one, where the last is followed by the first (pairflip)

With u the share of unknown images, a closed-set rate n_c makes a share u + (1 - u) n_c of the labels wrong. In CIFAR80N-O
u is 0.2, so n_c of .2, .5, .8 give .36, .60, .84. The noisy labels have K classes: networks have K outputs, and test
images of unknown classes have no correct answer.

Differs from the authors' code:
  - Only in the random generator.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.errors import ParamsError
from noisyctl.noise import check_labels, pairflip, symmetric
from noisyctl.noise.matrix import corrupt_with
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ()


class Params(Base):
    """A block of `noises:` with `kind: open_set`."""

    rate: float = param(meaning="share of the labels of known classes that are wrong [n_c]", ge=0, le=1)
    num_unknown: int = param(
        20, "number of unknown classes, which are the last ones", source="Jo-SRC 4.1", ge=1
    )
    closed: Literal["symmetric", "pairflip"] = param(
        "symmetric", "how the labels of known classes become wrong", source="Jo-SRC code"
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The noisy labels, all of which are known classes."""
    check_labels(clean, num_classes)
    return corrupt_with(clean, transition_matrix(num_classes, params), rng)


def num_noisy_classes(num_classes: int, params: Params) -> int:
    """The number of known classes. Raises ParamsError if there are fewer than two."""
    known = num_classes - params.num_unknown
    if known < 2:
        raise ParamsError(
            f"num_unknown is {params.num_unknown}, which leaves {max(known, 0)} of {num_classes} classes known; "
            f"give at most {num_classes - 2}"
        )
    return known


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c known"]:
    """The nominal matrix: P(noisy = j | clean = i). The rows of unknown classes are uniform."""
    known = num_noisy_classes(num_classes, params)
    if params.closed == "pairflip":
        closed = pairflip.transition_matrix(known, pairflip.Params(rate=params.rate))
    else:
        closed = symmetric.transition_matrix(
            known, symmetric.Params(rate=params.rate, include_true_class=False)
        )
    return np.vstack([closed, np.full((params.num_unknown, known), 1 / known)])
