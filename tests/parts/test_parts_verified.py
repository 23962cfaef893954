"""Verified labels: which samples have one, and what a class's classifier says of the given labels."""

import pytest
import torch

from noisyctl.errors import ParamsError
from noisyctl.parts import verified
from noisyctl.task import Task


def task_of(**known: object) -> Task:
    return Task(None, None, 3, torch.device("cpu"), torch.tensor([0, 1, 2, 0]), **known)  # type: ignore[arg-type]


def test_a_verified_sample_cannot_be_held_out() -> None:
    both = torch.tensor([1, 3]), torch.tensor([2, 1])
    assert verified.verified_labels(task_of()).tolist() == [-1] * 4
    assert verified.verified_labels(task_of(verified=both)).tolist() == [-1, 2, -1, 1]
    assert verified.verified_labels(task_of(verified=both, held_out=torch.tensor([2]))).tolist() == [
        -1,
        2,
        -1,
        1,
    ]
    with pytest.raises(
        ParamsError, match="1 verified samples are also held out for validation, the first at position 3"
    ):
        task_of(verified=both, held_out=torch.tensor([2, 3]))


def test_binary_classifiers_judge_the_given_labels_of_classes_that_have_both_sides() -> None:
    # classes 0 and 1 lie at -1 and 1, so by symmetry the boundary is at 0; class 2 has no verified sample
    features = torch.tensor([[-1.0], [1.0], [-2.0], [2.0], [-0.5], [0.5]])
    labels = torch.tensor([0, 1, 1, 0, 0, 2])
    judged, affirmed = verified.judge(features, labels, (torch.tensor([0, 1]), torch.tensor([0, 1])))
    assert judged.tolist() == [True, True, True, True, True, False]
    assert affirmed.tolist() == [True, True, False, False, True, False]


def test_verified_samples_of_one_class_judge_nothing() -> None:
    features, labels = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    judged, affirmed = verified.judge(features, labels, (torch.tensor([0]), torch.tensor([0])))
    assert not judged.any() and not affirmed.any()
