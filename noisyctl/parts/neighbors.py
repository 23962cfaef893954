"""Nearest neighbors, which are the same for every exact engine, and the vote of their labels.

The neighbors of a sample are ordered by decreasing similarity, and by ascending index where similarities are equal; the
sample itself is not among them. The similarity is the cosine, or minus the squared Euclidean distance. It is computed in
float64 and rounded to float32.

For the cosine, rows are scaled to norm 1 and then rounded to multiples of 2^-26. In float64 the products of such numbers are
exact, and so are their sums, in whatever order they are added. Therefore the exact neighbors are the same for every engine,
every size of blocks and every number of threads. The neighbors by an HNSW graph are found faster but are not exact; their
recall is measured.

Features are read in blocks, and one copy of them is held, in float32. Nothing of size n x n is ever held.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Generator, Tensor

from noisyctl.errors import DataError, ParamsError
from noisyctl.parts import _search
from noisyctl.parts._order import Metric
from noisyctl.parts._search import Propose

BLOCK = 8192  # rows that are read, and queries that are answered, at a time
GRID = 2**26  # the entries of a unit row are rounded to multiples of 1 / GRID
JUDGED = 1000  # number of queries on which the recall is measured
LARGEST = 1e18  # limit of a row's norm, whose square is still a float32

Report = Callable[[int, int], None]  # called with the number of answered queries and of all queries
Answer = tuple[Tensor, Tensor]  # of a block of queries: indices and similarities
# called with the number of a block and what answers it; gives the answer, which may have been kept from an earlier call
Keep = Callable[[int, Callable[[], Answer]], Answer]
Engine = Literal["auto", "faiss", "torch"]


@runtime_checkable
class Rows(Protocol):
    """Anything with two axes that can be sliced by rows: a tensor, a numpy array or a zarr array."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Neighbors(NamedTuple):
    """The k nearest samples of every query, their similarities, and the recall.

    The recall is the share of these samples that exact search finds as well; 1 for exact search itself.
    """

    indices: Int32[Tensor, "q k"]
    similarity: Float32[Tensor, "q k"]
    recall: float = 1.0


@torch.no_grad()
def mine(
    features: Rows,
    k: int,
    engine: Engine = "auto",
    *,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
    queries: Int[Tensor, " q"] | None = None,
    report: Report = lambda done, total: None,
    keep: Keep = lambda number, answer: answer(),
) -> Neighbors:
    """The exact neighbors of every row, or only of the rows `queries`. They are looked for among all rows.

    Without `device` the search runs where the features are, or on the CPU if they are an array. `report` is called
    with two numbers: the queries that have been answered, and all queries. `keep` may keep the answer of each block of
    queries, and give one that it has kept. Raises ParamsError if there are k rows or fewer. Raises DataError if a row holds
    NaN or infinity, if the cosine of a row of zeros is asked for, or if all rows are equal.
    """
    rows = _checked_rows(features, k, metric, device)
    propose = _search.exact(choose_engine(engine, rows.device), rows, k, metric)
    return Neighbors(*_mine(rows, queries, k, metric, propose, report, keep))


@torch.no_grad()
def exact_search(
    features: Rows, k: int, engine: Engine = "auto", *, device: torch.device | str | None = None
) -> Callable[[Int[Tensor, " q"]], Answer]:
    """What answers a block of queries, which are numbers of rows, as `mine` does: for a process that answers some blocks.

    Raises ParamsError and DataError as `mine` does.
    """
    rows = _checked_rows(features, k, "cosine", device)
    propose = _search.exact(choose_engine(engine, rows.device), rows, k, "cosine")
    return functools.partial(_answer, rows, k, "cosine", propose)


