"""The one function that judges labels, and what it finds.

Steps, with the names of the modules that do them:

  [1] preparation: features on one scale; duplicates: copies, which with the user's groups are kept together
  [2] kernel_ridge, discriminant, votes: three opinions on every label, each without the sample and its group, with the
      setting under which the given labels are likeliest, and tempered by `calibration`
  [3] combination: one posterior from the three and an estimated noise matrix
  [4] counting: how many labels are wrong by the first pass, from how the count falls between half of the samples and all
  [5] a second pass of [2] and [3] in which samples weigh as their labels are probably right; where several people labeled,
      their votes and the matrix of each of them take the place of the given label and the noise matrix
  [6] the logit of the clean probability: 0.7 times that of the posterior and 0.3 times that of the mean opinion, so shifted
      that the number of wrong labels is that of [4] and of the second pass together
  [7] verdicts: what to do with each label, and in which order to look
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped
from scipy.special import logit, softmax

from noisyctl.errors import DataError
from noisyctl.opinions import (
    calibration,
    counting,
    discriminant,
    duplicates,
    kernel_ridge,
    preparation,
    votes,
)
from noisyctl.opinions import verdicts as decide
from noisyctl.opinions.combination import Prior, chosen_prior, combined
from noisyctl.opinions.counting import Estimate
from noisyctl.parts import neighbors
from noisyctl.parts.consensus import Quality, Votes, dawid_skene, quality

OPINIONS = ("kernel_ridge", "lda", "knn")
ANNOTATORS = "annotators"  # the opinion of those who labeled, where there were several
POSTERIOR = 0.7  # share of the posterior's logit in the final one; the mean opinion has the rest
LEAST_WEIGHT = 0.02  # of a sample in the second pass
MINED = 100  # neighbors of each sample
SHOWN = 5  # neighbors that the judgement names
FEWEST = 10  # samples that can be judged
TINY = 1e-12

Progress = Callable[[int, int], None]  # hundredths done, of 100


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is thought of n given labels of c classes. Positions, labels and classes count from 0.

    `clean_probability` is that of the given label to be right; `rank` 1 is the most suspicious label. `suggested` is the
    class to give instead, the given one where the verdict is keep or duplicate; `runner_up` is the likeliest other class
    of every sample, and `runner_up_probability` how likely it is the true one if the given one is wrong. `opinions` are
    the probabilities that each opinion gives the given label; with votes there is one more, that of the votes alone.
    `neighbors` are the positions of the nearest samples of other groups, by decreasing similarity, -1 where there are no
    more. `duplicate_of` is the position of the copy to keep, -1 where there is none. `group` numbers the samples that
    were kept together. `number_wrong` is an estimate with a 95 % interval; `wrong_by_class` and `confusion` [given,
    true] sum to it. `transition` is the estimated noise matrix [true, given]; the row of a class without a sample is
    that of no noise. `settings` are the chosen ones. `annotators` tells how far each of those who voted is right, by
    their votes and the opinions together.
    """

    ids: Shaped[np.ndarray, " n"]
    paths: Shaped[np.ndarray, " n"]
    class_names: tuple[str, ...]
    given: Int[np.ndarray, " n"]
    suggested: Int[np.ndarray, " n"]
    runner_up: Int[np.ndarray, " n"]
    runner_up_probability: Float64[np.ndarray, " n"]
    clean_probability: Float64[np.ndarray, " n"]
    verdict: Shaped[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    opinions: Mapping[str, Float64[np.ndarray, " n"]]
    neighbors: Int[np.ndarray, "n k"]
    duplicate_of: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    number_wrong: Estimate
    wrong_by_class: Float64[np.ndarray, " c"]
    confusion: Float64[np.ndarray, "c c"]
    transition: Float64[np.ndarray, "c c"]
    settings: Mapping[str, float] = field(default_factory=dict)
    annotators: Quality | None = None

    def most_confused(self, number: int = 5) -> list[tuple[str, str, float]]:
        """Pairs of classes (given, true) by the expected number of such labels, those of at least one half."""
        order = np.argsort(-self.confusion, axis=None, kind="stable")[:number]
        pairs = zip(*np.unravel_index(order, self.confusion.shape), strict=True)
        named = [(self.class_names[g], self.class_names[z], float(self.confusion[g, z])) for g, z in pairs]
        return [pair for pair in named if pair[2] >= 0.5]


def judge(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " _"],
    class_names: tuple[str, ...],
    ids: Shaped[np.ndarray, " _"],
    paths: Shaped[np.ndarray, " _"],
    groups: Shaped[np.ndarray, " _"] | None,
    rng: np.random.Generator,
    progress: Progress = lambda done, total: None,
    people: Votes | None = None,
    alike: float = duplicates.NEARLY_EQUAL,
) -> Judgement:
    """Judge n labels (positions in `class_names`) by d features of each sample, such as those of a pretrained encoder.

    `ids` name the samples; those of equal files are recognized (`duplicates.same_bytes`). `groups` hold equal values for
    samples that may not vouch for each other: of one product, person or video. `people` are several people's labels of these
    samples, of which `labels` are the consensus. Samples whose features have a cosine of at least `alike` count as copies:
    the default is for photos as the default encoder sees them. Everything random comes from `rng`; the same arguments give
    the same bytes with the same number of threads. Raises DataError where there are fewer than ten samples or two classes,
    where features are not finite, or all equal.
    """
    _require(features, labels, class_names, ids, paths, groups)
    used, compact = np.unique(labels, return_inverse=True)
    progress(0, 100)
    data = _prepared(features, compact, len(used), ids, groups, rng, progress, alike)
    first, settings = _opinions(data, np.ones(len(labels)))
    progress(60, 100)
    prior = chosen_prior(list(first.values()), compact, rng)
    fit = combined(list(first.values()), compact, prior)
    clean = _of_given(fit.joint(compact), compact)
    count = counting.first_count(
        clean, lambda some: _clean_in(data, some, settings, prior), data.together, compact, rng
    )
    progress(80, 100)
    second, _ = _opinions(data, np.maximum(clean, LEAST_WEIGHT), settings)
    fit = combined(list(second.values()), compact, prior)
    progress(95, 100)
    joint = fit.joint(compact)
    if people is not None:
        people = _among(people, used)
        joint = dawid_skene(people, known=fit.probabilities).posterior
    found = _concluded(data, second, joint, count, used, len(class_names))
    if people is not None:
        found["opinions"][ANNOTATORS] = _of_given(dawid_skene(people).posterior, compact)
        found["annotators"] = quality(people, joint)
    transition = np.eye(len(class_names))
    transition[np.ix_(used, used)] = fit.transition
    progress(100, 100)
    return Judgement(
        ids=ids,
        paths=paths,
        class_names=class_names,
        given=labels,
        neighbors=data.nearest(SHOWN),
        group=data.together,
        transition=transition,
        settings=settings,
        **found,
    )


