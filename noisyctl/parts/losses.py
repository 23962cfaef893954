"""Losses that more than one method uses, one value a sample."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax


def negative_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """sum_c p log p: added to the cross-entropy in warm-up, it keeps a network from growing confident.

    The confidence penalty of Pereyra et al. 2017; DivideMix 3.1 (Eq. 2) uses it for asymmetric noise.
    """
    log_probs = log_softmax(logits, dim=1)
    return (log_probs.exp() * log_probs).sum(dim=1)
