"""Which samples of a batch are trained on."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def small_loss_selection(losses: Float[Tensor, " b"], keep_rate: float) -> Bool[Tensor, " b"]:
    """The floor(keep_rate * b) samples of least loss, of equal losses the first (Co-teaching, Han et al. 2018, Alg. 1)."""
    selected = torch.zeros_like(losses, dtype=torch.bool)
    selected[losses.argsort(stable=True)[: int(keep_rate * len(losses))]] = True
    return selected