class _Data(NamedTuple):
    """What the opinions of both passes share; labels are positions among the classes in use."""

    rows: Float32[np.ndarray, "n d"]
    kernel: Float32[np.ndarray, "n m"]
    labels: Int[np.ndarray, " n"]
    num_classes: int
    indices: Int[np.ndarray, "n k"]
    similarity: Float[np.ndarray, "n k"]
    allowed: Bool[np.ndarray, "n k"]
    copies: Int[np.ndarray, " n"]
    together: Int[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]

    def part(self, inside: Int[np.ndarray, " p"]) -> "_Data":
        """The samples `inside`, with those of their neighbors that lie inside."""
        place = np.full(len(self.labels), -1)
        place[inside] = np.arange(len(inside))
        indices = place[self.indices[inside]]
        names = ("rows", "kernel", "labels", "similarity", "copies", "together", "folds")
        return self._replace(
            indices=np.maximum(indices, 0),
            allowed=self.allowed[inside] & (indices >= 0),
            **{name: getattr(self, name)[inside] for name in names},
        )

    def nearest(self, number: int) -> Int[np.ndarray, "n k"]:
        """The first allowed neighbors of every sample, -1 where there are fewer."""
        order = np.argsort(~self.allowed, axis=1, kind="stable")[:, :number]
        found = np.take_along_axis(self.indices, order, axis=1)
        return np.where(np.take_along_axis(self.allowed, order, axis=1), found, -1)


def _require(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    ids: np.ndarray,
    paths: np.ndarray,
    groups: np.ndarray | None,
) -> None:
    n = len(labels)
    lengths = {"features": len(features), "ids": len(ids), "paths": len(paths)}
    lengths |= {} if groups is None else {"groups": len(groups)}
    for name, length in lengths.items():
        if length != n:
            raise DataError(f"{length} {name} for {n} labels; give one of each for every sample")
    if n < FEWEST:
        raise DataError(
            f"{n} labeled samples are too few to judge labels by each other; give {FEWEST} or more"
        )
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(
            f"labels range from {labels.min()} to {labels.max()} for {len(class_names)} class names"
        )
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"all {n} labels are {class_names[labels[0]]!r}; a wrong label shows only where there are two classes or more"
        )


