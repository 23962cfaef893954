"""Exact nearest neighbors, the same by every engine, and the vote of their labels.

Order: decreasing similarity, ties by ascending index, without the sample itself. Similarity is the cosine, or minus the
squared Euclidean distance; it is computed in float64 and rounded to float32, and what is equal then is a tie.

  [1] an engine (faiss, or torch in tiles) proposes k + 8 candidates by float32 scores
  [2] their similarities are computed anew and order them
  [3] rows where rounding or ties could hide a better sample behind the last candidate are searched again in float64, and
      where even that cannot tell (more duplicates than candidates), every sample is compared

So neither the engine, the blocks nor the number of threads changes a neighbor. Nothing of size n x n is ever held.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Tensor

from noisyctl.errors import DataError, ParamsError

BLOCK = 4096
EXTRA = 8  # candidates beyond k
LARGEST = 1e18  # of a row's norm: its square is still a float32
ROUNDING = 2**-23  # of a similarity, to float32; twice what it can be
TILE = {"cpu": (512, 8192), "cuda": (4096, 65536)}  # queries x rows that are scored at a time
WORK = 2**22  # float64 numbers of candidates held at a time

Engine = Literal["auto", "faiss", "torch"]
Metric = Literal["cosine", "euclidean"]
Propose = Callable[[Tensor, Tensor, int, Metric], tuple[Tensor, Tensor]]


@runtime_checkable
class Rows(Protocol):
    """Anything of two axes that is read by slices of rows: a tensor, a numpy or a zarr array."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@torch.no_grad()
def mine(
    features: Rows,
    k: int,
    engine: Engine = "auto",
    *,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
    block: int = BLOCK,
) -> tuple[Int32[Tensor, "n k"], Float32[Tensor, "n k"]]:
    """Indices and similarities of the k nearest neighbors of every row, read and compared `block` rows at a time.

    `device` is that of the features if not given, the CPU for arrays. One float32 copy of the features is held there.
    """
    n, home = features.shape[0], torch.device(str(device or getattr(features, "device", "cpu")))
    _check_k(k, n - 1)
    propose = _faiss_candidates if choose_engine(engine, home) == "faiss" else _torch_candidates
    rows, zero = _prepare(features, metric, home, block)
    if metric == "cosine":
        _refuse(zero, "are all zero and have no direction")
    if all(bool((part == rows[0]).all()) for part in rows.split(block)):
        raise DataError(f"all {n} feature rows are equal: the encoder has collapsed; train it longer or anew")
    return _mine(rows, k, metric, propose, block)


@torch.no_grad()
def nearest(features: Float[Tensor, "n d"], k: int, metric: Metric = "euclidean") -> Int[Tensor, "n k"]:
    """The k nearest rows of every row, without itself, on the device of the features."""
    _check_k(k, len(features) - 1)
    rows, _ = _prepare(features, metric, features.device, BLOCK)
    return _mine(rows, k, metric, _torch_candidates, BLOCK)[0].long()


def knn_vote(
    neighbor_labels: Int[Tensor, "n k"],
    similarity: Float[Tensor, "n k"],
    num_classes: int,
    temperature: float,
) -> Float[Tensor, "n c"]:
    """Shares of the classes among the neighbors, weighted by exp(similarity / temperature); equally where that is inf."""
    weights = (similarity / temperature).softmax(dim=1)
    votes = torch.zeros(len(weights), num_classes, dtype=weights.dtype, device=weights.device)
    return votes.scatter_add_(1, neighbor_labels.long(), weights)


@torch.no_grad()
def knn_classify(
    queries: Float[Tensor, "q d"],
    database: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    k: int,
    num_classes: int,
    temperature: float = 0.1,
) -> Int[Tensor, " q"]:
    """The class with the largest vote among the k rows of largest cosine; all rows vote where there are fewer."""
    asked, rows = (_prepare(x, "cosine", database.device, BLOCK)[0] for x in (queries, database))
    none = torch.full((len(asked),), -1, device=rows.device)
    found, similarity = _neighbors(asked, none, rows, min(k, len(rows)), "cosine", _torch_candidates)
    return knn_vote(labels[found], similarity, num_classes, temperature).argmax(dim=1)


