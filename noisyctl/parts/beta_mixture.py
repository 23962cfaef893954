"""Two Beta distributions fitted to per-sample losses: a small loss is probably that of a clean label.

A Beta distribution can be as skewed as losses often are, which a Gaussian cannot.

Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019, section 3. Losses are scaled to [0, 1]
by their 5th and 95th percentile, and the losses between these are fitted with ten steps of EM. The M-step matches
weighted moments, since the maximum-likelihood fit of a Beta has no closed form. No random numbers are used: the same
losses give the same mixture.

Shapes: n = samples, k = 2 components.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta

from noisyctl.parts.mixture import are_equal, check_finite

ITERATIONS = 10  # of EM, as in the authors' code
PERCENTILES = (0.05, 0.95)  # as in the authors' code
EDGE = (
    1e-4  # scaled losses are clamped to [EDGE, 1 - EDGE], since at 0 and 1 a Beta's density is 0 or infinite
)
FLOOR = 1e-12  # least responsibility, so that a component without samples takes the moments of all samples
LEAST_VARIANCE = 1e-6  # (ours), so that a component whose losses are all equal still has a density


class BetaMixture(NamedTuple):
    """Two Beta distributions of the scaled losses, in no particular order."""

    weights: Float[Tensor, " k"]
    alpha: Float[Tensor, " k"]
    beta: Float[Tensor, " k"]

    @property
    def means(self) -> Float[Tensor, " k"]:
        return self.alpha / (self.alpha + self.beta)


def clean_probability(losses: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """P(clean) of each sample: the posterior of the component with the smaller mean, at its loss.

    The authors' code reads this from a table of 100 losses between the least and the largest one; that is up to .017
    away from the value here. Above the loss that is most surely noisy, P(clean) stays constant, as in the authors'
    code; otherwise the tail of the wider component could call the largest losses clean.

    Where all losses are equal, for example because there is one sample, they cannot be told apart, and every sample
    gets 1.

    Raises TrainingError if a loss is not finite.
    """
    check_finite(losses)
    if are_equal(losses):
        return torch.ones_like(losses)
    values = losses.double()
    trim = torch.tensor(PERCENTILES, dtype=values.dtype, device=values.device)
    low, high = values.quantile(trim, interpolation="nearest")
    if low == high:  # nearly all losses are equal, so nothing is trimmed
        low, high = values.aminmax()
    scaled = ((values - low) / (high - low)).clamp(EDGE, 1 - EDGE)
    mixture = fit(scaled[(values >= low) & (values <= high)])
    noisy = responsibilities(mixture, scaled)[int(mixture.means.argmax())]
    worst = noisy.argmax()
    return (1 - noisy.where(scaled <= scaled[worst], noisy[worst])).to(losses.dtype)


def fit(scaled: Float[Tensor, " n"]) -> BetaMixture:
    """EM that starts from Beta(1, 2) and Beta(2, 1); the losses must lie strictly between 0 and 1."""
    start = torch.tensor([1.0, 2.0], dtype=scaled.dtype, device=scaled.device)
    mixture = BetaMixture(torch.full_like(start, 0.5), start, start.flip(0))
    for _ in range(ITERATIONS):
        mixture = from_moments(responsibilities(mixture, scaled), scaled)
    return mixture


def responsibilities(mixture: BetaMixture, scaled: Float[Tensor, " n"]) -> Float[Tensor, "k n"]:
    """P(component | loss): the E-step of EM, and the posterior."""
    log_density = Beta(mixture.alpha[:, None], mixture.beta[:, None]).log_prob(scaled)
    return (mixture.weights[:, None].log() + log_density).softmax(dim=0)


def from_moments(shares: Float[Tensor, "k n"], scaled: Float[Tensor, " n"]) -> BetaMixture:
    """The M-step: the Beta distributions that have the weighted means and variances of the losses."""
    shares = shares.clamp(min=FLOOR)
    total = shares.sum(dim=1, keepdim=True)
    mean = (shares * scaled).sum(dim=1, keepdim=True) / total
    variance = (shares * (scaled - mean).square()).sum(dim=1) / total[:, 0]
    m, weights = mean[:, 0], (total / total.sum())[:, 0]
    size = m * (1 - m) / variance.clamp(min=LEAST_VARIANCE) - 1  # alpha + beta
    return BetaMixture(weights, m * size, (1 - m) * size)
