"""A comparison with every row that stays cheap where rows lie close together: float32 scores around a nearby center.

In a tight cluster, similarities differ by less than the error of a float32 score, so the scores of an ordinary search
cannot tell its rows apart. With rows and queries taken relative to a center c of the cluster, q' = q - c and b' = b - c,

    q . b = q' . b' + h(b) + K(q),      h(b) = (|b|^2 - 1 - |b'|^2) / 2,      K(q) = (1 + |q|^2 - |q'|^2) / 2,

and minus the squared distance is 2 (q' . b' + h(b)) + K(q) with h(b) = -|b'|^2 / 2 and K(q) = -|q'|^2. The error of the
float32 score q' . b' + h(b) is proportional to the squares of the small q' and b', not to those of q and b. K and the
bound of the error are computed in float64.

  [1] Queries are grouped around some of them, each of which is the center of its group.
  [2] The k-th best candidate that a query has is a lower bound. A row whose score is below it by more than the largest
      possible error is neither nearer nor, in a tie, earlier. Rows are scored in the order of their index, so that of rows
      as near as the k-th only those before it count.
      Where very many survive, the best scores of the block give a better bound.
  [3] What survives is decided by the exact similarities. Where much survives, all rows of the block are compared exactly.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from noisyctl.parts._order import Metric, keys_of, similarity_of, unpack

GROUPS = 64  # centers at most, and queries for each of them at least
FAR = 1.5  # a center is near enough at this many times the distance of the k-th neighbor
FINE = (
    2**-28
)  # an error of cosines that is small enough: an eighth of the distance of neighboring float32 below 1
FIRST = 512  # rows of the first block; every block is twice as wide as the one before it
LOOSE = 4  # where more than k times this survive, a better bound is looked for first
MANY = 16  # where more than one row in so many survives, a block is compared exactly
TINY = 2**-48  # more than the rounding of a few float64 operations on cosines
LOWEST = torch.iinfo(torch.int64).min
WORD = 8  # booleans that are looked at together


class Sizes(NamedTuple):
    """Queries and rows that are scored at a time, and float64 numbers that are held at a time."""

    height: int
    width: int
    held: int


class _Block(NamedTuple):
    """Rows relative to a center: b', h, the largest | |b|^2 - 1 | / 2 (0 for distances), and the rows themselves."""

    first: int
    shifted: Float32[Tensor, "w d"]
    offset: Float32[Tensor, " w"]
    excess: float
    rows: Float32[Tensor, "w d"]


class _Queries(NamedTuple):
    """Queries relative to a center: q', its norm, |q|^2, and K; in float64 but for q' and the queries themselves."""

    own: Int[Tensor, " q"]
    rows: Float32[Tensor, "q d"]
    shifted: Float32[Tensor, "q d"]
    norm: Float[Tensor, " q"]
    square: Float[Tensor, " q"]
    constant: Float[Tensor, " q"]


def among_all(
    queries: Float32[Tensor, "q d"],
    own: Int[Tensor, " q"],
    rows: Float32[Tensor, "n d"],
    floor: Int[Tensor, "q k"],
    metric: Metric,
    sizes: Sizes,
) -> Int[Tensor, "q k"]:
    """The keys of the k nearest rows of each query. `floor` are those of its candidates, the best first."""
    best = torch.full_like(floor, LOWEST)
    for center, members in _groups(queries, floor[:, -1], metric):  # [1]
        parts = [
            (index, _queries(queries[index], own[index], center, metric))
            for index in members.split(sizes.height)
        ]
        for start, stop in _spans(len(rows), sizes.width):
            block = _block(rows[start:stop], start, center, metric)
            for index, part in parts:
                who, keys = _survivors(part, block, best[index], floor[index, -1], metric, sizes)
                if len(who):
                    best[index] = _merge(best[index], who, keys)
    return best