def _prepared(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    ids: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.Generator,
    progress: Progress,
    alike: float,
) -> _Data:
    """[1]"""
    n = len(labels)
    rows = preparation.normalized(features)
    k = min(MINED, n - 1)
    mined = neighbors.mine(rows, k, report=lambda done, total: progress(5 + 30 * done // total, 100))
    indices, similarity = mined.indices.numpy().astype(np.int64), mined.similarity.numpy()
    copies = duplicates.copies_of(indices, similarity, duplicates.same_bytes(ids), alike)
    own = [] if groups is None else [np.unique(groups, return_inverse=True)[1].reshape(n)]
    together = duplicates.joined(n, [], [copies, *own])
    kernel = kernel_ridge.kernel_features(rows, rng)
    progress(40, 100)
    return _Data(
        rows=rows,
        kernel=kernel,
        labels=labels,
        num_classes=num_classes,
        indices=indices,
        similarity=similarity,
        allowed=together[indices] != together[:, None],
        copies=copies,
        together=together,
        folds=preparation.folds_of(labels, together, rng),
    )


def _opinions(
    data: _Data, weights: Float[np.ndarray, " n"], settings: Mapping[str, float] | None = None
) -> tuple[dict[str, Float64[np.ndarray, "n c"]], dict[str, float]]:
    """[2] The log-probabilities of each opinion, under the likeliest of its settings or under those given."""
    labels, c = data.labels, data.num_classes
    most = data.indices.shape[1]
    grids: dict[str, tuple[float, ...]] = {
        "kernel_ridge": kernel_ridge.PENALTIES,
        "lda": discriminant.SHRINKAGES,
        "knn": tuple(sorted({min(k, most) for k in votes.NEIGHBORS})),
    }
    if settings is not None:
        grids = {name: (settings[name],) for name in grids}
    targets = np.eye(c)[labels]
    scores: dict[str, Sequence[Float64[np.ndarray, "n c"]]] = {
        "kernel_ridge": list(
            kernel_ridge.left_out_scores(data.kernel, targets, weights, data.together, grids["kernel_ridge"])
        ),
        "lda": list(discriminant.left_out_scores(data.rows, labels, c, weights, data.folds, grids["lda"])),
        "knn": [
            np.log(votes.votes(data.indices, data.similarity, data.allowed, labels, c, weights, int(k)))
            for k in grids["knn"]
        ],
    }
    found, chosen = {}, {}
    for name in OPINIONS:
        tried = [calibration.tempered(each, labels) for each in scores[name]]
        best = int(np.argmax([likelihood for _, likelihood in tried]))
        found[name], chosen[name] = tried[best][0], grids[name][best]
    return found, chosen


def _among(people: Votes, used: Int[np.ndarray, " u"]) -> Votes:
    """The same votes with the positions of classes among those that are the label of some sample."""
    place = np.full(people.num_classes + 1, len(used))
    place[used] = np.arange(len(used))
    return people._replace(label=place[people.label], num_classes=len(used))


def _clean_in(
    data: _Data, inside: Int[np.ndarray, " p"], settings: Mapping[str, float], prior: Prior
) -> Float64[np.ndarray, " p"]:
    """The clean probabilities of the first pass, had there been only these samples."""
    part = data.part(inside)
    opinions, _ = _opinions(part, np.ones(len(inside)), settings)
    fit = combined(list(opinions.values()), part.labels, prior.for_part(len(inside) / len(data.labels)))
    return _of_given(fit.joint(part.labels), part.labels)


def _of_given(
    probabilities: Float64[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    return probabilities[np.arange(len(labels)), labels]


def _concluded(
    data: _Data,
    opinions: Mapping[str, Float64[np.ndarray, "n c"]],
    joint: Float64[np.ndarray, "n c"],
    count: tuple[float, float],
    used: Int[np.ndarray, " u"],
    num_classes: int,
) -> dict[str, Any]:
    """[6] and [7]: the fields of a Judgement that follow from the second pass, for all classes."""
    labels, n = data.labels, len(data.labels)
    mean = softmax(np.mean(list(opinions.values()), axis=0), axis=1)
    blended = POSTERIOR * _logit(_of_given(joint, labels)) + (1 - POSTERIOR) * _logit(_of_given(mean, labels))
    estimate = counting.number_wrong(*count, blended)
    clean = counting.shifted_to(blended, estimate.value)
    others = joint.copy()
    others[np.arange(n), labels] = 0
    others /= np.maximum(others.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    runner_up = others.argmax(axis=1)
    runner_up_probability = others.max(axis=1)
    kept = duplicates.originals(data.copies, clean)
    verdict = decide.verdicts(
        clean,
        runner_up_probability,
        decide.remote(data.similarity[:, :SHOWN]) & (mean.max(axis=1) < decide.SURE),
        duplicates.conflicting(data.copies, labels),
        kept >= 0,
    )
    confusion = np.zeros((num_classes, num_classes))
    weights = others * (1 - clean)[:, None]
    confusion[np.ix_(used, used)] = np.stack([np.bincount(labels, w, len(used)) for w in weights.T], axis=1)
    keeps = (verdict == "keep") | (verdict == "duplicate")
    return {
        "suggested": np.where(keeps, used[labels], used[runner_up]),
        "runner_up": used[runner_up],
        "runner_up_probability": runner_up_probability,
        "clean_probability": clean,
        "verdict": verdict,
        "rank": decide.ranks(blended, _of_given(mean, labels)),
        "opinions": {name: np.exp(_of_given(each, labels)) for name, each in opinions.items()},
        "duplicate_of": kept,
        "number_wrong": estimate,
        "wrong_by_class": confusion.sum(axis=1),
        "confusion": confusion,
    }


def _logit(probability: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    return logit(np.clip(probability, TINY, 1 - TINY))