def choose_engine(engine: Engine, device: torch.device) -> str:
    """faiss on the CPU where it is installed, torch elsewhere."""
    if engine == "torch" or (engine == "auto" and device.type != "cpu"):
        return "torch"
    if device.type != "cpu":
        raise ParamsError(
            f"faiss searches on the CPU here, not on {device}; choose engine torch or device cpu"
        )
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        if engine == "auto":
            return "torch"
        raise ParamsError(
            f"faiss cannot be used ({error}); pip install 'noisyctl[cpu]', or choose engine torch"
        ) from error
    return "faiss"


def _check_k(k: int, largest: int) -> None:
    if not 1 <= k <= largest:
        cure = f"choose k from 1 to {largest}" if largest > 0 else "give at least two samples"
        raise ParamsError(f"k is {k} for {largest + 1} samples; {cure}")


def _prepare(
    features: Rows, metric: Metric, device: torch.device, block: int
) -> tuple[Float32[Tensor, "n d"], Bool[Tensor, " n"]]:
    """A float32 copy of the rows, for the cosine of norm 1, and which of them are zero. DataError on rows with NaN."""
    n, d = features.shape
    rows, norms = torch.empty(n, d, device=device), torch.empty(n, dtype=torch.float64, device=device)
    for start in range(0, n, block):
        part = _read(features, start, start + block).to(device=device, dtype=torch.float64)
        norms[start : start + block] = norm = part.norm(dim=1)
        tiny = torch.finfo(torch.float64).tiny
        rows[start : start + block] = part / norm.clamp(min=tiny)[:, None] if metric == "cosine" else part
    _refuse(~(norms < LARGEST), f"hold NaN, infinity or values beyond {LARGEST:g}")
    return rows, norms == 0


def _read(features: Rows, start: int, stop: int) -> Float[Tensor, "m d"]:
    part = features[start:stop]
    return part if isinstance(part, Tensor) else torch.tensor(np.asarray(part))


def _refuse(wrong: Bool[Tensor, " n"], what: str) -> None:
    if bool(wrong.any()):
        found = wrong.nonzero().ravel().tolist()
        raise DataError(
            f"{len(found)} of {len(wrong)} feature rows {what} (rows {found[:5]}); remake the features"
        )


def _mine(
    rows: Tensor, k: int, metric: Metric, propose: Propose, block: int
) -> tuple[Int32[Tensor, "n k"], Float32[Tensor, "n k"]]:
    own = torch.arange(len(rows), device=rows.device)
    indices = torch.empty(len(rows), k, dtype=torch.int32, device=rows.device)
    similarity = torch.empty(len(rows), k, device=rows.device)
    for index in own.split(block):
        part = slice(int(index[0]), int(index[-1]) + 1)
        indices[part], similarity[part] = _neighbors(rows[part], index, rows, k, metric, propose)
    return indices, similarity


def _neighbors(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
    propose: Propose,
) -> tuple[Int[Tensor, "q k"], Float32[Tensor, "q k"]]:
    """The k rows nearest to each query, without the row `own`."""
    with _full_precision(rows.device):
        keys, unsure = _among_candidates(queries, own, rows, k, metric, propose)  # [1] [2]
        if len(unsure):  # [3]
            asked, itself = queries[unsure], own[unsure]
            again, still = _among_candidates(asked.double(), itself, rows, k, metric, _torch_candidates)
            if len(still):
                again[still] = _among_all(asked[still], itself[still], rows, k, metric)
            keys[unsure] = again
    return _unpack(keys)


