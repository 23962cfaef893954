"""Exact nearest neighbors, by two engines that agree, and the vote of their labels.

Order: decreasing similarity, ties by ascending index, without the sample itself. Scores are float32.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from noisyctl.errors import DataError, ParamsError

BLOCK = 4096
EXTRA = 8  # fetched beyond k, so that ties at the k-th place are seen
Engine = Literal["auto", "faiss", "torch"]


def mine(
    features: Float[Tensor, "n d"], k: int, engine: Engine = "auto"
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Indices and cosine similarities of the k nearest neighbors of every row, both engines with the same order."""
    check_features(features)
    n = len(features)
    if not 1 <= k < n:
        raise ParamsError(f"k is {k} for {n} samples; choose k from 1 to {n - 1}")
    unit = normalize(features.float(), dim=1)
    search = _faiss_search if choose_engine(engine, features.device) == "faiss" else _torch_search
    indices, similarity, rows = _mine_rows(
        unit, torch.arange(n, device=unit.device), k, min(k + 1 + EXTRA, n), search
    )
    fetch = k + 1 + EXTRA
    while len(rows):  # more ties at the k-th place than were fetched: fetch more for those rows
        fetch = min(4 * fetch, n)
        again, scores, left = _mine_rows(unit, rows, k, fetch, search)
        indices[rows], similarity[rows] = again, scores
        rows = rows[left]
    return indices, similarity


def choose_engine(engine: Engine, device: torch.device) -> str:
    """faiss on the CPU where it is installed, torch elsewhere."""
    import importlib.util

    installed = importlib.util.find_spec("faiss") is not None
    if engine == "faiss" and not installed:
        raise ParamsError("faiss is not installed; pip install 'noisyctl[cpu]' or choose --engine torch")
    return (
        "faiss" if engine == "faiss" or (engine == "auto" and installed and device.type == "cpu") else "torch"
    )


def check_features(features: Tensor) -> None:
    """Raise DataError on rows with NaN, infinity or only zeros, and on features that are all equal."""
    bad = (~torch.isfinite(features).all(dim=1)).nonzero().ravel().tolist()
    if bad:
        raise DataError(f"{len(bad)} feature rows hold NaN or infinity (rows {bad[:5]}); remake the features")
    zero = (features == 0).all(dim=1).nonzero().ravel().tolist()
    if zero:
        raise DataError(
            f"{len(zero)} feature rows are all zero (rows {zero[:5]}), they have no direction; remake the features"
        )
    if len(features) > 1 and bool((features == features[0]).all()):
        raise DataError(
            "all feature rows are equal: the encoder learned nothing; train it longer or check the images"
        )


def _mine_rows(unit: Tensor, rows: Tensor, k: int, fetch: int, search) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """k neighbors of the given rows, and the positions of those whose ties outran what was fetched."""
    found, scores = search(unit, rows, fetch)
    scores = torch.where(found == rows[:, None], torch.inf, scores)  # itself first, then cut off
    by_index = found.argsort(dim=1, stable=True)
    found, scores = found.gather(1, by_index), scores.gather(1, by_index)
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    found, scores = found.gather(1, by_score), scores.gather(1, by_score)
    has_self = torch.isinf(scores[:, 0])
    pick = torch.arange(k, device=unit.device)[None, :] + has_self[:, None].long()
    indices, similarity = found.gather(1, pick), scores.gather(1, pick)
    crowded = (scores[:, -1] >= similarity[:, -1]) if fetch < len(unit) else torch.zeros_like(has_self)
    return indices, similarity, crowded.nonzero().ravel()


def _torch_search(unit: Tensor, rows: Tensor, fetch: int) -> tuple[Tensor, Tensor]:
    found, scores = [], []
    for block in rows.split(BLOCK):
        top = (unit[block] @ unit.T).topk(fetch, dim=1)
        found.append(top.indices)
        scores.append(_exact(unit, block, top.indices))
    return torch.cat(found), torch.cat(scores)


def _faiss_search(unit: Tensor, rows: Tensor, fetch: int) -> tuple[Tensor, Tensor]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    data = unit.cpu().numpy()
    index = faiss.IndexFlatIP(data.shape[1])
    index.add(data)
    found, scores = [], []
    for block in rows.split(BLOCK):
        indices = torch.as_tensor(index.search(np.ascontiguousarray(data[block.cpu().numpy()]), fetch)[1])
        found.append(indices)
        scores.append(_exact(unit, block, indices))
    return torch.cat(found), torch.cat(scores)


def _exact(unit: Tensor, rows: Tensor, found: Tensor) -> Tensor:
    """The same arithmetic for both engines: their kernels round differently, which would order ties differently."""
    scores = [
        (unit[r][:, None, :] * unit[f]).sum(dim=2)
        for r, f in zip(rows.split(512), found.split(512), strict=True)
    ]
    return torch.cat(scores)


def nearest(features: Float[Tensor, "n d"], k: int) -> Int[Tensor, "n k"]:
    """The k nearest rows by Euclidean distance, without the row itself."""
    norms = features.square().sum(dim=1)
    found = []
    for block in torch.arange(len(features), device=features.device).split(BLOCK):
        distance = norms[None, :] - 2 * features[block] @ features.T
        distance[torch.arange(len(block), device=features.device), block] = torch.inf
        found.append(distance.topk(k, dim=1, largest=False).indices)
    return torch.cat(found)


def knn_vote(
    neighbor_labels: Int[Tensor, "n k"],
    similarity: Float[Tensor, "n k"],
    num_classes: int,
    temperature: float,
) -> Float[Tensor, "n c"]:
    """Shares of the classes among the neighbors, weighted by exp(similarity / temperature)."""
    weights = ((similarity - similarity.amax(dim=1, keepdim=True)) / temperature).exp()
    votes = torch.zeros(len(neighbor_labels), num_classes, device=similarity.device)
    votes.scatter_add_(1, neighbor_labels, weights)
    return votes / votes.sum(dim=1, keepdim=True)


def knn_classify(
    queries: Float[Tensor, "q d"],
    database: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    k: int,
    num_classes: int,
) -> Int[Tensor, " q"]:
    """The class with the largest weighted vote among the k most similar rows (temperature 0.1)."""
    scores, found = (normalize(queries, dim=1) @ normalize(database, dim=1).T).topk(
        min(k, len(database)), dim=1
    )
    return knn_vote(labels[found], scores, num_classes, 0.1).argmax(dim=1)
