"""The judgement as a whole, on scikit-learn's digits and on points."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from noisyctl.errors import DataError
from noisyctl.opinions import Judgement, judge
from noisyctl.opinions.verdicts import VERDICTS


def ids_of(n: int) -> np.ndarray:
    return np.array([f"{i:016x}" for i in range(n)], np.dtypes.StringDType())


def judged(features: np.ndarray, labels: np.ndarray, seed: int = 0, **other: Any) -> Judgement:
    ids = other.pop("ids", ids_of(len(labels)))
    names = other.pop("class_names", tuple(f"class {c}" for c in range(10)))
    groups = other.pop("groups", None)
    return judge(features, labels, names, ids, ids, groups, np.random.default_rng(seed), **other)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:600].astype(np.float32), labels[:600]


def with_noise(labels: np.ndarray, rate: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(labels)) < rate, (labels + rng.integers(1, 10, len(labels))) % 10, labels)


@pytest.fixture(scope="module")
def noisy(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, Judgement]:
    given = with_noise(digits[1], 0.15)
    return given, judged(digits[0], given)


def test_wrong_digits_come_first_with_the_right_suggestion(
    digits: tuple[np.ndarray, np.ndarray], noisy: tuple[np.ndarray, Judgement]
) -> None:
    given, found = noisy
    wrong = given != digits[1]
    assert average_precision_score(wrong, -found.clean_probability) > 0.97
    assert (found.runner_up == digits[1])[wrong].mean() > 0.9
    assert found.number_wrong.low <= wrong.sum() <= found.number_wrong.high
    assert found.number_wrong.value == pytest.approx(wrong.sum(), rel=0.15)


def test_the_numbers_agree_with_each_other(noisy: tuple[np.ndarray, Judgement]) -> None:
    given, found = noisy
    assert sorted(found.rank.tolist()) == list(range(1, 601))
    assert (np.diff(found.clean_probability[np.argsort(found.rank)]) >= 0).all()
    assert (1 - found.clean_probability).sum() == pytest.approx(found.number_wrong.value, rel=1e-6)
    assert found.wrong_by_class.sum() == pytest.approx(found.number_wrong.value, rel=1e-6)
    np.testing.assert_allclose(found.confusion.sum(axis=1), found.wrong_by_class)
    np.testing.assert_allclose(np.diag(found.confusion), 0)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1)
    assert set(found.verdict.tolist()) <= set(VERDICTS)
    keeps = (found.verdict == "keep") | (found.verdict == "duplicate")
    assert (found.suggested == given)[keeps].all() and (found.suggested != given)[~keeps].all()
    assert (found.neighbors != np.arange(600)[:, None]).all()


def test_the_same_arguments_give_the_same_bytes_whatever_global_generators_do(
    digits: tuple[np.ndarray, np.ndarray], noisy: tuple[np.ndarray, Judgement]
) -> None:
    given, first = noisy
    np.random.seed(13)  # noqa: NPY002
    again = judged(digits[0], given)
    for name in ("clean_probability", "rank", "suggested", "transition", "confusion", "group"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes(), name
    assert first.number_wrong == again.number_wrong


def test_copies_of_a_wrong_label_do_not_vouch_for_each_other(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    given = labels.copy()
    given[0] = (labels[0] + 1) % 10
    index = np.r_[np.arange(600), np.zeros(9, np.int64)]  # nine more copies of the wrong one
    groups = np.array([f"{i:03d}" for i in index], np.dtypes.StringDType())
    jitter = 0.3 * np.random.default_rng(0).standard_normal((609, 64)).clip(0)
    features = (pixels[index] + jitter).astype(np.float32)
    together = judged(features, given[index], groups=groups)
    assert together.clean_probability[0] < 0.1
    assert len(set(together.group[index == 0].tolist())) == 1
    apart = judged(features, given[index], groups=np.arange(609))
    if len(set(apart.group[index == 0].tolist())) > 1:  # not recognized as copies: they vouch for each other
        assert apart.clean_probability[0] > together.clean_probability[0]


def test_equal_files_are_duplicates_and_conflicting_ones_are_looked_at(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    pixels, labels = digits
    index = np.r_[np.arange(300), 0, 1]
    ids = ids_of(302)
    ids[300], ids[301] = f"{ids[0]}-2", f"{ids[1]}-2"
    given = labels[index].copy()
    given[301] = (given[301] + 1) % 10
    found = judged(pixels[index], given, ids=ids)
    pair = found.verdict[[0, 300]].tolist()
    assert sorted(pair) == ["duplicate", "keep"]
    copy = (0, 300)[pair.index("duplicate")]
    assert found.duplicate_of[copy] == 300 - copy
    assert found.verdict[1] != "keep" and found.verdict[301] != "keep"
    assert found.duplicate_of[301] == 1  # kept is the one whose label is probably right
    assert found.rank[301] < found.rank[1]


def test_what_is_like_no_class_is_dropped(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    foreign = np.zeros((1, 64), np.float32)
    foreign[0, ::8] = 16.0  # a stripe at the margin, where no digit has ink
    found = judged(np.r_[pixels[:400], foreign], np.r_[labels[:400], 3])
    assert found.verdict[400] == "drop"
    assert (found.verdict == "drop").sum() == 1


def test_classes_without_a_sample_change_nothing(digits: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = digits
    few = labels < 3
    names = ("a", "b", "c")
    plain = judged(pixels[few], labels[few], class_names=names)
    spread = judged(pixels[few], labels[few] * 2, class_names=("a", "-", "b", "-", "c"))
    np.testing.assert_array_equal(plain.clean_probability, spread.clean_probability)
    np.testing.assert_array_equal(plain.suggested * 2, spread.suggested)
    assert spread.transition.shape == (5, 5) and spread.wrong_by_class[1] == 0


def test_progress_ends_at_all(digits: tuple[np.ndarray, np.ndarray]) -> None:
    seen: list[tuple[int, int]] = []
    judged(digits[0][:100], digits[1][:100], progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (100, 100)


def test_a_class_of_one_sample_is_judged() -> None:
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(15, np.int64), np.ones(15, np.int64), 2]
    found = judged(rng.standard_normal((31, 8)), labels, class_names=("a", "b", "c"))
    assert np.isfinite(found.clean_probability).all()


@pytest.mark.parametrize(
    ("n", "labels", "message"),
    [
        (5, [0, 1, 0, 1, 0], "5 labeled samples are too few"),
        (12, [1] * 12, "all 12 labels are 'class 1'"),
        (12, [0, 10] * 6, "labels range from 0 to 10 for 10 class names"),
        (11, [0, 1] * 6, "11 features for 12 labels"),
    ],
)
def test_what_cannot_be_judged_is_refused(n: int, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        judged(np.random.default_rng(0).standard_normal((n, 4)), np.array(labels), ids=ids_of(len(labels)))