def _among_candidates(
    queries: Float[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
    propose: Propose,
) -> tuple[Int[Tensor, "q k"], Int[Tensor, " u"]]:
    """Keys of the k best candidates, and the queries to which a row that was not proposed could be nearer."""
    fetch = min(k + EXTRA, len(rows))
    scores, found = propose(queries, rows, fetch, metric)
    size = max(1, WORK // (fetch * rows.shape[1]))
    pairs = zip(queries.split(size), found.split(size), strict=True)
    similarity = torch.cat([_similarity(q[:, None], rows[f], metric)[:, 0] for q, f in pairs])
    keys = _keys(similarity, found, own).topk(k).values
    if fetch == len(rows):
        return keys, own[:0]
    kth = _unpack(keys)[1][:, -1].double()
    hidden = scores.amin(dim=1) + _error(queries, kth, metric)
    return keys, (kth <= hidden).nonzero()[:, 0]


def _among_all(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    k: int,
    metric: Metric,
) -> Int[Tensor, "q k"]:
    """Keys of the k nearest of all rows."""
    height, width = TILE["cpu"]
    best = [own.new_empty(len(q), 0) for q in queries.split(height)]
    for index in torch.arange(len(rows), device=rows.device).split(width):
        for i, (asked, itself) in enumerate(zip(queries.split(height), own.split(height), strict=True)):
            keys = _keys(_similarity(asked, rows[index], metric), index[None], itself)
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


def _error(queries: Float[Tensor, "q d"], kth: Float[Tensor, " q"], metric: Metric) -> Float[Tensor, " q"]:
    """Bound on the error of a score computed in the dtype of `queries`, for rows that could be as near as the k-th.

    A sum of d products has at most d times the unit roundoff of the sum of their magnitudes, in whatever order (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 3.1); 8 more cover the other steps.
    """
    unit = (queries.shape[1] + 8) * torch.finfo(queries.dtype).eps / 2
    if metric == "cosine":
        return unit + ROUNDING * kth.abs()
    norms, distance = queries.double().norm(dim=1), (-kth).sqrt()
    return unit * (2 * norms + distance) ** 2 + ROUNDING * distance**2


def _keys(
    similarity: Float32[Tensor, "q m"], index: Int[Tensor, "#q m"], own: Int[Tensor, " q"]
) -> Int[Tensor, "q m"]:
    """Integers in the order of (similarity, -index), the own row last: topk of them has no ties."""
    bits = (similarity + 0.0).view(torch.int32)  # + 0.0: there is no -0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    keys = (ordered << 32) + (0x7FFFFFFF - index)
    return keys.masked_fill(index == own[:, None], torch.iinfo(torch.int64).min)


def _unpack(keys: Int[Tensor, "q k"]) -> tuple[Int[Tensor, "q k"], Float32[Tensor, "q k"]]:
    ordered = (keys >> 32).int()
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return 0x7FFFFFFF - (keys & 0x7FFFFFFF), bits.view(torch.float32)


def _torch_candidates(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """The best `fetch` scores and their rows, a tile at a time, in the dtype of `queries`."""
    height, width = TILE["cpu" if rows.device.type == "cpu" else "cuda"]
    found = [_running_top(q, rows, fetch, metric, width) for q in queries.split(height)]
    scores, indices = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(indices)


def _running_top(
    queries: Tensor, rows: Tensor, fetch: int, metric: Metric, width: int
) -> tuple[Tensor, Tensor]:
    best, found = queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(rows), width):
        part = rows[start : start + width].to(queries.dtype)
        scores = queries @ part.T
        if metric == "euclidean":
            scores = 2 * scores - part.square().sum(dim=1) - queries.square().sum(dim=1, keepdim=True)
        top = scores.topk(min(fetch, len(part)))
        best, found = torch.cat([best, top.values], dim=1), torch.cat([found, top.indices + start], dim=1)
        best, order = best.topk(min(fetch, best.shape[1]))
        found = found.gather(1, order)
    return best, found


def _faiss_candidates(queries: Tensor, rows: Tensor, fetch: int, metric: Metric) -> tuple[Tensor, Tensor]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    scores, found = faiss.knn(queries.numpy(), rows.numpy(), fetch, metric=kind)
    return torch.from_numpy(scores if metric == "cosine" else -scores), torch.from_numpy(found)


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