def parts_of(n: int) -> list[range]:
    """The blocks of n queries: their rows."""
    return [range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


@torch.no_grad()
def mine_hnsw(
    features: Rows,
    k: int,
    rng: Generator,
    *,
    links: int,
    construction: int,
    search: int,
    metric: Metric = "cosine",
    report: Report = lambda done, total: None,
    keep: Keep = lambda number, answer: answer(),
) -> Neighbors:
    """The neighbors of every row by an HNSW graph of faiss, on the CPU, and their recall.

    `links`, `construction` and `search` are M, efConstruction and ef of Malkov and Yashunin 2018. The recall is measured
    by an exact search for the neighbors of at most 1,000 rows, which `rng` draws.
    """
    _search.import_faiss()
    rows = _checked_rows(features, k, metric, "cpu")
    propose = _search.hnsw(rows, k, links, construction, search)
    indices, similarity = _mine(rows, None, k, metric, propose, report, keep)
    drawn = torch.randperm(len(rows), generator=rng, device=rng.device)[:JUDGED].cpu()
    _, exact = _mine(rows, drawn, k, metric, _search.exact("faiss", rows, k, metric))
    as_near = similarity[drawn] >= exact[:, -1:]  # of equally near rows any one counts as found
    return Neighbors(indices, similarity, float(as_near.double().mean()))


@torch.no_grad()
def nearest(features: Float[Tensor, "n d"], k: int, metric: Metric = "euclidean") -> Int[Tensor, "n k"]:
    """The k nearest rows of every row, without the row itself, on the device of the features.

    Unlike in `mine`, all rows may be equal.
    """
    check_k(k, len(features) - 1)
    rows, _ = _read(features, metric, features.device)
    propose = _search.exact(choose_engine("auto", rows.device), rows, k, metric)
    return _mine(rows, None, k, metric, propose)[0].long()


def knn_vote(
    neighbor_labels: Int[Tensor, "n k"],
    similarity: Float[Tensor, "n k"],
    num_classes: int,
    temperature: float,
) -> Float[Tensor, "n c"]:
    """The share of each class among the neighbors, weighted by exp(similarity / temperature).

    With an infinite temperature all neighbors have the same weight.
    """
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
    """The class of each query by `knn_vote`: the k rows of `database` with the largest cosine vote with their labels.

    Where the database has fewer than k rows, all of them vote.
    """
    k = min(k, len(database))
    asked, rows = (_read(x, "cosine", database.device)[0] for x in (queries, database))
    propose = _search.exact(choose_engine("auto", rows.device), rows, k, "cosine")
    none = torch.full((len(asked),), -1, device=rows.device)
    found, similarity = _search.search(asked, none, rows, k, "cosine", propose)
    return knn_vote(labels[found], similarity, num_classes, temperature).argmax(dim=1)


def choose_engine(engine: Engine, device: torch.device) -> Literal["faiss", "torch"]:
    """The exact engine: for `auto`, faiss on the CPU where it is installed, and torch otherwise.

    Raises ParamsError if faiss is asked for on a device that is not the CPU.
    """
    if engine == "torch" or (engine == "auto" and device.type != "cpu"):
        return "torch"
    if device.type != "cpu":
        raise ParamsError(
            f"faiss searches on the CPU here, not on {device}; choose engine torch or device cpu"
        )
    try:
        _search.import_faiss()
    except ParamsError:
        if engine == "auto":
            return "torch"
        raise
    return "faiss"


def _checked_rows(
    features: Rows, k: int, metric: Metric, device: torch.device | str | None
) -> Float32[Tensor, "n d"]:
    n = features.shape[0]
    check_k(k, n - 1)
    rows, zero = _read(features, metric, torch.device(str(device or getattr(features, "device", "cpu"))))
    if metric == "cosine":
        _refuse(zero, "are all zero and have no direction")
    low, high = rows.aminmax(dim=0)
    if torch.equal(low, high):
        raise DataError(f"all {n} feature rows are equal: the encoder has collapsed; train it longer or anew")
    return rows


def check_k(k: int, largest: int) -> None:
    """Raises ParamsError where k is not from 1 to `largest`, the number of other rows."""
    if not 1 <= k <= largest:
        cure = f"choose k from 1 to {largest}" if largest > 0 else "give at least two samples"
        raise ParamsError(f"k is {k} for {largest + 1} samples; {cure}")


def _read(
    features: Rows, metric: Metric, device: torch.device
) -> tuple[Float32[Tensor, "n d"], Bool[Tensor, " n"]]:
    """A float32 copy of the rows, scaled to norm 1 for the cosine, and a mask of those that are zero.

    Raises DataError if rows hold NaN, infinity or very large values.
    """
    n, d = features.shape
    rows, norms = torch.empty(n, d, device=device), torch.empty(n, dtype=torch.float64, device=device)
    for start in range(0, n, BLOCK):
        part, stop = features[start : start + BLOCK], min(start + BLOCK, n)
        part = part if isinstance(part, Tensor) else torch.tensor(np.asarray(part))
        part = part.to(device, torch.float64)
        norms[start:stop] = norm = part.norm(dim=1)
        if metric == "cosine":
            part = part / norm.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
            part = (part * GRID).round() / GRID
        rows[start:stop] = part
    _refuse(~(norms < LARGEST), f"hold NaN, infinity or values beyond {LARGEST:g}")
    return rows, norms == 0


def _refuse(wrong: Bool[Tensor, " n"], what: str) -> None:
    if bool(wrong.any()):
        found = wrong.nonzero().ravel().tolist()
        raise DataError(
            f"{len(found)} of {len(wrong)} feature rows {what} (rows {found[:5]}); remake the features"
        )


def _mine(
    rows: Tensor,
    queries: Tensor | None,
    k: int,
    metric: Metric,
    propose: Propose,
    report: Report = lambda done, total: None,
    keep: Keep = lambda number, answer: answer(),
) -> tuple[Int32[Tensor, "q k"], Float32[Tensor, "q k"]]:
    queries = torch.arange(len(rows)) if queries is None else queries
    indices = torch.empty(len(queries), k, dtype=torch.int32, device=rows.device)
    similarity = torch.empty(len(queries), k, device=rows.device)
    for number, some in enumerate(parts_of(len(queries))):
        part = slice(some.start, some.stop)
        indices[part], similarity[part] = keep(
            number, functools.partial(_answer, rows, k, metric, propose, queries[part])
        )
        report(some.stop, len(queries))
    return indices, similarity


def _answer(rows: Tensor, k: int, metric: Metric, propose: Propose, queries: Tensor) -> Answer:
    own = queries.to(rows.device)
    return _search.search(rows[own], own, rows, k, metric, propose)
