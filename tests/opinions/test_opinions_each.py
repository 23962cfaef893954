"""Each part of the opinions against a naive form, another library, or rows by hand."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import average_precision_score

from noisyctl.errors import DataError
from noisyctl.opinions import (
    calibration,
    combination,
    counting,
    discriminant,
    duplicates,
    kernel_ridge,
    preparation,
    verdicts,
    votes,
)


def text(*values: str) -> np.ndarray:
    return np.array(values, np.dtypes.StringDType())


def blobs(n: int, d: int, classes: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centers = rng.standard_normal((classes, d))
    return (centers[labels] + spread * rng.standard_normal((n, d))).astype(np.float32), labels


def test_normalized_rows_have_signed_roots_mean_zero_and_unit_variance() -> None:
    rows = preparation.normalized(np.array([[4.0, -9.0], [4.0, 9.0]]))
    length = np.sqrt(13)
    raw = np.array([[2, -3], [2, 3]]) / length
    expected = raw - raw.mean(axis=0)
    np.testing.assert_allclose(rows, expected / np.sqrt((expected**2).mean()), rtol=1e-6)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "rows \\[1\\]"), (np.inf, "NaN or infinity")])
def test_features_that_are_not_finite_are_refused(value: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preparation.normalized(np.array([[1.0, 2.0], [value, 1.0]]))


def test_equal_features_are_refused() -> None:
    with pytest.raises(DataError, match="all 3 feature rows are equal"):
        preparation.normalized(np.ones((3, 4)))


def test_folds_keep_groups_whole_and_classes_spread() -> None:
    labels, groups = np.arange(1000) % 4, np.arange(1000)
    groups[::7] = 0
    fold = preparation.folds_of(labels, groups, np.random.default_rng(0))
    assert len(set(fold[groups == 0])) == 1
    alone = groups != 0
    counts = np.array([np.bincount(labels[alone & (fold == f)], minlength=4) for f in range(5)])
    assert counts.max() - counts.min() <= 2


def naive_ridge(
    phi: np.ndarray, y: np.ndarray, w: np.ndarray, groups: np.ndarray, penalty: float
) -> np.ndarray:
    """Fit without each sample's group, anew for each."""
    found = np.empty(y.shape)
    for i in range(len(y)):
        keep = groups != groups[i]
        weighted = phi[keep] * w[keep, None]
        system = weighted.T @ phi[keep] + penalty * w.sum() * np.eye(phi.shape[1])
        found[i] = phi[i] @ np.linalg.solve(system, weighted.T @ y[keep])
    return found


@pytest.mark.parametrize("penalties", [(0.01,), (0.003, 0.1)])
def test_left_out_scores_of_kernel_ridge_equal_those_of_fits_without_the_group(
    penalties: tuple[float, ...],
) -> None:
    rng = np.random.default_rng(0)
    phi, labels = blobs(60, 8, 3)
    phi /= 4
    groups = np.arange(60)
    groups[:2] = 0  # a pair
    groups[10:13] = 10  # two groups of three
    groups[20:23] = 20
    groups[30:45] = 30  # more samples than features
    weights, y = rng.uniform(0.1, 1, 60), np.eye(3)[labels]
    found = kernel_ridge.left_out_scores(phi, y, weights, groups, penalties)
    for scores, penalty in zip(found, penalties, strict=True):
        expected = naive_ridge(phi.astype(np.float64), y, weights, groups, penalty)
        np.testing.assert_allclose(scores, expected, atol=2e-4)


def test_products_of_kernel_features_are_the_gaussian_kernel() -> None:
    rows, _ = blobs(40, 6, 2)
    phi = kernel_ridge.kernel_features(rows, np.random.default_rng(0)).astype(np.float64)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(phi @ phi.T, np.exp(-squares / 12), atol=1e-4)


@pytest.mark.parametrize("d", [5, 80])  # fewer and more features than samples
@pytest.mark.parametrize("shrinkages", [(0.3,), (0.1, 0.6)])
def test_discriminant_scores_are_those_of_scikit_learn(d: int, shrinkages: tuple[float, ...]) -> None:
    rows, labels = blobs(60, d, 3, spread=4.0)
    folds = preparation.folds_of(labels, np.arange(60), np.random.default_rng(0))
    found = discriminant.left_out_scores(rows, labels, 3, np.ones(60), folds, shrinkages)
    for scores, shrinkage in zip(found, shrinkages, strict=True):
        for fold in range(5):
            inside = folds == fold
            priors = (np.bincount(labels[~inside]) + 0.5) / ((~inside).sum() + 1.5)
            model = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage, priors=priors)
            # scikit-learn weighs the classes' covariances by the priors, which are the shares but for half a sample
            model.fit(rows[~inside].astype(np.float64), labels[~inside])
            expected = model.predict_log_proba(rows[inside])
            np.testing.assert_allclose(log_softmax(scores[inside], axis=1), expected, atol=0.02, rtol=0.02)


