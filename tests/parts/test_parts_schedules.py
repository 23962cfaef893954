"""Schedules: values by hand at the edges, and torch's schedulers."""

import math

import pytest
import torch

from noisyctl.parts import schedules


def test_linear_is_constant_outside_and_halfway_in_the_middle() -> None:
    assert [schedules.linear(t, 2, 6, 1.0, 3.0) for t in (0, 2, 4, 6, 9)] == [1, 1, 2, 3, 3]


def test_linear_without_length_is_its_end() -> None:
    assert schedules.linear(5, 5, 5, 1.0, 3.0) == 3


def test_linear_as_the_ramp_of_dividemix() -> None:
    """lambda_u clip((epoch - warm-up) / 16, 0, 1) with lambda_u = 25 and warm-up 10."""
    assert [schedules.linear(e, 10, 26, 0.0, 25.0) for e in (9, 10, 14, 18, 26, 300)] == [
        0, 0, 6.25, 12.5, 25, 25,
    ]  # fmt: skip


def test_gaussian_ramp_by_hand() -> None:
    assert schedules.gaussian_ramp(0, 80) == pytest.approx(math.exp(-5))
    assert schedules.gaussian_ramp(40, 80) == pytest.approx(math.exp(-1.25))
    assert schedules.gaussian_ramp(80, 80) == schedules.gaussian_ramp(200, 80) == 1
    assert schedules.gaussian_ramp(-3, 80) == schedules.gaussian_ramp(0, 80)
    assert schedules.gaussian_ramp(0, 0) == 1


def test_linear_decay_after_the_start() -> None:
    """Jo-SRC: 1e-3 to epoch 80, then (200 - e) / 120 of it."""
    values = [schedules.linear_decay_after(e, 80, 200, 1e-3) for e in (0, 80, 140, 199, 200)]
    assert values == pytest.approx([1e-3, 1e-3, 5e-4, 1e-3 / 120, 0])


def test_step_decay_counts_milestones_reached() -> None:
    assert [schedules.step_decay(e, (40, 80), 0.1, 0.1) for e in (39, 40, 79, 80)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001]
    )


def test_warmup_then_cosine() -> None:
    values = [schedules.warmup_cosine(t, 4, 12, 1.0, 0.2) for t in (0, 1, 3, 4, 8, 12, 20)]
    assert values == pytest.approx([0.25, 0.5, 1, 1, 0.6, 0.2, 0.2])
    assert schedules.warmup_cosine(0, 0, 8, 1.0) == 1


def test_cosine_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.01)
    for epoch in range(21):
        assert schedules.cosine(epoch, 20, 0.4, 0.01) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    assert schedules.cosine(30, 20, 0.4, 0.01) == pytest.approx(0.01)


def test_warm_restarts_equal_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, eta_min=0.001)
    for epoch in range(25):
        assert schedules.cosine_warm_restarts(epoch, 10, 0.02, 0.001) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
