"""Exact nearest-neighbor search: fast engines propose candidates, and float64 decides among them.

Engines such as faiss compute similarities in float32, whose rounding depends on the engine, the block size and the number
of threads. So that the neighbors depend on none of these, every query is answered in three steps:

  [1] An engine proposes the k + 4 rows with the best float32 scores. Every other row has a score of at most the worst of
      these: the limit.
  [2] The similarities of the proposed rows are computed in float64 and rounded to float32. They decide the order; of rows
      with equal similarities the one with the lower index comes first.
  [3] If rounding, or a tie, could mean that a row which was not proposed is as near as the k-th, the query is compared
      with every row: see `_centered`.

An HNSW graph gives no limit for the rows that it does not propose, so its candidates are taken as they are. Step [3] then
only serves queries for which the graph proposes fewer than k rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn.functional import embedding

from noisyctl.errors import ParamsError
from noisyctl.parts import _centered
from noisyctl.parts._order import Metric, keys_of, similarity_of, unpack

EXTRA = 4  # candidates beyond k: the sample itself, and a few more to show that no nearer row was missed
ROUNDING = 2**-23  # twice the largest relative error of rounding a similarity to float32
# Queries and rows that are scored at a time, and float64 numbers of candidates held at a time (so that they fit a cache).
SIZES = {"cpu": (512, 8192, 2**18), "cuda": (4096, 65536, 2**24)}

# An engine: from queries [q d] to the indices of the rows that it proposes [q f] (-1: none), and the limits [q].
Propose = Callable[[Tensor], tuple[Tensor, Tensor]]


def search(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
    propose: Propose,
) -> tuple[Int[Tensor, "q k"], Float32[Tensor, "q k"]]:
    """The k nearest rows of each query, without the row `own`, and their similarities, nearest first.

    `own` holds the index of the row that a query is itself; -1 if the query is not among the rows. `propose` is an
    engine: `exact` or `hnsw`.
    """
    with _full_precision(rows.device):
        found, limit = propose(queries)  # [1]
        size = max(1, _sizes(rows)[2] // (found.shape[1] * rows.shape[1]))
        pairs = zip(queries.split(size), found.clamp(min=0).split(size), strict=True)
        similarity = torch.cat(
            [similarity_of(q[:, None], embedding(f, rows), metric)[:, 0] for q, f in pairs]
        )
        keys = keys_of(similarity, found, own).topk(k).values  # [2]
        kth = unpack(keys)[1][:, -1].double()
        sure = kth > limit + _error(queries, kth, metric)
        unsure = (~sure).nonzero()[:, 0]
        if len(unsure):
            some = (queries[unsure], own[unsure], rows, keys[unsure])
            keys[unsure] = _centered.among_all(*some, metric, _centered.Sizes(*_sizes(rows)))  # [3]
    return unpack(keys)


def _error(queries: Float32[Tensor, "q d"], kth: Float[Tensor, " q"], metric: Metric) -> Float[Tensor, " q"]:
    """Upper bound on the error of the float32 score of a row that could be as near as the k-th.

    A sum of d products has an error of at most d times the unit roundoff times the sum of their magnitudes, in
    whatever order they are added (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). The 8 that
    is added to d covers the other steps; d times the smallest normal number covers products that are too small for
    float32.
    """
    d, float32 = queries.shape[1], torch.finfo(torch.float32)
    unit = (d + 8) * float32.eps / 2
    if metric == "cosine":
        return unit + ROUNDING * kth.abs()
    norms, distance = queries.double().norm(dim=1), (-kth).sqrt()
    return unit * (2 * norms + distance) ** 2 + ROUNDING * distance**2 + d * float32.tiny


def exact(engine: Literal["faiss", "torch"], rows: Float32[Tensor, "n d"], k: int, metric: Metric) -> Propose:
    """An engine that proposes the rows with the best scores among all rows."""
    best = _best_by_faiss if engine == "faiss" else _best_by_torch
    fetch = min(k + EXTRA, len(rows))

    def propose(queries: Tensor) -> tuple[Tensor, Tensor]:
        scores, found = best(queries, rows, fetch, metric)
        return found, scores[:, -1] if fetch < len(rows) else torch.full_like(scores[:, -1], -torch.inf)

    return propose


def hnsw(rows: Float32[Tensor, "n d"], k: int, links: int, construction: int, search: int) -> Propose:
    """An engine that proposes rows by an HNSW graph of faiss.

    The graph uses Euclidean distances, which order unit rows in the same way as the cosine.
    """
    faiss = import_faiss()
    graph = faiss.IndexHNSWFlat(rows.shape[1], links)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = construction, max(search, k + EXTRA)
    graph.add(rows.numpy())

    def propose(queries: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.from_numpy(graph.search(queries.numpy(), k + EXTRA)[1])
        return found, torch.full((len(found),), -torch.inf)

    return propose


def _best_by_faiss(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """The `fetch` best scores of each query and their rows, by faiss."""
    faiss = import_faiss()
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    scores, found = faiss.knn(queries.numpy(), rows.numpy(), fetch, metric=kind)
    return torch.from_numpy(scores if metric == "cosine" else -scores), torch.from_numpy(found)


def _best_by_torch(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """The `fetch` best scores of each query and their rows, by torch, in blocks of queries and rows."""
    height, width, _ = _sizes(rows)
    best = [_running_top(part, rows, fetch, metric, width) for part in queries.split(height)]
    return torch.cat([scores for scores, _ in best]), torch.cat([found for _, found in best])


def _running_top(
    queries: Tensor, rows: Tensor, fetch: int, metric: Metric, width: int
) -> tuple[Tensor, Tensor]:
    """The best rows of a block of queries; blocks of rows are scored one after the other."""
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
    """faiss, set to use as many threads as torch, and BLAS also for few queries.

    Raises ParamsError if faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ParamsError(
            f"faiss cannot be used ({error}); pip install 'noisyctl[cpu]', or choose engine torch"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_threshold = (
        20  # version 1.15 has 128,000 (queries x d), with which the last block took 8 times as long
    )
    return faiss


def _sizes(rows: Tensor) -> tuple[int, int, int]:
    return SIZES["cpu" if rows.device.type == "cpu" else "cuda"]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Turn autocast and TF32 off: the bound of `_error` holds for float32 only."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
