"""Two Gaussians fitted to per-sample losses: a small loss is probably that of a clean label.

Arazo et al. 2019; Li et al. (DivideMix) 2020, section 3.1.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from noisyctl.errors import TrainingError
from noisyctl.seeds import draw_seed

MAX_ITER = 10
TOL = 1e-2
REG_COVAR = 5e-4


class Mixture(NamedTuple):
    """Two Gaussians, in the unit of the losses; the first one has the smaller mean."""

    weights: tuple[float, float]
    means: tuple[float, float]
    variances: tuple[float, float]


def clean_probability(
    losses: Float[Tensor, " n"],
    rng: Generator,
    *,
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    reg_covar: float = REG_COVAR,
) -> Float[Tensor, " n"]:
    """P(clean) of each sample: the posterior of the Gaussian with the smaller mean (DivideMix 3.1).

    The losses are scaled to [0, 1] before the fit; `reg_covar` and `tol` are in the unit of the scaled losses. Where
    all losses are equal, for example because there is one sample, they cannot be told apart, and every sample gets 1.

    Raises TrainingError if a loss is not finite.
    """
    check_finite(losses)
    if are_equal(losses):
        return torch.ones_like(losses)
    return _posterior(_unit_range(losses), losses, rng, max_iter, tol, reg_covar)


def scaled_clean_probability(
    losses: Float[Tensor, " n"],
    rng: Generator,
    *,
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    reg_covar: float = REG_COVAR,
) -> Float[Tensor, " n"]:
    """The same for losses that are scaled already, such as the mean over several epochs of scaled losses.

    They are fitted as they are. Such a mean spans less than [0, 1]; scaling it again would make `reg_covar`, which is
    in its unit, count for less. The official codes of DivideMix, ScanMix and MixNN also fit the mean itself.
    """
    check_finite(losses)
    if are_equal(losses):
        return torch.ones_like(losses)
    return _posterior(losses.double().cpu().numpy()[:, None], losses, rng, max_iter, tol, reg_covar)


def fit_mixture(
    losses: Float[Tensor, " n"],
    rng: Generator,
    *,
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    reg_covar: float = REG_COVAR,
) -> Mixture:
    """The two Gaussians behind `clean_probability`, for a figure. Equal losses give one component of variance 0."""
    check_finite(losses)
    low, span = float(losses.min()), float(losses.max() - losses.min())
    if are_equal(losses):
        return Mixture((1.0, 0.0), (low, low), (0.0, 0.0))
    fitted = _fit(_unit_range(losses), rng, max_iter, tol, reg_covar)
    means, variances = fitted.means_.ravel(), fitted.covariances_.ravel()
    a, b = (int(i) for i in means.argsort())
    return Mixture(
        (float(fitted.weights_[a]), float(fitted.weights_[b])),
        (low + span * float(means[a]), low + span * float(means[b])),
        (span**2 * float(variances[a]), span**2 * float(variances[b])),
    )


def are_equal(losses: Float[Tensor, " n"]) -> bool:
    """Whether the losses differ by no more than rounding."""
    if len(losses) < 2:
        return True
    return bool(losses.max() - losses.min() <= torch.finfo(losses.dtype).eps * losses.abs().max())


def check_finite(losses: Float[Tensor, " n"]) -> None:
    """Raises TrainingError if a loss is not finite."""
    wrong = (~torch.isfinite(losses)).nonzero().ravel().tolist()
    if wrong:
        raise TrainingError(
            f"{len(wrong)} of {len(losses)} per-sample losses are not finite (samples {wrong[:5]}); lower learning_rate"
        )


def _unit_range(losses: Float[Tensor, " n"]) -> np.ndarray:
    values = losses.double().cpu()
    return ((values - values.min()) / (values.max() - values.min())).numpy()[:, None]


def _posterior(
    values: np.ndarray, like: Tensor, rng: Generator, max_iter: int, tol: float, reg_covar: float
) -> Float[Tensor, " n"]:
    fitted = _fit(values, rng, max_iter, tol, reg_covar)
    posterior = fitted.predict_proba(values)[:, int(fitted.means_.argmin())]
    return torch.as_tensor(posterior, dtype=like.dtype, device=like.device)


def _fit(values: np.ndarray, rng: Generator, max_iter: int, tol: float, reg_covar: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(2, max_iter=max_iter, tol=tol, reg_covar=reg_covar, random_state=draw_seed(rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the method stops after ten iterations
        return mixture.fit(values)
