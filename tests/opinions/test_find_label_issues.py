"""find_label_issues: the list of clean for features in memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import noisyctl
from noisyctl.opinions.issues import find_label_issues

NAMES = np.array(["zero", "one", "two", "three", "four"])


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400 digits of five classes, their labels with 10 % noise, and which of them are wrong."""
    x, y = load_digits(n_class=5, return_X_y=True)
    x, y, rng = x[:400], y[:400], np.random.default_rng(0)
    given = np.where(rng.random(400) < 0.1, (y + rng.integers(1, 5, 400)) % 5, y)
    return x, given, given != y


def test_the_wrong_labels_are_first(planted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, given, wrong = planted
    found = noisyctl.find_label_issues(x, given)
    assert found.column("rank").to_pylist() == list(range(1, 401))
    rows = np.array(found.column("row"))
    assert sorted(rows) == list(range(400))
    number = int(wrong.sum())
    assert wrong[rows[:number]].mean() > 0.9
    assert np.array(found.column("given")).tolist() == given[rows].tolist()
    likely = np.array(found.column("clean_probability"))
    assert abs((1 - likely).sum() / number - 1) < 0.3
    near = found.column("neighbors").to_pylist()
    assert all(rows[k] not in each for k, each in enumerate(near)) and len(near[0]) == 5


def test_the_kind_of_the_arguments_does_not_matter(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, given, _ = planted
    one = find_label_issues(x, given)
    other = find_label_issues(torch.from_numpy(x), torch.from_numpy(given))
    assert one.equals(other) and one.equals(find_label_issues(x.tolist(), given.tolist()))
    named = find_label_issues(x, NAMES[given])
    assert set(named.column("given").to_pylist()) == set(NAMES.tolist())
    first = [set(table.column("row")[:35].to_pylist()) for table in (one, named)]
    assert len(first[0] & first[1]) >= 32  # texts are numbered in another order, and so are folds drawn


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (np.zeros(20), np.arange(20) % 2, "give rows of real numbers"),
        (np.full((20, 2), "a"), np.arange(20) % 2, "give rows of real numbers"),
        (np.full((20, 2), np.nan), np.arange(20) % 2, "NaN"),
        (np.eye(20), np.arange(19) % 2, r"shape \(19,\) for 20 samples"),
        (np.eye(20), np.full(20, np.nan), "give whole numbers or texts"),
        (np.eye(20), np.array(["a", None] * 10, object), "give whole numbers or texts"),
        (np.eye(20), np.zeros(20, int), "two classes"),
        (np.eye(4), np.arange(4) % 2, "too few"),
    ],
)
def test_what_cannot_be_judged_is_a_value_error(features: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_label_issues(features, labels)


def test_importing_noisyctl_imports_nothing_heavy() -> None:
    ask = "import sys, noisyctl; print([n for n in ('torch', 'numpy', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
