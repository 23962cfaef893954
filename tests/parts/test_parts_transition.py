"""Corrected losses and the estimated matrix: the theorems themselves, golden rows, every message."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from noisyctl.errors import ParamsError
from noisyctl.parts import transition
from noisyctl.seeds import stream

MATRIX = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]], dtype=torch.float64)


def test_the_mean_of_the_backward_loss_over_the_noise_is_the_clean_loss() -> None:
    logits = torch.randn(3, 3, generator=stream(0, "b"), dtype=torch.float64)
    clean = torch.arange(3)
    mean = sum(
        MATRIX[:, j] * transition.backward_losses(logits, torch.full((3,), j), MATRIX.inverse())
        for j in range(3)
    )
    torch.testing.assert_close(mean, cross_entropy(logits, clean, reduction="none"))


def test_the_forward_loss_over_the_noise_is_least_at_the_clean_posterior() -> None:
    posterior = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    noisy = posterior @ MATRIX  # what the given labels of such samples are
    logits = posterior.log().clone().requires_grad_()
    losses = transition.forward_losses(logits.expand(3, 3), torch.arange(3), MATRIX)
    (noisy * losses).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3, dtype=torch.float64))


def test_without_noise_both_are_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, generator=stream(0, "i")), torch.tensor([0, 1, 2, 0, 1])
    plain = cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(transition.backward_losses(logits, labels, torch.eye(3)), plain)
    torch.testing.assert_close(
        transition.forward_losses(logits, labels, torch.eye(3)), plain, atol=1e-5, rtol=1e-5
    )


def test_forward_by_hand() -> None:
    # the network says class 0 for sure, a fifth of class 0 is labeled 1
    logits, matrix = torch.tensor([[60.0, 0.0]]), torch.tensor([[0.8, 0.2], [0.0, 1.0]])
    torch.testing.assert_close(
        transition.forward_losses(logits, torch.tensor([1]), matrix), torch.tensor([math.log(5)])
    )


def test_a_label_that_the_matrix_calls_impossible_has_a_finite_loss_and_a_gradient() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = transition.forward_losses(logits, torch.tensor([1]), torch.tensor([[1.0, 0.0], [0.9, 0.1]])).sum()
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(math.log(20)), atol=1e-4, rtol=0)  # p T = 0.05
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0.1
    never = transition.forward_losses(logits, torch.tensor([1]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(never, torch.tensor([7 * math.log(10)]))


def test_a_row_of_the_estimate_is_the_surest_sample_s_prediction() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.35, 0.65]])
    torch.testing.assert_close(transition.estimated(probs, 0.0), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    # a quarter of four samples is one outlier for each class: the second surest counts
    torch.testing.assert_close(transition.estimated(probs, 0.25), torch.tensor([[0.6, 0.4], [0.35, 0.65]]))


def test_the_estimate_of_exact_noisy_posteriors_is_the_matrix() -> None:
    # Theorem 3: with one sample that is surely of each class, its noisy posterior is the row
    clean = torch.cat([torch.eye(3), torch.full((4, 3), 1 / 3)]).double()
    torch.testing.assert_close(transition.estimated(clean @ MATRIX, 0.0), MATRIX)


def test_outliers_are_never_all_the_samples_and_no_row_is_empty() -> None:
    probs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # class 1 is never predicted
    found = transition.estimated(probs, 0.99)
    torch.testing.assert_close(found, probs)
    # two equal rows cannot be inverted: condition (1 - w) T + w I, for w = 0.1 it is 0.1 apart from it
    mixed, weight = transition.invertible(found)
    assert weight == 0.1
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 0.0], [0.9, 0.1]]))


def test_a_good_matrix_is_inverted_as_it_is() -> None:
    mixed, weight = transition.invertible(MATRIX)
    assert weight == 0.0
    torch.testing.assert_close(mixed, MATRIX)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 0.0]], r"rows of \[2\] numbers; write 2 rows of 2"),
        ([[1.0, 0.0], [1.0]], r"rows of \[2, 1\] numbers"),
        ([[0.5, 0.4], [0.0, 1.0]], r"row 0 is \[0.5, 0.4\]; write probabilities that sum to 1"),
        ([[1.0, 0.0], [-0.5, 1.5]], r"row 1 is \[-0.5, 1.5\]"),
        ([[1.0, 0.0], [math.nan, 1.0]], r"row 1 is \[nan, 1.0\]"),
    ],
)
def test_a_matrix_that_is_none_is_refused(rows: list[list[float]], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        transition.given(rows, 2)


def test_a_given_matrix_is_taken() -> None:
    torch.testing.assert_close(transition.given(MATRIX.tolist(), 3), MATRIX.float())


def test_verified_samples_are_counted_row_by_row() -> None:
    # verified as 0: given 0, 0, 1; verified as 1: given 1, 0; the last is not verified
    given, checked = torch.tensor([0, 0, 1, 1, 0, 1]), torch.tensor([0, 0, 0, 1, 1, -1])
    found = transition.counted(given, checked, 2)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3], [1 / 2, 1 / 2]]))


def test_a_class_without_a_verified_sample_is_named() -> None:
    with pytest.raises(ParamsError, match="--verified has no training sample of class 1, but its row"):
        transition.counted(torch.tensor([0, 1]), torch.tensor([0, 2]), 3)
