"""Two Gaussians on per-sample losses: small loss, probably clean (Arazo et al. 2019, Li et al. 2020)."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from noisyctl.errors import TrainingError
from noisyctl.seeds import draw_seed


def clean_probability(
    losses: Float[Tensor, " n"],
    rng: Generator,
    *,
    max_iter: int = 10,
    tol: float = 1e-2,
    reg_covar: float = 5e-4,
) -> Float[Tensor, " n"]:
    """Posterior of the component with the smaller mean, of losses scaled to [0, 1].

    Equal losses tell nothing apart: every sample then gets 1. Raises TrainingError on a loss that is not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if not torch.isfinite(losses).all():
        raise TrainingError("a per-sample loss is not finite; lower learning_rate")
    low, high = losses.min(), losses.max()
    if len(losses) < 2 or high - low < torch.finfo(losses.dtype).eps:
        return torch.ones_like(losses)
    scaled = ((losses - low) / (high - low)).double().cpu().numpy()[:, None]
    mixture = GaussianMixture(2, max_iter=max_iter, tol=tol, reg_covar=reg_covar, random_state=draw_seed(rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are the method's choice
        posterior = mixture.fit(scaled).predict_proba(scaled)[:, int(np.argmin(mixture.means_.ravel()))]
    return torch.as_tensor(posterior, dtype=losses.dtype, device=losses.device)
