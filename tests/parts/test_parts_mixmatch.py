"""MixMatch's functions: rows by hand, loops in float64 written from the papers, finite gradients at the corners."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisyctl.parts import mixmatch as mm
from noisyctl.seeds import stream


def test_unit_range_is_a_matter_of_each_row() -> None:
    losses = torch.tensor([[1.0, 3.0, 2.0], [10.0, 10.0, 10.0]])  # from 1 to 3; equal losses
    torch.testing.assert_close(mm.unit_range(losses), torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        ([0.9, 0.5, 0.51], 0.5, [True, False, True]),  # the threshold itself is not clean
        ([0.2, 0.4, 0.3], 0.5, [False, True, True]),  # none: the two most probable
        ([0.9, 0.9, 0.9], 0.5, [True, True, True]),  # all
        ([0.1], 0.5, [True]),  # fewer samples than a batch
    ],
)
def test_the_labeled_side_is_above_the_threshold_and_never_empty(
    probability: list[float], threshold: float, expected: list[bool]
) -> None:
    assert mm.labeled_side(torch.tensor(probability), threshold, 2).tolist() == expected


@pytest.mark.parametrize(
    ("labeled", "expected"),
    [
        ([True, False, False], ([7, 7], [8, 9])),  # one labeled sample counts twice
        ([True, True, False], ([7, 8], [9, 9])),
        ([True, True, True], ([7, 8, 9], [])),
    ],
)
def test_a_side_of_one_has_it_twice(labeled: list[bool], expected: tuple[list[int], list[int]]) -> None:
    sides = mm.two_sides(torch.tensor([7, 8, 9]), torch.tensor(labeled))
    assert tuple(side.tolist() for side in sides) == expected


def logits_of(rows: list[list[list[float]]]) -> torch.Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows).log()


def test_co_refine_by_hand() -> None:
    label = torch.tensor([[1.0, 0.0]] * 3)
    views = logits_of([[[0.6, 0.4]] * 3, [[0.4, 0.6]] * 3])  # their mean is a half each
    refined = mm.co_refine(label, torch.tensor([1.0, 0.5, 0.0]), views, 0.5)
    # surely clean: the label; half: (3/4, 1/4), squared 9 : 1; surely wrong: the prediction
    torch.testing.assert_close(refined, torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]))


def test_co_guess_by_hand() -> None:
    rows = logits_of([[[0.9, 0.1]], [[0.8, 0.2]], [[0.7, 0.3]], [[0.6, 0.4]]])  # mean (3/4, 1/4)
    torch.testing.assert_close(mm.co_guess(rows, 0.5), torch.tensor([[0.9, 0.1]]))
    torch.testing.assert_close(mm.co_guess(rows, 1.0), torch.tensor([[0.75, 0.25]]))


def softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


class Norm(nn.Module):
    """Batch norm, then a fixed linear map: outputs that depend on the batch in train mode."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("weight", torch.randn(4, 3, generator=stream(seed, "w")))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(images).flatten(1) @ self.weight


def naive_targets(
    learner: Norm, peer: Norm, images: np.ndarray, given: np.ndarray, clean: np.ndarray, temperature: float
) -> np.ndarray:
    """DivideMix's co-guessing and co-refinement, a row at a time."""
    b, u = len(given), (len(images) - 2 * len(given)) // 2
    views = [images[:b], images[b : 2 * b], images[2 * b : 2 * b + u], images[2 * b + u :]]

    def train(view: np.ndarray) -> list[np.ndarray]:
        scaled = (view - view.mean()) / np.sqrt(view.var() + 1e-5)  # the statistics of this view alone
        return [softmax(x.ravel() @ learner.weight.double().numpy()) for x in scaled]

    def evaluate(view: np.ndarray) -> list[np.ndarray]:
        scaled = view / np.sqrt(1 + 1e-5)  # a fresh batch norm's running statistics
        return [softmax(x.ravel() @ peer.weight.double().numpy()) for x in scaled]

    def sharp(p: np.ndarray) -> np.ndarray:
        return p ** (1 / temperature) / (p ** (1 / temperature)).sum()

    x1, x2 = train(views[0]), train(views[1])
    refined = [sharp(clean[i] * given[i] + (1 - clean[i]) * (x1[i] + x2[i]) / 2) for i in range(b)]
    guesses = [train(views[2]), train(views[3]), evaluate(views[2]), evaluate(views[3])] if u else []
    guessed = [sharp(sum(g[i] for g in guesses) / 4) for i in range(u)]
    return np.array(refined + refined + guessed + guessed)


@pytest.mark.parametrize(("b", "u"), [(5, 3), (4, 0), (2, 6)])
def test_targets_equal_the_loop_with_the_learner_in_train_mode_a_view_at_a_time(b: int, u: int) -> None:
    learner, peer = Norm(0).train(), Norm(1).eval()
    images = torch.randn(2 * (b + u), 1, 2, 2, generator=stream(0, "x")) * 3 + 1
    labels = torch.eye(3)[torch.arange(b) % 3]
    clean = torch.rand(b, generator=stream(0, "p"))
    targets = mm.make_targets(learner, peer, images, labels, clean, 0.5)
    doubles = (t.double().numpy() for t in (images, labels, clean))
    np.testing.assert_allclose(targets.numpy(), naive_targets(learner, peer, *doubles, 0.5), rtol=1e-4)
    assert int(learner.norm.num_batches_tracked) == (4 if u else 2)  # each view moves the running statistics
    assert int(peer.norm.num_batches_tracked) == 0
    assert not targets.requires_grad