def test_a_sample_of_weight_two_counts_as_two_in_the_discriminant() -> None:
    rows, labels = blobs(30, 4, 2)
    folds = np.arange(30) % 3
    weights = np.ones(30)
    weights[3] = 2.0
    twice = np.r_[np.arange(30), 3]
    one = discriminant.left_out_scores(rows, labels, 2, weights, folds, (0.3,))[0]
    two = discriminant.left_out_scores(rows[twice], labels[twice], 2, np.ones(31), folds[twice], (0.3,))[0]
    np.testing.assert_allclose(one, two[:30], atol=1e-3)


def test_a_vote_counts_the_nearest_that_are_allowed() -> None:
    indices, similarity = np.array([[1, 2, 3]]), np.array([[0.9, 0.8, 0.8]])
    labels = np.array([0, 0, 1, 1])
    allowed = np.array([[False, True, True]])  # the nearest is of the same group
    found = votes.votes(indices, similarity, allowed, labels, 2, np.ones(4), 1)
    np.testing.assert_allclose(found, [[(0 + 1) / 3, (1 + 1) / 3]])  # k = 1: one vote for class 1, two spread
    none = votes.votes(indices, similarity, allowed & False, labels, 2, np.ones(4), 1)
    np.testing.assert_allclose(none, [[0.5, 0.5]])
    both = votes.votes(
        indices, similarity, np.ones((1, 3), bool), labels, 2, np.array([1.0, 1.0, 1.0, 0.0]), 3
    )
    share = np.exp(-0.1 / 0.05)  # sample 2; sample 3 has no weight
    np.testing.assert_allclose(both[0, 1], (3 * share / (1 + share) + 1) / 5)


def test_the_temperature_is_the_likeliest_and_does_not_depend_on_the_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits, axis=1)])
    found, likelihood = calibration.tempered(100 * logits, labels)
    np.testing.assert_allclose(found, log_softmax(logits, axis=1), atol=0.25)
    again, same = calibration.tempered(logits, labels)
    np.testing.assert_allclose(found, again, atol=0.01)
    assert likelihood == pytest.approx(same, abs=1e-4)


def test_the_gradient_of_the_combination_is_that_of_its_loss() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    stacked, labels = log_softmax(rng.standard_normal((2, 20, 3)), axis=2), rng.integers(0, 3, 20)
    given = sparse.csr_array((np.ones(20), labels, np.arange(21)), shape=(20, 3))
    theta = rng.standard_normal(2 + 3 + 9)
    counts = combination.Prior(30.0, 0.8).counts(3)

    def loss(x: np.ndarray) -> float:
        return combination.loss_and_gradient(x, stacked, labels, given, counts)[0]

    def gradient(x: np.ndarray) -> np.ndarray:
        return combination.loss_and_gradient(x, stacked, labels, given, counts)[1]

    assert check_grad(loss, gradient, theta) < 1e-5


def test_few_labels_for_each_value_of_the_matrix_are_helped_by_a_prior() -> None:
    """40 classes with 40 labels each, 30 % of which are those of the next class."""
    rng, c = np.random.default_rng(0), 40
    true = np.repeat(np.arange(c), c)
    given = np.where(rng.random(len(true)) < 0.3, (true + 1) % c, true)
    opinions = [log_softmax(2 * np.eye(c)[true] + rng.standard_normal((len(true), c)), axis=1)]
    prior = combination.chosen_prior(opinions, given, np.random.default_rng(1))
    assert prior.diagonal is not None
    wrong = given != true
    ranks = []
    for each in (combination.Prior(), prior):
        joint = combination.combined(opinions, given, each).joint(given)
        ranks.append(average_precision_score(wrong, 1 - joint[np.arange(len(given)), given]))
    assert ranks[1] > ranks[0] + 0.005


