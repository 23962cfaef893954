"""Semantic noise: the mistakes of a classifier that learned from a small clean part of the data.

Lee et al., "Robust Inference via Generative Classifiers for Handling Noisy Labels" (RoG), ICML 2019; ScanMix uses it,
too. The labels are the predictions of a weak classifier. It was trained on a share `clean_share` of the images with their
clean labels, and gives probabilities p [n c] for all images:

  [1] without a rate: the label is the argmax of p, so as many labels are wrong as the classifier makes mistakes
  [2] with a rate r: exactly round(r n) labels are wrong, those where the best wrong class is furthest ahead of the true
      one, max_{j != y} p_ij - p_iy; they get that class (in the spirit of Algan and Ulusoy, "Label Noise Types and Their
      Effects on Deep Learning", 2020). Nothing is drawn

The images that the classifier learned from are labeled by it, too. Without a rate, their labels are therefore nearly all
right.

Differs from the authors' data:
  - RoG trained DenseNet, ResNet and VGG and published the labels only. The classifier and its clean share are our choices.
  - The label files in circulation have measured rates of .3189 (DenseNet), .3805 (ResNet) and .3009 (VGG; the papers
    print 34 %). Read those files with noise `file`.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from noisyctl.noise import check_labels
from noisyctl.params import Params as Base
from noisyctl.params import param

NEEDS = ("probabilities",)


class Params(Base):
    """A block of `noises:` with `kind: semantic`."""

    rate: float | None = param(
        None, "share of wrong labels [r]; none: as many as the classifier makes mistakes", ge=0, le=1
    )
    classifier: Literal["logistic", "small_cnn", "resnet18"] = param(
        "small_cnn",
        "classifier whose mistakes are the noise: logistic regression on the pixels, or a network",
        source="ours: RoG's are larger",
    )
    clean_share: float = param(
        0.2,
        "share of each class, with clean labels, that the classifier learns from",
        source="ours: not published",
        gt=0,
        lt=1,
    )
    epochs: int = param(
        30,
        "epochs in which a network learns from the clean share",
        source="ours: enough for both networks",
        ge=1,
    )
    width: int = param(32, "channels of a network's first stage", source="ours: minutes on a CPU", ge=1)


def corrupt(
    clean: Int[np.ndarray, " n"],
    num_classes: int,
    params: Params,
    rng: np.random.Generator,
    *,
    probabilities: Float[np.ndarray, "n c"],
) -> Int[np.ndarray, " n"]:
    """The noisy labels. Nothing is drawn from `rng`."""
    check_labels(clean, num_classes)
    if params.rate is None:
        return probabilities.argmax(axis=1)  # [1]
    every = np.arange(len(clean))
    others = probabilities.copy()
    others[every, clean] = -np.inf
    lead = others.max(axis=1) - probabilities[every, clean]
    flipped = np.argsort(-lead, kind="stable")[: round(params.rate * len(clean))]
    noisy = clean.astype(np.int64)
    noisy[flipped] = others.argmax(axis=1)[flipped]  # [2]
    return noisy


def transition_matrix(num_classes: int, params: Params) -> None:
    """None: the matrix depends on the classifier. It can be measured."""
