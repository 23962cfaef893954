"""Two Betas on per-sample losses: small loss, probably clean; a Beta can be as skewed as the losses are.

Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019, section 3. Losses are scaled to [0, 1]
by their 5th and 95th percentile, and those between are fitted: ten steps of EM, whose M step matches weighted moments, since
Betas have no maximum-likelihood form. Nothing is drawn: the same losses give the same mixture.
Shapes: n = samples, k = 2 components.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta

from noisyctl.parts.mixture import are_equal, check_finite

ITERATIONS = 10  # as the authors' code
PERCENTILES = (0.05, 0.95)  # as the authors' code
EDGE = 1e-4  # scaled losses lie in [EDGE, 1 - EDGE]: at 0 and 1 a Beta's density is 0 or infinite
FLOOR = 1e-12  # of a responsibility: a component that has lost all samples takes the moments of all
LEAST_VARIANCE = 1e-6  # (ours): a component of equal losses stays a density


class BetaMixture(NamedTuple):
    """Two Betas of the scaled losses, in no order."""

    weights: Float[Tensor, " k"]
    alpha: Float[Tensor, " k"]
    beta: Float[Tensor, " k"]

    @property
    def means(self) -> Float[Tensor, " k"]:
        return self.alpha / (self.alpha + self.beta)


def clean_probability(losses: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Posterior of the component with the smaller mean, of each loss itself.

    The authors' code reads it from a table of 100 losses between the least and the largest: up to .017 away from this.
    Beyond the loss that is surest to be noisy it falls no more, as the authors' code has it: the tail of the wider component
    would call the largest losses clean. Equal losses, as of a single sample, tell nothing apart: every sample then gets 1.
    Raises TrainingError on a loss that is not finite.
    """
    check_finite(losses)
    if are_equal(losses):
        return torch.ones_like(losses)
    values = losses.double()
    trim = torch.tensor(PERCENTILES, dtype=values.dtype, device=values.device)
    low, high = values.quantile(trim, interpolation="nearest")
    if low == high:  # all but a few are equal: nothing is trimmed
        low, high = values.aminmax()
    scaled = ((values - low) / (high - low)).clamp(EDGE, 1 - EDGE)
    mixture = fit(scaled[(values >= low) & (values <= high)])
    noisy = responsibilities(mixture, scaled)[int(mixture.means.argmax())]
    worst = noisy.argmax()
    return (1 - noisy.where(scaled <= scaled[worst], noisy[worst])).to(losses.dtype)


def fit(scaled: Float[Tensor, " n"]) -> BetaMixture:
    """EM from Beta(1, 2) and Beta(2, 1), of losses strictly between 0 and 1."""
    start = torch.tensor([1.0, 2.0], dtype=scaled.dtype, device=scaled.device)
    mixture = BetaMixture(torch.full_like(start, 0.5), start, start.flip(0))
    for _ in range(ITERATIONS):
        mixture = from_moments(responsibilities(mixture, scaled), scaled)
    return mixture


def responsibilities(mixture: BetaMixture, scaled: Float[Tensor, " n"]) -> Float[Tensor, "k n"]:
    """P(component | loss): the E step, and the posterior."""
    log_density = Beta(mixture.alpha[:, None], mixture.beta[:, None]).log_prob(scaled)
    return (mixture.weights[:, None].log() + log_density).softmax(dim=0)


def from_moments(shares: Float[Tensor, "k n"], scaled: Float[Tensor, " n"]) -> BetaMixture:
    """The M step: the Betas that have the weighted means and variances of the losses."""
    shares = shares.clamp(min=FLOOR)
    total = shares.sum(dim=1, keepdim=True)
    mean = (shares * scaled).sum(dim=1, keepdim=True) / total
    variance = (shares * (scaled - mean).square()).sum(dim=1) / total[:, 0]
    m, weights = mean[:, 0], (total / total.sum())[:, 0]
    size = m * (1 - m) / variance.clamp(min=LEAST_VARIANCE) - 1  # alpha + beta
    return BetaMixture(weights, m * size, (1 - m) * size)