def test_a_prior_is_not_looked_for_where_labels_are_many() -> None:
    rng, c = np.random.default_rng(0), 3
    labels = rng.integers(0, c, combination.FEW * c * c)
    opinions = [log_softmax(rng.standard_normal((len(labels), c)), axis=1)]
    assert combination.chosen_prior(opinions, labels, rng) == combination.Prior()
    np.testing.assert_allclose(combination.Prior().counts(c), 1 / c)
    found = combination.Prior(10.0, 0.8).counts(c)
    np.testing.assert_allclose(found.sum(axis=1), 10.0)
    np.testing.assert_allclose(np.diag(found), 8.0)
    assert combination.Prior(10.0, 0.8).for_part(0.5) == (5.0, 0.8)


def test_the_combination_finds_the_noise_matrix() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 6000)
    transition = np.array([[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]])
    given = np.array([rng.choice(3, p=transition[z]) for z in true])
    scores = 4 * np.eye(3)[true] + rng.standard_normal((6000, 3))  # knows the true class, up to noise
    found = combination.combined([log_softmax(scores, axis=1)], given)
    np.testing.assert_allclose(found.transition, transition, atol=0.04)
    joint = found.joint(given)
    np.testing.assert_allclose(joint.sum(axis=1), 1)
    clean = joint[np.arange(6000), given]
    assert clean[given != true].mean() < 0.15 < 0.9 < clean[given == true].mean()


def test_copies_are_equal_files_and_nearly_equal_features_and_copies_of_copies() -> None:
    name = "0123456789abcdef"
    contents = duplicates.same_bytes(text(name, f"{name}-2", "0", f"{name}-x"))
    assert contents[0] == contents[1] and len(set(contents.tolist())) == 3
    indices, similarity = np.array([[1], [2], [1], [0]]), np.array([[0.0], [0.95], [0.95], [0.5]])
    copies = duplicates.copies_of(indices, similarity, contents, 0.9)
    assert copies[0] == copies[1] == copies[2] != copies[3]
    labels = np.array([0, 1, 0, 0])
    assert duplicates.conflicting(copies, labels).tolist() == [True, True, True, False]
    kept = duplicates.originals(copies, np.array([0.2, 0.1, 0.9, 0.5]))
    assert kept.tolist() == [2, 2, -1, -1]


def test_verdicts_by_hand() -> None:
    rows = {  # clean, suggestion, foreign, conflicting, copy
        "keep": (0.9, 0.9, False, False, False),
        "look": (0.6, 0.9, False, False, False),  # neither sure to be right nor likely wrong
        "relabel": (0.1, 0.9, False, False, False),
        "drop": (0.8, 0.3, True, False, False),
        "duplicate": (0.9, 0.9, False, False, True),
    }
    columns = [np.array(values) for values in zip(*rows.values(), strict=True)]
    assert verdicts.verdicts(*columns).tolist() == list(rows)
    unsure = verdicts.verdicts(
        np.array([0.1, 0.9]), np.array([0.5, 0.9]), *np.array([[0, 0], [0, 1], [0, 1]], bool)
    )
    assert unsure.tolist() == ["look", "look"]  # a weak suggestion; a copy whose label contradicts another's


def test_ranks_have_no_ties() -> None:
    assert verdicts.ranks(np.array([0.5, 0.1, 0.5, 0.5]), np.array([0.3, 0.9, 0.2, 0.3])).tolist() == [
        3,
        1,
        2,
        4,
    ]


def test_shifted_probabilities_sum_to_the_number() -> None:
    logits = np.random.default_rng(0).standard_normal(100)
    shifted = counting.shifted_to(logits, 17.0)
    assert (1 - shifted).sum() == pytest.approx(17)
    assert (np.argsort(shifted) == np.argsort(logits)).all()
    assert (1 - counting.shifted_to(logits, 0.0)).sum() < 0.01


def test_the_count_is_lowered_by_half_of_what_it_falls_with_twice_the_samples() -> None:
    labels = np.arange(4000) % 2
    clean = np.full(4000, 0.9)
    first = counting.first_count(
        clean, lambda part: np.full(len(part), 0.8), np.arange(4000), labels, np.random.default_rng(0)
    )
    assert first == (pytest.approx(400 - 0.5 * (800 - 400)), pytest.approx(200))


def test_both_passes_count_by_the_number_of_samples() -> None:
    logits = np.full(5000, np.log(9.0))  # clean with 0.9
    found = counting.number_wrong(300.0, 100.0, logits)
    assert found.value == pytest.approx((300 + 500) / 2)
    error = np.sqrt(5000 * 0.09 + 50**2 + 40**2)
    assert (found.low, found.high) == (pytest.approx(400 - 1.96 * error), pytest.approx(400 + 1.96 * error))
    assert counting.number_wrong(0.0, 0.0, np.full(10, 40.0)).low == 0
