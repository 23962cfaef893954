"""Several people's labels of each sample as one label: by majority, and by Dawid and Skene's model.

Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28
(1979): a sample's true class is drawn from shares p, and annotator a, whatever the sample, writes class j for a true class z
with probability C_a[z, j]. EM, from the shares of the votes:

  [1] M: p and all C_a from the present posteriors of the true classes
  [2] E: the posterior of each sample, p_z times the product of C_a[z, j] over its votes

Differs from the paper: C_a has POOLED pseudo-counts a row, spread as all annotators together write in this row, and these
together have one, spread evenly. So an annotator with a single label is taken for an average one, and no probability is 0.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.special import softmax

POOLED = 5.0  # pseudo-counts of each row of an annotator's matrix
ITERATIONS = 200
TOLERANCE = 1e-6  # largest change of a posterior at which EM stops
MISFIT = 0.15  # share of the wrong labels: the error of their number where people err on the same samples; from CIFAR-10N
Z = 1.96  # standard errors of a 95 % interval


class Votes(NamedTuple):
    """v votes: who (of `num_annotators`) gave which sample (of `num_samples`) which label (of `num_classes`).

    An annotator votes at most once on a sample. The label `num_classes` stands for one that is no class, and always wrong.
    """

    sample: Int[np.ndarray, " v"]
    annotator: Int[np.ndarray, " v"]
    label: Int[np.ndarray, " v"]
    num_samples: int
    num_annotators: int
    num_classes: int

    def counts(self) -> Int[np.ndarray, "n c"]:
        """How many votes each class of each sample has."""
        width = self.num_classes + 1
        counts = np.bincount(self.sample * width + self.label, minlength=self.num_samples * width)
        return counts.reshape(self.num_samples, width)[:, :-1]


class Consensus(NamedTuple):
    """The posterior of the true class, shares of the classes, and each annotator's matrix [annotator, true, written]."""

    posterior: Float64[np.ndarray, "n c"]
    shares: Float64[np.ndarray, " c"]
    confusion: Float64[np.ndarray, "a c j"]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The likeliest class; of equally likely ones the first. Differences in the last digits are none."""
        return np.round(self.posterior, 9).argmax(axis=1)


def majority(votes: Votes) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The class with most votes of every sample, and whether others have as many.

    Of equally many votes that class wins which has more votes in the whole set, then the first one.
    """
    counts = votes.counts()
    leading = counts == counts.max(axis=1, keepdims=True)
    overall = counts.sum(axis=0)
    return np.where(leading, overall, -1).argmax(axis=1), leading.sum(axis=1) > 1


def dawid_skene(votes: Votes, known: Float64[np.ndarray, "n c"] | None = None) -> Consensus:
    """Fit the model by EM. `known` are other probabilities of each sample's true class, in the place of its shares."""
    counts = votes.counts()
    posterior = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    confusion, shares = _fitted(votes, posterior)
    for _ in range(ITERATIONS):
        before, posterior = posterior, _posterior(votes, confusion, shares if known is None else known)
        confusion, shares = _fitted(votes, posterior)
        if np.abs(posterior - before).max() < TOLERANCE:
            break
    return Consensus(posterior, shares, confusion)


def _fitted(
    votes: Votes, posterior: Float64[np.ndarray, "n c"]
) -> tuple[Float64[np.ndarray, "a c j"], Float64[np.ndarray, " c"]]:
    """[1]"""
    a, c, width = votes.num_annotators, votes.num_classes, votes.num_classes + 1
    cell = votes.annotator * width + votes.label
    weights = posterior[votes.sample]
    by_class = [np.bincount(cell, weights[:, z], a * width).reshape(a, width) for z in range(c)]
    counts = np.stack(by_class, axis=1)
    pooled = counts.sum(axis=0) + 1 / width
    counts += POOLED * pooled / pooled.sum(axis=1, keepdims=True)
    shares = posterior.sum(axis=0) + 1 / c
    return counts / counts.sum(axis=2, keepdims=True), shares / shares.sum()


def _posterior(
    votes: Votes, confusion: Float64[np.ndarray, "a c j"], prior: Float64[np.ndarray, "*n c"]
) -> Float64[np.ndarray, "n c"]:
    """[2]"""
    of_votes = np.log(confusion)[votes.annotator, :, votes.label]
    n = votes.num_samples
    sums = np.stack([np.bincount(votes.sample, column, n) for column in of_votes.T], axis=1)
    return softmax(np.log(np.maximum(prior, 1e-300)) + sums, axis=1)


class Quality(NamedTuple):
    """Of each annotator: how many labels, the estimated share of right ones, and its 95 % interval."""

    labels: Int[np.ndarray, " a"]
    right: Float64[np.ndarray, " a"]
    low: Float64[np.ndarray, " a"]
    high: Float64[np.ndarray, " a"]


def quality(votes: Votes, posterior: Float64[np.ndarray, "n c"]) -> Quality:
    """How far each annotator is right, by the posterior of the true classes.

    The interval is Wilson's, of as many labels as have the variance of the estimate: that of drawing the labels, that of
    not knowing which of them are right, and that of the model, which takes people to err independently of each other.
    """
    a = votes.num_annotators
    chance = np.pad(posterior, ((0, 0), (0, 1)))[votes.sample, votes.label]
    labels = np.bincount(votes.annotator, minlength=a)
    number = np.maximum(labels, 1)
    right = np.bincount(votes.annotator, chance, a) / number
    unknown = np.bincount(votes.annotator, chance * (1 - chance), a) / number**2 + (MISFIT * (1 - right)) ** 2
    drawn = np.maximum(right * (1 - right), 1 / (4 * (number + Z**2))) / number
    size = number * drawn / (drawn + unknown)
    center = (right + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * np.sqrt(right * (1 - right) / size + Z**2 / (4 * size**2))
    return Quality(labels, right, np.maximum(center - half, 0), np.minimum(center + half, 1))