def test_rows_of_all_sides_are_mixed_with_one_weight_that_favors_the_own() -> None:
    m = 12
    rows = torch.eye(m)  # a mixed unit vector shows both partners and their weights
    seen, crossed = set(), False
    for k in range(20):
        images, targets = mm.mixmatch(rows.view(m, 1, 1, m), rows, 4.0, stream(k, "mix"))
        assert torch.equal(images.view(m, m), targets)
        own = targets.diagonal()
        weight = float(own.min())
        assert 0.5 <= weight < 1
        for i, row in enumerate(targets.tolist()):
            others = {j: w for j, w in enumerate(row) if w and j != i}
            assert sum(row) == pytest.approx(1)
            assert row[i] == pytest.approx(weight if others else 1)  # a fixed point is its own partner
            assert len(others) <= 1
            crossed |= any((j < m // 2) != (i < m // 2) for j in others)
        partners = targets - torch.diag(own)
        assert (partners > 0).sum(dim=0).max() == 1  # a permutation
        seen.add(round(weight, 6))
    assert len(seen) == 20  # each step draws
    assert crossed  # labeled rows meet unlabeled ones


def naive_loss(z: np.ndarray, t: np.ndarray, k: int, weight: float, prior: float) -> float:
    """Eq. of L_X, L_U and L_reg as the paper's text has them, L_U over the classes too."""
    p = np.array([softmax(row) for row in z])
    m, c = p.shape
    labeled = -sum(t[i, j] * math.log(p[i, j]) for i in range(k) for j in range(c)) / k
    unlabeled = sum((p[i, j] - t[i, j]) ** 2 for i in range(k, m) for j in range(c)) / (m - k) / c
    mean = [sum(p[i, j] for i in range(m)) / m for j in range(c)]
    return labeled + weight * unlabeled + prior * sum((1 / c) * math.log((1 / c) / q) for q in mean)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), k=st.integers(1, 5), weight=st.floats(0, 150), prior=st.floats(0, 2))
def test_the_loss_equals_the_loop(seed: int, k: int, weight: float, prior: float) -> None:
    logits = torch.randn(7, 4, generator=stream(seed, "z")) * 3
    targets = torch.randn(7, 4, generator=stream(seed, "t")).softmax(dim=1)
    expected = naive_loss(logits.double().numpy(), targets.double().numpy(), k, weight, prior)
    assert float(mm.mixmatch_loss(logits, targets, k, weight, prior)) == pytest.approx(expected, rel=1e-4)


def test_the_loss_by_hand() -> None:
    logits = torch.zeros(4, 4)  # a quarter for each class: the mean prediction is the prior
    targets = torch.eye(4)[torch.zeros(4, dtype=torch.long)]
    # cross-entropy log 4; squared norm (3/4)^2 + 3 (1/4)^2 = 3/4, over 4 classes 3/16
    assert float(mm.mixmatch_loss(logits, targets, 2, 0.0, 1.0)) == pytest.approx(math.log(4))
    assert float(mm.mixmatch_loss(logits, targets, 2, 16.0, 1.0)) == pytest.approx(math.log(4) + 3)
    torch.testing.assert_close(mm.squared_error(logits, targets), torch.full((4,), 3 / 16))


def test_no_unlabeled_row_is_no_unlabeled_loss() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = mm.mixmatch_loss(logits, torch.eye(4)[:2], 2, 150.0, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_prior_penalty_by_hand() -> None:
    balanced = logits_of([[[0.9, 0.1], [0.1, 0.9]]])[0]  # each row is sure, their mean is uniform
    assert float(mm.prior_penalty(balanced)) == pytest.approx(0, abs=1e-6)
    leaning = logits_of([[[0.9, 0.1], [0.6, 0.4]]])[0]  # mean (3/4, 1/4)
    assert float(mm.prior_penalty(leaning)) == pytest.approx((math.log(2 / 3) + math.log(2)) / 2)


def test_gradients_are_finite_where_a_class_has_no_prediction_and_targets_are_one_hot() -> None:
    logits = torch.tensor([[300.0, -300.0, -300.0]] * 4, requires_grad=True)  # class 1 and 2: exp(-600) = 0
    targets = torch.eye(3)[torch.tensor([0, 1, 0, 1])]
    loss = mm.mixmatch_loss(logits, targets, 2, 25.0, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_loss_has_the_right_gradient() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=stream(0, "z")).requires_grad_()
    targets = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 0, 1])]
    assert torch.autograd.gradcheck(lambda z: mm.mixmatch_loss(z, targets, 2, 25.0, 1.0), logits)


def test_targets_of_a_sure_network_are_finite() -> None:
    sure = torch.tensor([[[200.0, -200.0]]]).repeat(4, 1, 1)
    for targets in (
        mm.co_guess(sure, 0.5),
        mm.co_refine(torch.tensor([[0.0, 1.0]]), torch.zeros(1), sure, 0.5),
    ):
        torch.testing.assert_close(targets, torch.tensor([[1.0, 0.0]]))
