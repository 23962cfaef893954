"""What "near" means in a search, bit by bit, and the order of equally near rows."""

from typing import Literal

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

Metric = Literal["cosine", "euclidean"]


def similarity_of(
    queries: Float[Tensor, "*b q d"], rows: Float[Tensor, "*b n d"], metric: Metric
) -> Float32[Tensor, "*b q n"]:
    """The similarity that defines the order: the cosine of unit rows, or minus the squared distance.

    It is computed in float64 and rounded to float32. Distances are summed up directly, so that equal rows have
    exactly 0.
    """
    queries, rows = queries.double(), rows.double()
    if metric == "cosine":
        return (queries @ rows.mT).float()
    return -torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist").square().float()


def keys_of(
    similarity: Float32[Tensor, "*q m"], index: Int[Tensor, "*#q m"], own: Int[Tensor, "*q"]
) -> Int[Tensor, "*q m"]:
    """Each (similarity, index) as one integer: a larger similarity gives a larger key, of equal ones the lower index.

    No two keys are equal, so topk of them does not depend on how ties are broken. The row `own` and missing rows come
    last.
    """
    similarity = similarity.masked_fill((index == own[..., None]) | (index < 0), -torch.inf)
    bits = (similarity + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) + (0x7FFFFFFF - index)


def unpack(keys: Int[Tensor, "*q k"]) -> tuple[Int[Tensor, "*q k"], Float32[Tensor, "*q k"]]:
    """The indices and similarities that are in the keys."""
    ordered = (keys >> 32).int()
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return 0x7FFFFFFF - (keys & 0x7FFFFFFF), bits.view(torch.float32)