def _spans(n: int, width: int) -> Iterator[tuple[int, int]]:
    """The first and the last row of each block. The first blocks are small: they tell which rows of a tie come first."""
    start, wide = 0, min(FIRST, width)
    while start < n:
        yield start, min(start + wide, n)
        start, wide = start + wide, min(2 * wide, width)


def _groups(
    queries: Float32[Tensor, "q d"], kth: Int[Tensor, " q"], metric: Metric
) -> Iterator[tuple[Float32[Tensor, " d"], Int[Tensor, " m"]]]:
    """Centers and the positions of the queries that are nearest to each: farthest-first, until all are near enough."""
    similarity = unpack(kth[:, None])[1][:, 0].double()
    near = (2 - 2 * similarity if metric == "cosine" else -similarity).clamp(min=0).sqrt()
    fine = (FINE / (FAR * _unit(queries.shape[1]))) ** 0.5 if metric == "cosine" else 0
    scale = near.clamp(min=max(fine, torch.finfo(torch.float64).tiny)).float().clamp(min=1e-30)
    nearest = torch.full_like(scale, torch.inf)
    group = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    centers = [0]
    for number in range(min(GROUPS, len(queries) // GROUPS + 1)):
        distance = (queries - queries[centers[number]]).norm(dim=1) / scale
        group = torch.where(distance < nearest, number, group)
        nearest = torch.minimum(distance, nearest)
        worst = int(nearest.argmax())
        if float(nearest[worst]) <= FAR:
            break
        centers.append(worst)
    for number, center in enumerate(centers):
        members = (group == number).nonzero()[:, 0]
        if len(members):
            yield queries[center], members


def _queries(
    queries: Float32[Tensor, "q d"], own: Int[Tensor, " q"], center: Float32[Tensor, " d"], metric: Metric
) -> _Queries:
    exact = queries.double() - center.double()
    away, square = exact.square().sum(dim=1), queries.double().square().sum(dim=1)
    constant = (1 + square - away) / 2 if metric == "cosine" else -away
    return _Queries(own, queries, queries - center, away.sqrt(), square, constant)


def _block(rows: Float32[Tensor, "w d"], first: int, center: Float32[Tensor, " d"], metric: Metric) -> _Block:
    shifted = rows - center
    offset = -torch.linalg.vecdot(shifted.double(), shifted.double()) / 2
    excess = 0.0
    if metric == "cosine":
        more = (torch.linalg.vecdot(rows.double(), rows.double()) - 1) / 2
        offset, excess = offset + more, float(more.abs().max())
    return _Block(first, shifted, offset.float(), excess, rows)


def _survivors(
    part: _Queries,
    block: _Block,
    best: Int[Tensor, "q k"],
    floor: Int[Tensor, " q"],
    metric: Metric,
    sizes: Sizes,
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Rows of the block that may belong to the best: the positions of their queries, ascending, and their keys."""
    bound, k = torch.maximum(best[:, -1], floor), best.shape[1]
    scores = torch.addmm(block.offset, part.shifted, block.shifted.T)
    hits = _hits(scores >= _threshold(part, block, bound, metric)[:, None])  # [2]
    if len(hits) > LOOSE * k * len(part.rows) and scores.shape[1] > k:
        top = scores.topk(k + 1).indices  # one of them may be the query itself
        who = torch.arange(len(top), device=top.device).repeat_interleave(k + 1)
        keys = _exact(part, block, who, top.reshape(-1), metric, sizes).view(len(top), -1)
        bound = torch.maximum(bound, torch.cat([best, keys], dim=1).topk(k).values[:, -1])
        hits = _hits(scores >= _threshold(part, block, bound, metric)[:, None])
    if len(hits) * MANY > scores.numel():
        return _all_of(part, block, bound, metric)
    who, where = hits.unbind(dim=1)
    keys = _exact(part, block, who, where, metric, sizes)  # [3]
    kept = keys >= bound[who]
    return who[kept], keys[kept]


def _exact(
    part: _Queries,
    block: _Block,
    who: Int[Tensor, " s"],
    where: Int[Tensor, " s"],
    metric: Metric,
    sizes: Sizes,
) -> Int[Tensor, " s"]:
    """The keys of pairs of a query and a row of the block."""
    size = max(1, sizes.held // block.rows.shape[1])
    pairs = zip(who.split(size), where.split(size), strict=True)
    similarity = torch.cat(
        [similarity_of(part.rows[w][:, None], block.rows[b][:, None], metric)[:, 0, 0] for w, b in pairs]
    )
    return keys_of(similarity[:, None], where[:, None] + block.first, part.own[who])[:, 0]


def _all_of(
    part: _Queries, block: _Block, bound: Int[Tensor, " q"], metric: Metric
) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """The same from the exact similarities of all rows of the block."""
    index = torch.arange(block.first, block.first + len(block.rows), device=bound.device)
    keys = keys_of(similarity_of(part.rows, block.rows, metric), index[None], part.own)
    hits = _hits(keys >= bound[:, None])
    return hits[:, 0], keys[hits[:, 0], hits[:, 1]]


def _threshold(
    part: _Queries, block: _Block, bound: Int[Tensor, " q"], metric: Metric
) -> Float32[Tensor, " q"]:
    """The least float32 score that a row of the block can have whose key is not below the bound.

    A sum of d products has an error of at most d times the unit roundoff times the sum of their magnitudes, in
    whatever order they are added (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). The 8 that
    `_unit` adds to d covers h, and the rounding of q', b', h and the threshold; d times the smallest normal number
    covers products that are too small for float32.
    """
    index, kth = unpack(bound[:, None])
    index, kth = index[:, 0], kth[:, 0].masked_fill(bound == LOWEST, -torch.inf)
    d, away = part.rows.shape[1], torch.where(index < block.first, torch.inf, -torch.inf)
    edge = (
        kth.double() + torch.nextafter(kth, away.to(kth)).double()
    ) / 2  # what still rounds to kth, or to more
    if metric == "cosine":
        square = (part.square + 1 + 2 * block.excess - 2 * edge).clamp(min=0) + TINY
        least = edge - part.constant - TINY
    else:
        edge = (
            edge - (d + 8) * torch.finfo(torch.float64).eps * edge.abs()
        )  # _order sums up distances in float64
        square = (-edge).clamp(min=0)
        least = (edge - part.constant) / 2
    reach = part.norm + square.sqrt()  # at most the norm of b' of such a row
    error = _unit(d) * (part.norm * reach + reach.square() / 2 + block.excess)
    return (least - error - d * torch.finfo(torch.float32).tiny).float()


def _unit(d: int) -> float:
    return (d + 8) * torch.finfo(torch.float32).eps / 2


def _hits(mask: Bool[Tensor, "q w"]) -> Int[Tensor, "s 2"]:
    """mask.nonzero(), which is several times faster where few are true and words of eight can be looked at."""
    if mask.shape[1] % WORD:
        return mask.nonzero()
    who, word = mask.view(torch.int64).nonzero().unbind(dim=1)
    found = mask.view(len(mask), -1, WORD)[who, word].nonzero()
    return torch.stack([who[found[:, 0]], word[found[:, 0]] * WORD + found[:, 1]], dim=1)


def _merge(best: Int[Tensor, "q k"], who: Int[Tensor, " s"], keys: Int[Tensor, " s"]) -> Int[Tensor, "q k"]:
    """The k largest keys of each query, of those it has and of new ones, whose queries ascend."""
    affected, counts = who.unique_consecutive(return_counts=True)
    row = torch.arange(len(affected), device=who.device).repeat_interleave(counts)
    place = torch.arange(len(who), device=who.device) - (counts.cumsum(dim=0) - counts)[row]
    fresh = best.new_full((len(affected), int(counts.max())), LOWEST)
    fresh[row, place] = keys
    best = best.clone()
    best[affected] = torch.cat([best[affected], fresh], dim=1).topk(best.shape[1]).values
    return best
