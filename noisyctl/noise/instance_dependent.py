"""Instance-dependent noise: how probably a label is wrong, and towards what, depends on the image.

The generator is that of Xia et al., "Part-dependent Label Noise: Towards Instance-dependent Label Noise", NeurIPS 2020
(Algorithm 2 of its appendix), which later papers use, too. For every image x [d] of class y:

  [1] draw the flip rate q from a normal distribution of mean r and deviation 0.1, truncated to [0, 1]
  [2] scores s = x W_y, with a matrix W_y [d c] of standard normal numbers for each class
  [3] the label is y with probability 1 - q, and j != y with probability q softmax(s without s_y)_j

The expected rate is the mean of the truncated distribution: r itself for r from .3 to .7, .2055 for r = .2, .1288 for r =
.1. The scores of natural images are large, so nearly all of the probability of a flip lies on one class, on which many
images of a class agree (on CIFAR-10 one class takes 36 to 97 % of a class's wrong labels).

Differs from the authors' code:
  - Pixels are divided by 255.
  - The random generator is another one.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.special import softmax
from scipy.stats import truncnorm

from noisyctl.noise import check_labels
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ("images",)
BLOCK = 1024  # images in a block, which bounds the memory


class Params(Base):
    """A block of `noises:` with `kind: instance_dependent`."""

    rate: float = param(meaning="mean of the flip rates before truncation [r]", gt=0, lt=1)
    deviation: float = param(
        0.1, "standard deviation of the flip rates before truncation", source="Algorithm 2", gt=0
    )


def corrupt(
    clean: Int[np.ndarray, " n"],
    num_classes: int,
    params: Params,
    rng: np.random.Generator,
    *,
    images: UInt8[np.ndarray, "n h w ch"],
) -> Int[np.ndarray, " n"]:
    """The noisy labels."""
    check_labels(clean, num_classes)
    flip_rates, drawn = _flip_rates(len(clean), params, rng), rng.random(len(clean))
    noisy = clean.astype(np.int64)
    for c in range(num_classes):
        projection = rng.standard_normal((images[0].size, num_classes))
        members = np.flatnonzero(clean == c)
        for start in range(0, len(members), BLOCK):
            index = members[start : start + BLOCK]
            rows = probabilities(images[index], c, flip_rates[index], projection)  # [2] [3]
            noisy[index] = (rows.cumsum(axis=1)[:, :-1] <= drawn[index, None]).sum(axis=1)
    return noisy


def probabilities(
    images: UInt8[np.ndarray, "b h w ch"],
    label: int,
    flip_rates: Float[np.ndarray, " b"],
    projection: Float[np.ndarray, "d c"],
) -> Float[np.ndarray, "b c"]:
    """P(noisy | image) for images of the class `label`."""
    scores = images.reshape(len(images), -1) / 255 @ projection
    scores[:, label] = -np.inf
    rows = flip_rates[:, None] * softmax(scores, axis=1)
    rows[:, label] = 1 - flip_rates
    return rows


def transition_matrix(num_classes: int, params: Params) -> None:
    """None: the matrix depends on the images. It can be measured."""


def _flip_rates(n: int, params: Params, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """The flip rate of each sample."""
    low, high = -params.rate / params.deviation, (1 - params.rate) / params.deviation
    return truncnorm.rvs(low, high, params.rate, params.deviation, size=n, random_state=rng)  # [1]
