"""Open-set noise: images of unknown classes get labels of known ones, beside wrong labels among the known.

Yao et al., "Jo-SRC: A Contrastive Approach for Combating Noisy Labels", CVPR 2021: CIFAR80N-O, CIFAR-100 whose last 20
classes are unknown. With K known classes:

  [1] an image of an unknown class gets a label drawn uniformly from the K known ones, so it is always wrong
  [2] an image of a known class keeps its label with probability 1 - n_c; else it gets another known class, drawn uniformly
      (symmetric, n_c / (K - 1) each) or the next one, the last the first (pairflip)

So a closed-set rate n_c makes a share u + (1 - u) n_c of the labels wrong, u the share of unknown images (0.2 there: n_c of
.2, .5, .8 make .36, .60, .84). The noisy labels have K classes: the networks have K outputs, and the test images of
unknown classes have no right answer.
Differs from the authors' code: nothing but the generator.
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
    num_unknown: int = param(20, "classes without a label: the last ones", source="Jo-SRC 4.1", ge=1)
    closed: Literal["symmetric", "pairflip"] = param(
        "symmetric", "what becomes of the labels of known classes", source="Jo-SRC code"
    )


def corrupt(
    clean: Int[np.ndarray, " n"], num_classes: int, params: Params, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Noisy labels, all of them known classes."""
    check_labels(clean, num_classes)
    return corrupt_with(clean, transition_matrix(num_classes, params), rng)


def num_noisy_classes(num_classes: int, params: Params) -> int:
    """The known classes, of which there must be two to confuse."""
    known = num_classes - params.num_unknown
    if known < 2:
        raise ParamsError(
            f"num_unknown is {params.num_unknown}, which leaves {max(known, 0)} of {num_classes} classes known; "
            f"give at most {num_classes - 2}"
        )
    return known


def transition_matrix(num_classes: int, params: Params) -> Float[np.ndarray, "c known"]:
    """The promised matrix: P(noisy = j | clean = i), rows of unknown classes uniform."""
    known = num_noisy_classes(num_classes, params)
    if params.closed == "pairflip":
        closed = pairflip.transition_matrix(known, pairflip.Params(rate=params.rate))
    else:
        closed = symmetric.transition_matrix(
            known, symmetric.Params(rate=params.rate, include_true_class=False)
        )
    return np.vstack([closed, np.full((params.num_unknown, known), 1 / known)])
