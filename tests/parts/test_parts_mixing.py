"""Mixing: golden rows, properties, and the distribution of the weights."""

import pytest
import scipy.stats
import torch

from noisyctl.parts import mixing
from noisyctl.seeds import stream


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 4.0, 32.0])
def test_weights_are_of_the_beta_distribution(alpha: float) -> None:
    """The lower half: near 1 a float32 has too few values for what a small alpha draws there."""
    drawn = mixing.draw_beta(alpha, (8000,), stream(0, "beta")).numpy()
    lower, cdf = drawn[drawn < 0.5], scipy.stats.beta(alpha, alpha).cdf
    assert scipy.stats.binomtest(len(lower), len(drawn)).pvalue > 0.01
    assert scipy.stats.kstest(lower, lambda x: 2 * cdf(x)).pvalue > 0.01


def test_weights_of_a_tiny_alpha_are_0_or_1_as_often() -> None:
    drawn = mixing.draw_beta(1e-3, (2000,), stream(0, "beta"))
    assert drawn.isfinite().all()
    assert ((drawn < 0.01) | (drawn > 0.99)).float().mean() > 0.98
    assert 0.45 < drawn.mean() < 0.55


def test_weights_of_three_sum_to_1_and_each_is_a_beta() -> None:
    """A share of Dirichlet(a, a, a) is Beta(a, 2 a)."""
    drawn = mixing.draw_dirichlet(2.0, (4000, 3), stream(0, "dirichlet"))
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(4000))
    for share in drawn.T:
        assert scipy.stats.kstest(share.numpy(), scipy.stats.beta(2, 4).cdf).pvalue > 0.01


def test_weights_depend_on_the_generator_alone() -> None:
    first = mixing.draw_beta(0.5, (2, 3), stream(3, "beta"))
    torch.manual_seed(1)
    assert torch.equal(first, mixing.draw_beta(0.5, (2, 3), stream(3, "beta")))
    assert not torch.equal(first, mixing.draw_beta(0.5, (2, 3), stream(4, "beta")))
    assert first.shape == (2, 3) and first.dtype == torch.float32


def test_partners_are_a_permutation_from_the_generator() -> None:
    drawn = mixing.draw_partners(50, stream(0, "p"))
    assert sorted(drawn.tolist()) == list(range(50))
    assert torch.equal(drawn, mixing.draw_partners(50, stream(0, "p")))
    assert drawn.tolist() != list(range(50))


def test_the_own_image_weighs_at_least_half_in_mixmatch() -> None:
    torch.testing.assert_close(
        mixing.mixmatch_weight(torch.tensor([0.2, 0.5, 0.9])), torch.tensor([0.8, 0.5, 0.9])
    )


@pytest.mark.parametrize("weight", [0.75, torch.tensor([0.75, 0.75]), torch.tensor(0.75)])
def test_a_pair_by_hand(weight: float | torch.Tensor) -> None:
    """3/4 of the own one and a quarter of the other, on every pixel."""
    own, other = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 5.0)
    torch.testing.assert_close(mixing.mix_pair(own, other, weight), torch.full((2, 1, 2, 2), 2.0))


def test_weights_of_a_pair_are_one_a_sample() -> None:
    own, other = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    mixed = mixing.mix_pair(own, other, torch.tensor([1.0, 0.25]))
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))


def test_mixing_with_weight_one_is_the_identity() -> None:
    own = torch.randn(3, 2, 5, 5, generator=stream(0, "own"))
    others = torch.randn(3, 2, 2, 5, 5, generator=stream(0, "others"))
    torch.testing.assert_close(mixing.mix(own, others, torch.ones(3), torch.zeros(3, 2)), own)


def test_two_partners_by_hand() -> None:
    """0.5 (1, 0) + 0.3 (0, 1) + 0.2 (2, 2)."""
    others = torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    mixed = mixing.mix(torch.tensor([[1.0, 0.0]]), others, torch.tensor([0.5]), torch.tensor([[0.3, 0.2]]))
    torch.testing.assert_close(mixed, torch.tensor([[0.9, 0.7]]))


def test_mix_equals_the_loop() -> None:
    own = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=stream(0, "own"))
    others = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64, generator=stream(0, "others"))
    weight = torch.rand(3, dtype=torch.float64, generator=stream(0, "w"))
    partner = torch.rand(3, 2, dtype=torch.float64, generator=stream(0, "p"))
    expected = torch.stack(
        [weight[b] * own[b] + sum(partner[b, j] * others[b, j] for j in range(2)) for b in range(3)]
    )
    torch.testing.assert_close(mixing.mix(own, others, weight, partner), expected)
