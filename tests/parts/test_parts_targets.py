"""Targets: golden rows, properties, gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.parts import targets
from noisyctl.seeds import stream


def test_one_hot() -> None:
    assert targets.one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_smoothing_is_shared_by_the_other_classes() -> None:
    """Jo-SRC: epsilon = 0.6 leaves 0.4 on the label, 0.3 on each of the two others."""
    torch.testing.assert_close(
        targets.smooth_one_hot(torch.tensor([1]), 3, 0.6), torch.tensor([[0.3, 0.4, 0.3]])
    )


def test_no_smoothing_is_one_hot() -> None:
    labels = torch.tensor([0, 3, 1])
    torch.testing.assert_close(targets.smooth_one_hot(labels, 4, 0.0), targets.one_hot(labels, 4))


def test_sharpen_squares_at_a_half_and_keeps_at_one() -> None:
    """(1/4)^2 and (3/4)^2 are in the ratio 1 to 9."""
    probs = torch.tensor([[0.25, 0.75]])
    torch.testing.assert_close(targets.sharpen(probs, 0.5), torch.tensor([[0.1, 0.9]]))
    torch.testing.assert_close(targets.sharpen(probs, 1.0), probs)


def test_sharpen_flattens_above_one_and_keeps_certain_rows() -> None:
    """At 2 roots: 1/2 and sqrt(3)/2 are in the ratio 1 to sqrt(3)."""
    flat = targets.sharpen(torch.tensor([[0.25, 0.75], [0.0, 1.0]]), 2.0)
    expected = [[1 / (1 + math.sqrt(3)), math.sqrt(3) / (1 + math.sqrt(3))], [0.0, 1.0]]
    torch.testing.assert_close(flat, torch.tensor(expected))


def test_sharpening_many_classes_far_does_not_vanish() -> None:
    """1000 classes to the power 20: a float32 holds no 0.001^20."""
    row = torch.full((1, 1000), 1e-3)
    torch.testing.assert_close(targets.sharpen(row, 0.05), row)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.1, 10))
def test_sharpen_keeps_sums_and_order(seed: int, temperature: float) -> None:
    probs = torch.randn(6, 5, generator=stream(seed, "p")).softmax(dim=1)
    sharp = targets.sharpen(probs, temperature)
    torch.testing.assert_close(sharp.sum(dim=1), torch.ones(6))
    assert (sharp.argmax(dim=1) == probs.argmax(dim=1)).all()
    more_certain = sharp.amax(dim=1) >= probs.amax(dim=1) - 1e-6
    assert more_certain.all() if temperature <= 1 else True


def test_average_probs_is_of_probabilities_and_not_of_logits() -> None:
    """A sure class 0 and a flat row: (1 + 1/2) / 2; the mean of the logits would be sure."""
    mean = targets.average_probs(torch.tensor([[1e4, 0.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(mean, torch.tensor([[0.75, 0.25]]))


def test_running_average_weighs_the_old_value_with_the_momentum() -> None:
    torch.testing.assert_close(
        targets.running_average(torch.ones(2), torch.zeros(2), 0.9), torch.full((2,), 0.9)
    )


def test_soft_cross_entropy_of_one_hot_rows_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4, generator=stream(0, "x")), torch.tensor([0, 1, 2, 3, 0, 1])
    soft = targets.soft_cross_entropy(logits, targets.one_hot(labels, 4))
    torch.testing.assert_close(soft, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))


def test_soft_cross_entropy_by_hand() -> None:
    """Prediction (1/4, 3/4) against (1/2, 1/2): 1/2 log 4 + 1/2 log(4/3)."""
    loss = targets.soft_cross_entropy(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]))
    assert loss.item() == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(4 / 3))


def test_soft_cross_entropy_has_the_right_gradient() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, generator=stream(0, "z"), requires_grad=True)
    rows = torch.softmax(torch.randn(3, 4, dtype=torch.float64, generator=stream(0, "t")), dim=1)
    assert torch.autograd.gradcheck(lambda z: targets.soft_cross_entropy(z, rows), logits)


def test_certain_and_wrong_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = targets.soft_cross_entropy(logits, torch.tensor([[0.0, 1.0]]))
    loss.sum().backward()
    assert loss.tolist() == [2e4]
    assert logits.grad is not None and logits.grad.tolist() == [[1, -1]]
