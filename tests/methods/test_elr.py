"""ELR's own functions: golden rows by hand, gradients at the corners."""

import math

import torch

from noisyctl.methods import elr


def test_agreement_lowers_the_penalty() -> None:
    probs = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    # agrees: log(1 - 0.75); disagrees: log(1 - 0.25); no target yet: log 1
    expected = torch.tensor([math.log(0.25), math.log(0.75), 0.0])
    torch.testing.assert_close(elr.early_learning_penalty(probs, targets), expected)


def test_the_penalty_and_its_gradient_are_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    penalty = elr.early_learning_penalty(elr.clamped_softmax(logits), torch.tensor([[1.0, 0.0]])).sum()
    penalty.backward()
    assert torch.isfinite(penalty)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
