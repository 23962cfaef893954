"""Several people's labels as one: majority and its ties, Dawid and Skene's EM against loops, and intervals that hold."""

import numpy as np
import pytest

from noisyctl.parts import consensus
from noisyctl.parts.consensus import Votes


def votes_of(rows: list[tuple[int, int, int]], samples: int, annotators: int, classes: int) -> Votes:
    sample, annotator, label = np.array(rows).T
    return Votes(sample, annotator, label, samples, annotators, classes)


def simulated(
    rng: np.random.Generator, accuracy: np.ndarray, samples: int = 400, classes: int = 4, each: int = 3
) -> tuple[np.ndarray, Votes]:
    true, rows = rng.integers(0, classes, samples), []
    for i in range(samples):
        for a in rng.choice(len(accuracy), each, replace=False):
            right = rng.random() < accuracy[a]
            rows.append(
                (i, int(a), int(true[i] if right else (true[i] + rng.integers(1, classes)) % classes))
            )
    return true, votes_of(rows, samples, len(accuracy), classes)


def naive(votes: Votes, steps: int) -> np.ndarray:
    """The paper's equations in loops, with the pseudo-counts of the docstring."""
    n, a, c = votes.num_samples, votes.num_annotators, votes.num_classes
    rows = list(zip(votes.sample.tolist(), votes.annotator.tolist(), votes.label.tolist(), strict=True))
    posterior = [[0.0] * c for _ in range(n)]
    for i in range(n):
        own = [label for sample, _, label in rows if sample == i]
        for z in range(c):
            posterior[i][z] = own.count(z) / len(own)
    for _ in range(steps):
        shares = [sum(posterior[i][z] for i in range(n)) + 1 / c for z in range(c)]
        shares = [share / sum(shares) for share in shares]
        counts = np.zeros((a, c, c + 1))
        for sample, annotator, label in rows:
            for z in range(c):
                counts[annotator, z, label] += posterior[sample][z]
        pooled = counts.sum(axis=0) + 1 / (c + 1)
        for annotator in range(a):
            for z in range(c):
                counts[annotator, z] += consensus.POOLED * pooled[z] / pooled[z].sum()
                counts[annotator, z] /= counts[annotator, z].sum()
        for i in range(n):
            weights = list(shares)
            for sample, annotator, label in rows:
                if sample == i:
                    weights = [w * counts[annotator, z, label] for z, w in enumerate(weights)]
            posterior[i] = [w / sum(weights) for w in weights]
    return np.array(posterior)


@pytest.mark.parametrize("steps", [1, 3])
def test_em_is_the_papers(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, votes = simulated(np.random.default_rng(0), np.array([0.9, 0.5, 0.7, 0.8]), samples=20, classes=3)
    monkeypatch.setattr(consensus, "ITERATIONS", steps)
    np.testing.assert_allclose(consensus.dawid_skene(votes).posterior, naive(votes, steps), atol=1e-12)


def test_a_tie_goes_to_the_class_with_more_votes_then_to_the_first() -> None:
    rows = [(0, 0, 2), (0, 1, 1), (1, 0, 2), (1, 1, 2), (2, 0, 1), (2, 1, 0), (3, 0, 0), (3, 1, 0)]
    labels, tied = consensus.majority(votes_of(rows, 4, 2, 3))
    assert labels.tolist() == [2, 2, 0, 0]  # 2 and 0 have three votes each, 1 has two
    assert tied.tolist() == [True, False, True, False]
    even = votes_of([(0, 0, 1), (0, 1, 2)], 1, 2, 3)
    assert consensus.majority(even)[0].tolist() == [1]
    assert consensus.dawid_skene(even).labels.tolist() == [1]


def test_the_order_of_the_votes_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    _, votes = simulated(rng, np.array([0.9, 0.6, 0.6]))
    drawn = rng.permutation(len(votes.label))
    other = votes._replace(
        sample=votes.sample[drawn], annotator=votes.annotator[drawn], label=votes.label[drawn]
    )
    np.testing.assert_array_equal(consensus.dawid_skene(votes).labels, consensus.dawid_skene(other).labels)
    np.testing.assert_array_equal(consensus.majority(votes)[0], consensus.majority(other)[0])


def test_a_good_annotator_outweighs_two_bad_ones() -> None:
    rng = np.random.default_rng(2)
    true, votes = simulated(rng, np.array([0.97, 0.45, 0.45]))
    found = consensus.dawid_skene(votes).labels
    by_majority, _ = consensus.majority(votes)
    assert (found == true).mean() > (by_majority == true).mean() + 0.04


def test_an_annotator_with_one_label_is_taken_for_an_average_one() -> None:
    rng = np.random.default_rng(3)
    _, votes = simulated(rng, np.array([0.9, 0.9, 0.9]))
    more = votes._replace(
        sample=np.append(votes.sample, 0),
        annotator=np.append(votes.annotator, 3),
        label=np.append(votes.label, (votes.label[votes.sample == 0][0] + 1) % 4),
        num_annotators=4,
    )
    fit = consensus.dawid_skene(more)
    np.testing.assert_allclose(fit.confusion[3].sum(axis=1), 1)
    np.testing.assert_allclose(fit.confusion[3], fit.confusion[:3].mean(axis=0), atol=0.2)
    told = consensus.quality(more, fit.posterior)
    assert told.labels.tolist() == [400, 400, 400, 1]
    assert told.high[3] - told.low[3] > 0.5 > told.high[0] - told.low[0]


def test_a_label_that_is_no_class_counts_as_wrong() -> None:
    rows = [(i, a, i % 2) for i in range(8) for a in range(2)] + [(i, 2, 2) for i in range(8)]
    votes = votes_of(rows, 8, 3, 2)
    fit = consensus.dawid_skene(votes)
    assert fit.labels.tolist() == [0, 1] * 4
    assert consensus.majority(votes)[0].tolist() == [0, 1] * 4
    told = consensus.quality(votes, fit.posterior)
    assert told.right[2] == 0
    assert (told.right[:2] > 0.99).all()


def test_what_is_known_of_a_sample_decides_between_its_votes() -> None:
    rows = [(i, a, i % 2) for i in range(20) for a in range(2)] + [(20, 0, 0), (20, 1, 1)]
    votes = votes_of(rows, 21, 2, 2)
    for label in (0, 1):
        known = np.full((21, 2), 0.5)
        known[20] = [0.1, 0.1]
        known[20, label] = 0.9
        assert consensus.dawid_skene(votes, known=known).labels[20] == label


def test_intervals_of_quality_hold_where_people_err_independently() -> None:
    inside = []
    for seed in range(25):
        rng = np.random.default_rng([4, seed])
        accuracy = rng.uniform(0.5, 0.95, 8)
        _, votes = simulated(rng, accuracy)
        told = consensus.quality(votes, consensus.dawid_skene(votes).posterior)
        inside += ((told.low <= accuracy) & (accuracy <= told.high)).tolist()
    assert np.mean(inside) > 0.91  # 200 intervals of nominal 0.95: 0.91 is 2.6 standard errors below
