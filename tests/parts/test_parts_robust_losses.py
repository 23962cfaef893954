"""Losses of the baselines: golden rows by hand, naive oracles in float64, gradients, corners."""

import math
from collections.abc import Callable

import naive_losses as naive
import pytest
import torch
from torch import Tensor

from noisyctl.parts import robust_losses as losses
from noisyctl.parts import transition
from noisyctl.seeds import stream

MATRIX = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]]
T = torch.tensor(MATRIX, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[list[Tensor], int], Tensor]]] = {
    "mae": (losses.mean_absolute_error, naive.mae),
    "gce": (lambda z, y: losses.generalized_cross_entropy(z, y, 0.7), lambda p, y: naive.gce(p, y, 0.7)),
    "rce": (losses.reverse_cross_entropy, naive.rce),
    "nce": (losses.normalized_cross_entropy, naive.nce),
    "nfl": (lambda z, y: losses.normalized_focal_loss(z, y, 0.5), lambda p, y: naive.nfl(p, y, 0.5)),
    "soft": (lambda z, y: losses.soft_bootstrap(z, y, 0.95), lambda p, y: naive.soft_bootstrap(p, y, 0.95)),
    "hard": (lambda z, y: losses.hard_bootstrap(z, y, 0.8), lambda p, y: naive.hard_bootstrap(p, y, 0.8)),
    "savage": (losses.savage, naive.savage),
    "forward": (lambda z, y: transition.forward_losses(z, y, T.to(z)), lambda p, y: naive.forward(p, y, MATRIX)),
    "backward": (
        lambda z, y: transition.backward_losses(z, y, T.inverse().to(z)),
        lambda p, y: naive.backward(p, y, MATRIX),
    ),
}  # fmt: skip
SCORES = {"unhinged": (losses.unhinged, naive.unhinged), "sigmoid": (losses.sigmoid_loss, naive.sigmoid)}


def random_logits() -> Tensor:
    return 2 * torch.randn(6, 3, generator=stream(0, "logits"), dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_naive_loops(name: str) -> None:
    vectorized, one = CASES[name]
    logits, twin = random_logits().requires_grad_(), random_logits().requires_grad_()
    found = vectorized(logits, LABELS)
    rows = twin.exp() / twin.exp().sum(dim=1, keepdim=True)
    expected = torch.stack([one(list(rows[i]), int(LABELS[i])) for i in range(6)])
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(logits.grad, twin.grad)


@pytest.mark.parametrize("name", SCORES)
def test_losses_of_scores_equal_naive_loops(name: str) -> None:
    vectorized, one = SCORES[name]
    scores = losses.standardized(random_logits())
    rows = [naive.standardized(list(row)) for row in random_logits()]
    expected = torch.stack([one(rows[i], int(LABELS[i])) for i in range(6)])
    torch.testing.assert_close(vectorized(scores, LABELS), expected)


@pytest.mark.parametrize(
    "name", [*sorted(set(CASES) - {"nfl"}), *SCORES]
)  # nfl: no gradient through (1 - p)^gamma
def test_gradients_are_those_of_the_values(name: str) -> None:
    call = (CASES | SCORES)[name][0]
    assert torch.autograd.gradcheck(lambda z: call(z, LABELS), random_logits().requires_grad_())


@pytest.mark.parametrize("name", [*CASES, *SCORES])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("logits", [[200.0, -200.0, -200.0], [0.0, 0.0, 0.0]])  # p is 1, 0, 0; all equal
def test_values_and_gradients_are_finite_at_the_corners(name: str, label: int, logits: list[float]) -> None:
    call = (CASES | SCORES)[name][0]
    rows = torch.tensor([logits], requires_grad=True)
    scores = losses.standardized(rows) if name in SCORES else rows
    values = call(scores, torch.tensor([label]))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()


HALF = torch.tensor([[0.5, 0.25, 0.25]]).log()  # the prediction that the golden rows share, p_0 = 1/2


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # half of the L1 distance between (1/2, 1/4, 1/4) and (1, 0, 0)
        (losses.mean_absolute_error(HALF, torch.tensor([0])), 0.5),
        # q = 1 is the mean absolute error, q = 1/2 of p_y = 1/4 is (1 - 1/2) / (1/2)
        (losses.generalized_cross_entropy(HALF, torch.tensor([1]), 1.0), 0.75),
        (losses.generalized_cross_entropy(HALF, torch.tensor([1]), 0.5), 1.0),
        # half of the mass is off the label, where log y is log 1e-4
        (losses.reverse_cross_entropy(HALF, torch.tensor([0])), 0.5 * 4 * math.log(10)),
        # in bits 1, 2, 2: the label has one of five
        (losses.normalized_cross_entropy(HALF, torch.tensor([0])), 1 / 5),
        # focus 1 weighs the bits 1, 2, 2 with 1/2, 3/4, 3/4: 0.5 of 3.5
        (losses.normalized_focal_loss(HALF, torch.tensor([0]), 1.0), 1 / 7),
        # half label (1 bit), half prediction (entropy 1.5 bits)
        (losses.soft_bootstrap(HALF, torch.tensor([0]), 0.5), 1.25 * math.log(2)),
        # the label is class 1 (2 bits), the prediction class 0 (1 bit)
        (losses.hard_bootstrap(HALF, torch.tensor([1]), 0.75), 1.75 * math.log(2)),
        # only the label's score counts: (1 - 2 + 1 + 1) / 3
        (losses.unhinged(torch.tensor([[2.0, 5.0, -7.0]]), torch.tensor([0])), 1 / 3),
        # a score of log 3 at the label gives 1/4, the other classes 1/2 each
        (losses.sigmoid_loss(torch.tensor([[math.log(3), 5.0, -7.0]]), torch.tensor([0])), 1.25 / 3),
        # p_y = 1/2: (1 + e)^-2 at the label, 1/4 elsewhere
        (losses.savage(HALF, torch.tensor([0])), ((1 + math.e) ** -2 + 0.5) / 3),
    ],
)
def test_golden_rows(found: Tensor, expected: float) -> None:
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_a_small_power_is_cross_entropy() -> None:
    found = losses.generalized_cross_entropy(random_logits(), LABELS, 1e-9)
    torch.testing.assert_close(
        found, torch.nn.functional.cross_entropy(random_logits(), LABELS, reduction="none")
    )


def test_symmetric_losses_of_a_sample_sum_to_a_constant_over_all_labels() -> None:
    for call in (losses.mean_absolute_error, losses.normalized_cross_entropy, losses.reverse_cross_entropy):
        sums = sum(call(random_logits(), torch.full((6,), c)) for c in range(3))
        torch.testing.assert_close(sums, sums[:1].expand(6))  # type: ignore[index]


def test_standardized_scores_keep_the_order_and_are_bounded() -> None:
    logits = 100 * random_logits()
    scores = losses.standardized(logits)
    assert (scores.argsort(dim=1) == logits.argsort(dim=1)).all()
    assert (scores.abs() <= math.sqrt(2)).all()
