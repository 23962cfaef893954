"""scikit-learn's digits: counts, values and the fixed split."""

import numpy as np
import pytest
from pydantic import ValidationError

from noisyctl.datasets.digits import Params, held_out, prepare


def test_counts_shapes_and_names() -> None:
    data = prepare(Params())
    assert data.splits["train"].images.shape == (1297, 8, 8, 1)
    assert data.splits["test"].images.shape == (500, 8, 8, 1)
    assert data.class_names == tuple("0123456789")
    assert data.views == "digits"
    assert data.given_labels is None
    assert data.quarantine == ()


def test_values_are_those_of_scikit_learn_on_the_scale_of_255() -> None:
    from sklearn.datasets import load_digits

    raw, data = load_digits(), prepare(Params())
    seen = []
    for name, split in data.splits.items():
        index = [int(text.removeprefix("digits-")) for text in split.ids]
        assert (data.truth[name] == raw.target[index]).all()
        exact = [[round(value * 255 / 16) for value in row] for row in raw.data[index]]
        assert (split.images.reshape(len(index), 64) == exact).all()
        seen += index
    assert sorted(seen) == list(range(1797))  # ids in = ids out


def test_every_class_is_held_out_in_proportion() -> None:
    truth = prepare(Params()).truth
    everything = np.bincount(np.concatenate([truth["train"], truth["test"]]))
    assert (np.abs(np.bincount(truth["test"]) - everything * 500 / 1797) < 1).all()


def test_the_split_never_changes() -> None:
    first, again, small = prepare(Params()), prepare(Params()), prepare(Params(test_size=10))
    assert first.splits["test"].images.tobytes() == again.splits["test"].images.tobytes()
    assert sorted(small.truth["test"]) == list(range(10))
    # Written down once: other ids mean that the split, and with it every result on digits, has changed.
    golden = [32, 167, 278, 534, 604, 756, 1073, 1428, 1573, 1737]
    assert list(small.splits["test"].ids) == [f"digits-{index:04}" for index in golden]


def test_quotas_by_largest_remainder() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2], np.int64)
    mask = held_out(labels, 5)  # exact shares 3, 1.5, 0.5: the tie goes to the smaller class number
    assert np.bincount(labels[mask], minlength=3).tolist() == [3, 2, 0]


def test_a_test_set_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValidationError):
        Params(test_size=1797)
