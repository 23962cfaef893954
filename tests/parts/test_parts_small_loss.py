"""Small-loss selection: golden rows, properties, the estimate of the noise rate and its message."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.errors import ParamsError
from noisyctl.parts import small_loss
from noisyctl.seeds import stream
from noisyctl.task import Task


def test_the_forget_rate_rises_to_the_noise_rate() -> None:
    # T counts from 1 and T_k is 10: a tenth in the first epoch, all in the tenth, no more later
    rates = [small_loss.forget_rate(epoch, 10, 0.5) for epoch in (0, 4, 9, 50)]
    assert rates == pytest.approx([0.05, 0.25, 0.5, 0.5])


def test_the_smallest_losses_are_chosen() -> None:
    losses = torch.tensor([0.3, 0.1, 0.9, 0.2])
    assert small_loss.small_losses(losses, 0.5).tolist() == [False, True, False, True]
    # nothing is forgotten
    assert small_loss.small_losses(losses, 0.0).all()
    # a quarter of four and a bit more: two are left
    assert small_loss.small_losses(losses, 0.3).tolist() == [False, True, False, True]
    # one at least, whatever the rate
    assert small_loss.small_losses(losses, 0.99).tolist() == [False, True, False, False]
    # of the candidates 0, 2 and 3 two thirds, rounded down to one
    among = torch.tensor([True, False, True, True])
    assert small_loss.small_losses(losses, 0.34, among).tolist() == [False, False, False, True]
    # no candidate, none chosen
    assert not small_loss.small_losses(losses, 0.5, torch.zeros(4, dtype=torch.bool)).any()


@settings(max_examples=50, deadline=None)
@given(tenths=st.integers(0, 9), size=st.integers(1, 200), seed=st.integers(0, 9))
def test_the_number_chosen_is_that_of_exact_arithmetic(tenths: int, size: int, seed: int) -> None:
    losses = torch.rand(size, generator=stream(seed, "losses"))
    chosen = small_loss.small_losses(losses, tenths / 10)
    assert int(chosen.sum()) == max(int((1 - Fraction(tenths, 10)) * size), 1)
    assert chosen.all() or losses[chosen].max() <= losses[~chosen].min()


def test_equal_losses_go_by_position() -> None:
    assert small_loss.small_losses(torch.ones(4), 0.5).tolist() == [True, True, False, False]


def test_the_mean_of_none_is_zero_with_a_zero_gradient() -> None:
    losses = torch.tensor([1.0, 3.0, 8.0], requires_grad=True)
    torch.testing.assert_close(
        small_loss.mean_of(losses, torch.tensor([True, True, False])), torch.tensor(2.0)
    )
    none = small_loss.mean_of(losses, torch.zeros(3, dtype=torch.bool))
    none.backward()
    assert none == 0
    assert losses.grad is not None
    assert losses.grad.tolist() == [0, 0, 0]


def task(warmup_epochs: int, labels: torch.Tensor, held_out: torch.Tensor | None = None) -> Task:
    return Task(
        None, None, 2, torch.device("cpu"), labels, warmup_epochs=warmup_epochs, held_out=held_out
    )  # fmt: skip


def test_the_noise_rate_is_the_share_of_large_losses() -> None:
    # the networks say class 0; 30 of 100 labels are 1
    labels = (torch.arange(100) < 30).long()
    logits = torch.tensor([[2.0, 0.0]]).expand(100, 2) + 0.3 * torch.randn(100, 2, generator=stream(0, "z"))
    found = small_loss.estimated_noise_rate([logits, logits], task(5, labels), stream(0, "g"))
    assert found == pytest.approx(0.3)
    # samples that validate have no say: without the first 30 all losses are small, and one Gaussian is as good as two
    fewer = small_loss.estimated_noise_rate([logits], task(5, labels, torch.arange(15)), stream(0, "g"))
    assert fewer == pytest.approx(15 / 85)


def test_equal_losses_are_no_noise() -> None:
    logits = [torch.zeros(20, 2)]
    assert small_loss.estimated_noise_rate(logits, task(1, torch.arange(20) % 2), stream(0, "g")) == 0.0


def test_without_a_warm_up_the_noise_rate_must_be_given() -> None:
    with pytest.raises(ParamsError, match="give --assumed-noise-rate or start from a warm-up with epochs"):
        small_loss.estimated_noise_rate([torch.zeros(4, 2)], task(0, torch.zeros(4).long()), stream(0, "g"))


def test_adam_gets_its_rate_and_beta() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    small_loss.set_adam(optimizer, 0.5, 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["betas"] == (0.1, 0.999)
