"""Exact search of the nearest rows, whatever proposes them.

  [1] an engine proposes k + 4 candidates by float32 scores, and a score that no other row exceeds
  [2] similarities of the candidates are computed in float64, rounded to float32, and order them; ties by index
  [3] where rounding or ties could hide a better row behind the candidates, every row is compared

An HNSW graph promises nothing about the other rows: its candidates are taken as they are, [3] is for queries to which it
proposes fewer than k.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn.functional import embedding

from noisyctl.errors import ParamsError

EXTRA = 4  # candidates beyond k: the sample itself, and some to prove that none was missed
ROUNDING = 2**-23  # of a similarity, to float32; twice what it can be
# Queries x rows scored at a time, and float64 numbers of candidates held at a time (a cache's worth).
SIZES = {"cpu": (512, 8192, 2**18), "cuda": (4096, 65536, 2**24)}

Metric = Literal["cosine", "euclidean"]
Propose = Callable[[Tensor], tuple[Tensor, Tensor]]  # queries [q d] -> rows [q f] (-1: none), limit [q]


def search(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
    propose: Propose,
) -> tuple[Int[Tensor, "q k"], Float32[Tensor, "q k"]]:
    """The k rows nearest to each query without the row `own`, and their similarities."""
    with _full_precision(rows.device):
        found, limit = propose(queries)  # [1]
        size = max(1, _sizes(rows)[2] // (found.shape[1] * rows.shape[1]))
        pairs = zip(queries.split(size), found.clamp(min=0).split(size), strict=True)
        similarity = torch.cat([_similarity(q[:, None], embedding(f, rows), metric)[:, 0] for q, f in pairs])
        keys = _keys(similarity, found, own).topk(k).values  # [2]
        kth = _unpack(keys)[1][:, -1].double()
        sure = kth > limit + _error(queries, kth, metric)
        unsure = (~sure).nonzero()[:, 0]
        if len(unsure):
            keys[unsure] = _among_all(queries[unsure], own[unsure], rows, k, metric)  # [3]
    return _unpack(keys)


def _among_all(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
) -> Int[Tensor, "q k"]:
    """Keys of the k nearest of all rows."""
    height, width, _ = SIZES["cpu"]
    parts = list(zip(queries.split(height), own.split(height), strict=True))
    best = [own.new_empty(len(q), 0) for q, _ in parts]
    for index in torch.arange(len(rows), device=rows.device).split(width):
        for i, (q, itself) in enumerate(parts):
            keys = _keys(_similarity(q, rows[index], metric), index[None], itself)
            keys = torch.cat([best[i], keys], dim=1)
            best[i] = keys.topk(min(k, keys.shape[1])).values
    return torch.cat(best)


def _similarity(
    queries: Float[Tensor, "*b q d"], rows: Float[Tensor, "*b n d"], metric: Metric
) -> Float32[Tensor, "*b q n"]:
    """What defines the order. Distances are summed directly, so that equal rows have exactly 0."""
    queries, rows = queries.double(), rows.double()
    if metric == "cosine":
        return (queries @ rows.mT).float()
    return -torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist").square().float()


def _error(queries: Float32[Tensor, "q d"], kth: Float[Tensor, " q"], metric: Metric) -> Float[Tensor, " q"]:
    """Bound on the error of a float32 score of a row that could be as near as the k-th.

    A sum of d products has at most d times the unit roundoff of the sum of their magnitudes, in whatever order (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 3.1); 8 more cover the other steps, d of the smallest normal
    number what vanishes below it.
    """
    d, float32 = queries.shape[1], torch.finfo(torch.float32)
    unit = (d + 8) * float32.eps / 2
    if metric == "cosine":
        return unit + ROUNDING * kth.abs()
    norms, distance = queries.double().norm(dim=1), (-kth).sqrt()
    return unit * (2 * norms + distance) ** 2 + ROUNDING * distance**2 + d * float32.tiny


def _keys(
    similarity: Float32[Tensor, "q m"], index: Int[Tensor, "#q m"], own: Int[Tensor, " q"]
) -> Int[Tensor, "q m"]:
    """Integers in the order of (similarity, -index), the row `own` and none last: topk of them has no ties."""
    similarity = similarity.masked_fill((index == own[:, None]) | (index < 0), -torch.inf)
    bits = (similarity + 0.0).view(torch.int32)  # + 0.0: there is no -0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) + (0x7FFFFFFF - index)


def _unpack(keys: Int[Tensor, "q k"]) -> tuple[Int[Tensor, "q k"], Float32[Tensor, "q k"]]:
    ordered = (keys >> 32).int()
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return 0x7FFFFFFF - (keys & 0x7FFFFFFF), bits.view(torch.float32)


def exact(engine: Literal["faiss", "torch"], rows: Float32[Tensor, "n d"], k: int, metric: Metric) -> Propose:
    """Candidates by the scores of all rows."""
    best = _best_by_faiss if engine == "faiss" else _best_by_torch
    fetch = min(k + EXTRA, len(rows))

    def propose(queries: Tensor) -> tuple[Tensor, Tensor]:
        scores, found = best(queries, rows, fetch, metric)
        return found, scores[:, -1] if fetch < len(rows) else torch.full_like(scores[:, -1], -torch.inf)

    return propose


def hnsw(rows: Float32[Tensor, "n d"], k: int, links: int, construction: int, search: int) -> Propose:
    """Candidates by a graph of Euclidean distances, which order unit rows as the cosine does."""
    faiss = import_faiss()
    graph = faiss.IndexHNSWFlat(rows.shape[1], links)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = construction, max(search, k + EXTRA)
    graph.add(rows.numpy())

    def propose(queries: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.from_numpy(graph.search(queries.numpy(), k + EXTRA)[1])
        return found, torch.full((len(found),), -torch.inf)

    return propose


def _best_by_faiss(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    faiss = import_faiss()
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    scores, found = faiss.knn(queries.numpy(), rows.numpy(), fetch, metric=kind)
    return torch.from_numpy(scores if metric == "cosine" else -scores), torch.from_numpy(found)


def _best_by_torch(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    height, width, _ = _sizes(rows)
    best = [_running_top(part, rows, fetch, metric, width) for part in queries.split(height)]
    return torch.cat([scores for scores, _ in best]), torch.cat([found for _, found in best])


def _running_top(
    queries: Tensor, rows: Tensor, fetch: int, metric: Metric, width: int
) -> tuple[Tensor, Tensor]:
    best, found = queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(rows), width):
        part = rows[start : start + width]
        scores = queries @ part.T
        if metric == "euclidean":
            scores = 2 * scores - part.square().sum(dim=1) - queries.square().sum(dim=1, keepdim=True)
        top = scores.topk(min(fetch, len(part)))
        best, found = torch.cat([best, top.values], dim=1), torch.cat([found, top.indices + start], dim=1)
        best, order = best.topk(min(fetch, best.shape[1]))
        found = found.gather(1, order)
    return best, found


def import_faiss() -> Any:
    """faiss, with as many threads as torch has, and with BLAS for few queries too. ParamsError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise ParamsError(
            f"faiss cannot be used ({error}); pip install 'noisyctl[cpu]', or choose engine torch"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_threshold = (
        20  # 1.15 has 128,000 queries x d: the last block took 8 times as long
    )
    return faiss


def _sizes(rows: Tensor) -> tuple[int, int, int]:
    return SIZES["cpu" if rows.device.type == "cpu" else "cuda"]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32: `_error` holds for float32 only."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
