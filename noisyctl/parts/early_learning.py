"""The penalty of early-learning regularization, which ELR and ELR+ share.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, Eq. 6.
"""

from jaxtyping import Float
from torch import Tensor

CLAMP = 1e-4  # as in the authors' code, so that log(1 - <t, p>) stays finite


def clamped_softmax(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """The softmax, clamped to [1e-4, 1 - 1e-4]."""
    return logits.softmax(dim=1).clamp(CLAMP, 1 - CLAMP)


def early_learning_penalty(probs: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """The penalty log(1 - <t, p>) of each sample; it is lower where prediction and target agree more."""
    return (1 - (targets * probs).sum(dim=1)).log()
