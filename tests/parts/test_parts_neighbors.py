"""Neighbors: an oracle in exact arithmetic, ties, duplicates, scales, both engines, blocks, arrays on disk; the graph."""

import builtins
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisyctl.errors import DataError, ParamsError
from noisyctl.parts import _centered, _search, neighbors
from noisyctl.seeds import stream

ENGINES = ("faiss", "torch")
METRICS = ("cosine", "euclidean")
GRAPH = {"links": 16, "construction": 60, "search": 60}
both_engines = pytest.mark.parametrize("engine", ENGINES)
both_metrics = pytest.mark.parametrize("metric", METRICS)


def draw(n: int, d: int, name: str = "f") -> Tensor:
    return torch.randn(n, d, generator=stream(0, name))


def oracle(features: Tensor, k: int, metric: str) -> list[list[int]]:
    """Every pair by itself in float64, nearest first, equal ones by index; unit rows as the module defines them."""
    rows = features.double().numpy()
    if metric == "cosine":
        rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
        rows = (np.round(rows * 2**26) / 2**26).astype(np.float32).astype(float)
        near = [[math.fsum(a * b) for b in rows] for a in rows]
    else:
        near = [[-math.fsum((a - b) ** 2) for b in rows] for a in rows]
    return [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j, i=i: (-np.float32(near[i][j]), j))[:k]  # type: ignore[misc]
        for i in range(len(rows))
    ]


@both_metrics
@both_engines
@pytest.mark.parametrize(("n", "d", "k"), [(2, 3, 1), (6, 3, 5), (90, 16, 7)])
def test_neighbors_equal_the_oracle(engine: Any, metric: Any, n: int, d: int, k: int) -> None:
    features = draw(n, d)
    found = neighbors.mine(features, k, engine, metric=metric)
    assert found.indices.tolist() == oracle(features, k, metric)
    assert found.recall == 1
    assert (found.similarity[:, :-1] >= found.similarity[:, 1:]).all()


@both_engines
def test_angles_by_hand(engine: Any) -> None:
    """At 0, 10, 90 and 180 degrees, of any length: the cosine sees directions only."""
    angles = torch.tensor([0.0, 10.0, 90.0, 180.0], dtype=torch.float64).deg2rad()
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [1e-6], [3e5], [2.0]])
    found = neighbors.mine(rows, 3, engine)
    assert found.indices.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    cosines = torch.tensor([[10.0, 90.0, 180.0]]).deg2rad().cos()
    torch.testing.assert_close(found.similarity[:1], cosines, atol=1e-6, rtol=0)


@both_engines
def test_points_on_a_line_by_hand(engine: Any) -> None:
    points = torch.tensor([[0.0], [1.0], [5.0], [6.5]])
    found = neighbors.mine(points, 2, engine, metric="euclidean")
    assert found.indices.tolist() == [[1, 2], [0, 2], [3, 1], [2, 1]]
    assert found.similarity.tolist() == [[-1, -25], [-1, -16], [-2.25, -16], [-2.25, -30.25]]


@both_metrics
@both_engines
def test_ties_come_by_index(engine: Any, metric: Any) -> None:
    """The eight directions of a compass: from north (0), north-east (1) and north-west (7) are equally near."""
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    compass = torch.stack([angles.sin(), angles.cos()], dim=1).mul(2**20).round()
    found = neighbors.mine(compass, 7, engine, metric=metric)
    assert found.indices[0].tolist() == [1, 7, 2, 6, 3, 5, 4]
    assert found.indices[1].tolist()[:2] == [0, 2]


@both_metrics
@both_engines
def test_many_duplicates_come_by_index_without_the_sample_itself(engine: Any, metric: Any) -> None:
    """Three rows, forty times each: more equal rows than any engine proposes."""
    features = draw(3, 8).repeat_interleave(40, dim=0)
    found = neighbors.mine(features, 5, engine, metric=metric)
    for i, row in enumerate(found.indices.tolist()):
        start = i // 40 * 40
        assert row == [j for j in range(start, start + 6) if j != i][:5]
    assert found.similarity.unique().tolist() == ([1.0] if metric == "cosine" else [0.0])


@both_engines
def test_scaled_copies_are_ties_of_the_cosine(engine: Any) -> None:
    features = draw(1, 8) * torch.arange(1, 31)[:, None]
    features = torch.cat([features, -features[:1]])
    assert neighbors.mine(features, 3, engine).indices[:5].tolist() == [
        [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2],
    ]  # fmt: skip


@both_metrics
@both_engines
def test_rows_closer_than_float32_scores_can_tell_are_ordered_in_float64(engine: Any, metric: Any) -> None:
    """Steps of 1e-4 are squared distances of 1e-8 beside norms of 4; of 2e-3, cosines that differ by 4e-7."""
    features = torch.ones(60, 4)
    features[:, 0] += torch.arange(60).flip(0) * (1e-4 if metric == "euclidean" else 2e-3)
    assert neighbors.mine(features, 4, engine, metric=metric).indices[0].tolist() == [1, 2, 3, 4]
    assert neighbors.mine(features, 4, engine, metric=metric).indices[-1].tolist() == [58, 57, 56, 55]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 40), d=st.integers(1, 9), metric=st.sampled_from(METRICS))
def test_engines_agree_on_few_values_and_many_ties(seed: int, n: int, d: int, metric: Any) -> None:
    features = torch.randint(-1, 2, (n, d), generator=stream(seed, "few")).float()
    features[features.norm(dim=1) == 0] = 1
    if (features == features[0]).all():
        features[0, 0] = 7 if d > 1 else -features[0, 0]
    k = int(torch.randint(1, n, (), generator=stream(seed, "k")))
    one, other = (neighbors.mine(features, k, engine, metric=metric) for engine in ENGINES)  # type: ignore[arg-type]
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one.similarity, other.similarity)
    assert one.indices.tolist() == oracle(features, k, metric)


@both_metrics
def test_neither_engine_nor_blocks_nor_tiles_nor_threads_change_a_bit(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.cat([draw(70, 33), draw(20, 33) * 0.01 + 1, draw(1, 33).expand(15, 33)])
    first = neighbors.mine(features, 6, "faiss", metric=metric)
    for block, tile in [(5, (3, 29, 1)), (1000, (64, 11, 2**12))]:
        monkeypatch.setattr(neighbors, "BLOCK", block)
        monkeypatch.setitem(_search.SIZES, "cpu", tile)
        for engine in ENGINES:
            found = neighbors.mine(features, 6, engine, metric=metric)  # type: ignore[arg-type]
            assert torch.equal(found.indices, first.indices)
            assert torch.equal(found.similarity, first.similarity)
    torch.set_num_threads(2)
    try:
        assert torch.equal(neighbors.mine(features, 6, "faiss", metric=metric).indices, first.indices)
    finally:
        torch.set_num_threads(1)


def test_cosines_are_exact_so_the_order_of_the_features_does_not_matter() -> None:
    """Sums of products of a unit row's values need no rounding: checked against fractions."""
    features = draw(40, 130)
    rows, _ = neighbors._read(features, "cosine", torch.device("cpu"))
    first, second = ([Fraction(value) for value in row.tolist()] for row in rows[:2])
    exact = sum((a * b for a, b in zip(first, second, strict=True)), Fraction())
    assert Fraction(float(rows[0].double() @ rows[1].double())) == exact
    turned = features[:, torch.randperm(130, generator=stream(0, "p"))]
    assert torch.equal(neighbors.mine(features, 9).similarity, neighbors.mine(turned, 9).similarity)


@both_metrics
def test_constant_features_change_nothing_but_the_cosine(metric: Any) -> None:
    """A column of zeros changes no cosine, a column of any constant no distance."""
    features = draw(50, 5)
    constant = torch.full((50, 1), 0.0 if metric == "cosine" else 3.0)
    more = torch.cat([features, constant], dim=1)
    assert torch.equal(
        neighbors.mine(features, 6, metric=metric).indices, neighbors.mine(more, 6, metric=metric).indices
    )


@both_metrics
def test_arrays_of_numpy_and_of_zarr_equal_the_tensor(
    metric: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 32)
    features = draw(100, 6)
    stored = zarr.create_array(tmp_path / "f.zarr", shape=(100, 6), chunks=(24, 6), dtype="float32")
    stored[...] = features.numpy()
    first = neighbors.mine(features, 4, metric=metric)
    for other in (features.numpy(), stored, features.double(), features.numpy().astype(np.float64)):
        found = neighbors.mine(other, 4, metric=metric)
        assert torch.equal(found.indices, first.indices)
        assert torch.equal(found.similarity, first.similarity)


def test_the_features_are_not_changed() -> None:
    features = draw(20, 4)
    before = features.clone()
    neighbors.mine(features, 3)
    neighbors.mine(features, 3, metric="euclidean")
    assert torch.equal(features, before)


@both_engines
def test_some_queries_are_the_rows_of_all(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 2)
    features, queries = draw(40, 4), torch.tensor([7, 3, 39, 3, 0])
    every, some = (
        neighbors.mine(features, 5, engine), neighbors.mine(features, 5, engine, queries=queries)
    )  # fmt: skip
    assert torch.equal(some.indices, every.indices[queries])
    assert torch.equal(some.similarity, every.similarity[queries])
    assert neighbors.mine(features, 5, engine, queries=queries[:0]).indices.shape == (0, 5)


@both_metrics
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_neither_tiny_nor_huge_features_lose_the_order(metric: Any, scale: float) -> None:
    """Squares of 1e-30 are below a float32: then all distances are equal, and the index decides."""
    features = draw(60, 8).double() * scale
    for engine in ENGINES:
        found = neighbors.mine(features, 5, engine, metric=metric)  # type: ignore[arg-type]
        assert found.indices.tolist() == oracle(features.float(), 5, metric)


def test_engines_agree_where_squares_have_few_bits_left() -> None:
    features = draw(60, 8) * 1e-21
    one, other = (neighbors.mine(features, 5, engine, metric="euclidean") for engine in ENGINES)  # type: ignore[arg-type]
    assert torch.equal(one.indices, other.indices)
    assert one.indices.tolist() == oracle(features, 5, "euclidean")


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (9, 5), (-1, 5)])
def test_k_out_of_range_names_the_largest(k: int, n: int) -> None:
    message = f"k is {k} for 5 samples; choose k from 1 to 4"
    for call in (neighbors.mine, neighbors.nearest):
        with pytest.raises(ParamsError, match=message):
            call(draw(n, 3), k)  # type: ignore[operator]


def test_one_sample_has_no_neighbor() -> None:
    with pytest.raises(ParamsError, match="k is 1 for 1 samples; give at least two samples"):
        neighbors.mine(draw(1, 3), 1)


@both_metrics
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e19])
def test_rows_that_hold_no_numbers_are_named(
    metric: Any, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 4)
    features = draw(10, 3)
    features[2, 1] = features[9, 0] = bad
    with pytest.raises(DataError, match=r"2 of 10 feature rows hold NaN, .* \(rows \[2, 9\]\); remake"):
        neighbors.mine(features, 2, metric=metric)


def test_zero_rows_have_no_cosine_but_a_distance() -> None:
    features = draw(10, 3)
    features[4] = 0
    with pytest.raises(DataError, match=r"1 of 10 feature rows are all zero .* \(rows \[4\]\)"):
        neighbors.mine(features, 2)
    found = neighbors.mine(features, 2, metric="euclidean").indices
    assert found.tolist() == oracle(features, 2, "euclidean")


@both_metrics
def test_a_collapsed_encoder_is_told(metric: Any) -> None:
    with pytest.raises(DataError, match="all 6 feature rows are equal: the encoder has collapsed"):
        neighbors.mine(torch.ones(6, 3), 2, metric=metric)


def test_float32_scores_stay_float32_whatever_the_caller_chose() -> None:
    features = draw(80, 16)
    expected = neighbors.mine(features, 5, "torch")
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = neighbors.mine(features, 5, "torch")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.indices, expected.indices)


@both_metrics
def test_few_queries_are_searched_twice(metric: Any) -> None:
    """What proves that nothing was missed must not doubt ordinary rows, or mining takes twice as long."""
    rows, _ = neighbors._read(draw(2000, 64), metric, torch.device("cpu"))
    doubted = []
    real = _centered.among_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_centered, "among_all", lambda q, *rest: doubted.append(len(q)) or real(q, *rest))
        for engine in ENGINES:
            neighbors._mine(rows, None, 20, metric, _search.exact(engine, rows, 20, metric))  # type: ignore[arg-type]
    assert sum(doubted) <= 4


# --- rows so close together that a float32 score cannot tell them apart


def tight(n: int, d: int, spread: float) -> Tensor:
    """Four clusters whose rows are `spread` away from a center of norm 1."""
    centers = torch.nn.functional.normalize(draw(4, d, "centers"))
    label = torch.randint(0, 4, (n,), generator=stream(0, "label"))
    return centers[label] + draw(n, d, "within") * spread / d**0.5


def softmax(n: int, confidence: float) -> Tensor:
    """What a classifier of ten classes gives, all but sure of each."""
    logits = draw(n, 10, "logits") + confidence * torch.eye(10)[torch.arange(n) % 10]
    return (1.5 * logits).softmax(dim=1)


CLOSE = {
    "spread of 5 %": tight(700, 48, 0.05),
    "spread of 1 %": tight(700, 48, 0.01),
    "spread of a thousandth: cosines are tied": tight(700, 48, 1e-3),
    "hardly any spread": tight(700, 24, 1e-6),
    "tight clusters, most rows twice": tight(700, 24, 0.02)[torch.arange(700) // 2],
    "softmax": softmax(700, 4),
    "softmax, very sure": softmax(700, 9),
    "softmax, saturated": softmax(700, 40),
}


def brute_force(features: Tensor, k: int, metric: str) -> tuple[Tensor, Tensor]:
    """All pairs in float64 by numpy, sorted stably: nearest first, equal ones by index."""
    rows = neighbors._read(features, metric, torch.device("cpu"))[0].double().numpy()  # type: ignore[arg-type]
    near = rows @ rows.T if metric == "cosine" else np.stack([-((rows - r) ** 2).sum(axis=1) for r in rows])
    near = near.astype(np.float32)
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, :k]
    return torch.from_numpy(order), torch.from_numpy(np.take_along_axis(near, order, axis=1))


@both_metrics
@both_engines
@pytest.mark.parametrize("name", CLOSE)
def test_close_rows_have_the_neighbors_of_float64(
    name: str, engine: Any, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall 1 and the same order, in one block of rows or many, around few centers or many."""
    expected, similarity = brute_force(CLOSE[name], 9, metric)
    for groups, first in [(64, 512), (3, 32)]:
        monkeypatch.setattr(_centered, "GROUPS", groups)
        monkeypatch.setattr(_centered, "FIRST", first)
        found = neighbors.mine(CLOSE[name], 9, engine, metric=metric)
        assert torch.equal(found.similarity, similarity)
        assert torch.equal(found.indices.long(), expected)


@both_metrics
@pytest.mark.parametrize("name", CLOSE)
def test_any_center_gives_the_same_neighbors(name: str, metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A center far away costs time, not neighbors; nor does a poor proposal, here the first rows of all."""
    rows, _ = neighbors._read(CLOSE[name], metric, torch.device("cpu"))
    own = torch.arange(len(rows))

    def first_rows(queries: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(13).repeat(len(queries), 1), torch.full((len(queries),), torch.inf)

    monkeypatch.setattr(
        _centered, "_groups", lambda q, *_: [(rows[5], own.flip(0)[:300]), (-rows[9], own[:400])]
    )
    found, similarity = _search.search(rows, own, rows, 9, metric, first_rows)
    expected = brute_force(CLOSE[name], 9, metric)
    assert torch.equal(similarity, expected[1]) and torch.equal(found, expected[0])


@both_metrics
@pytest.mark.parametrize(
    "features", [tight(3000, 256, 0.02), tight(3000, 256, 1e-3), softmax(3000, 4), softmax(3000, 9)]
)
def test_close_rows_are_not_compared_one_by_one(
    features: Tensor, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 9 million pairs few are left for float64: this is what makes tight clusters cheap."""
    exact, dense, real = [], [], (_centered._exact, _centered._all_of)
    monkeypatch.setattr(
        _centered, "_exact", lambda p, b, who, *r: exact.append(len(who)) or real[0](p, b, who, *r)
    )
    monkeypatch.setattr(_centered, "_all_of", lambda p, b, *r: dense.append(len(b.rows)) or real[1](p, b, *r))
    neighbors.mine(features, 20, metric=metric)
    assert sum(exact) > 0, "the case is one that a float32 score cannot decide"
    assert sum(exact) < 3000 * 120
    assert set(dense) <= {_centered.FIRST}, "only the first rows, where ties are decided"


# --- the graph


def test_the_graph_of_a_small_set_finds_all() -> None:
    features = draw(300, 8)
    found, exact = neighbors.mine_hnsw(features, 5, stream(0, "r"), **GRAPH), neighbors.mine(features, 5)
    assert found.recall == 1
    assert torch.equal(found.indices, exact.indices)
    assert torch.equal(found.similarity, exact.similarity)


def test_a_poor_graph_has_the_recall_that_it_reports() -> None:
    """2 links and a narrow search miss many; fewer than 1,000 rows, so the recall is of all of them."""
    features = draw(900, 24)
    found = neighbors.mine_hnsw(features, 10, stream(0, "r"), links=2, construction=4, search=1)
    exact = neighbors.mine(features, 10)
    pairs = zip(found.indices.tolist(), exact.indices.tolist(), strict=True)
    counted = sum(len(set(a) & set(b)) for a, b in pairs) / 9000
    assert found.recall == pytest.approx(counted) and 0.1 < found.recall < 0.9
    own = torch.arange(900)[:, None]
    assert (found.indices != own).all() and (found.indices >= 0).all()
    assert all(len(set(row)) == 10 for row in found.indices.tolist())
    assert (found.similarity[:, :-1] >= found.similarity[:, 1:]).all()
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    cosines = (unit[:, None] @ unit[found.indices.long()].mT)[:, 0]
    torch.testing.assert_close(found.similarity.double(), cosines, atol=1e-6, rtol=0)


def test_recall_is_measured_on_rows_that_the_generator_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "JUDGED", 50)
    features, poor = draw(900, 24), {"links": 2, "construction": 4, "search": 1}
    recalls = [neighbors.mine_hnsw(features, 10, stream(s, "r"), **poor).recall for s in (0, 0, 1)]
    assert recalls[0] == recalls[1] != recalls[2]


@both_metrics
def test_duplicates_that_break_a_graph_still_have_k_neighbors(metric: Any) -> None:
    """Many equal rows link to each other only; what the graph does not reach is searched exactly."""
    features = draw(4, 6).repeat_interleave(100, dim=0)
    found = neighbors.mine_hnsw(features, 8, stream(0, "r"), links=2, construction=2, search=1, metric=metric)
    assert all(len(set(row)) == 8 and i not in row for i, row in enumerate(found.indices.tolist()))
    assert ((found.indices >= 0) & (found.indices < 400)).all()
    assert 0 <= found.recall <= 1


def test_of_equally_near_rows_any_counts_as_found() -> None:
    found = neighbors.mine_hnsw(draw(4, 6).repeat_interleave(20, dim=0), 3, stream(0, "r"), **GRAPH)
    assert (found.similarity == 1).all() and found.recall == 1


def test_fewer_samples_than_candidates() -> None:
    features = draw(5, 3)
    found = neighbors.mine_hnsw(features, 4, stream(0, "r"), **GRAPH)
    assert found.indices.tolist() == oracle(features, 4, "cosine") and found.recall == 1


def test_the_graph_is_the_same_whatever_the_threads() -> None:
    features, poor = draw(1500, 24), {"links": 4, "construction": 8, "search": 4}
    first = neighbors.mine_hnsw(features, 10, stream(0, "r"), **poor)
    torch.set_num_threads(2)
    try:
        again = neighbors.mine_hnsw(features, 10, stream(0, "r"), **poor)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(first.indices, again.indices) and first.recall == again.recall < 1


def test_the_graph_refuses_what_mine_refuses() -> None:
    with pytest.raises(ParamsError, match="choose k from 1 to 4"):
        neighbors.mine_hnsw(draw(5, 3), 5, stream(0, "r"), **GRAPH)
    with pytest.raises(DataError, match="collapsed"):
        neighbors.mine_hnsw(torch.ones(5, 3), 2, stream(0, "r"), **GRAPH)


# --- which engine


def test_auto_is_faiss_on_the_cpu_and_torch_elsewhere() -> None:
    assert neighbors.choose_engine("auto", torch.device("cpu")) == "faiss"
    assert neighbors.choose_engine("torch", torch.device("cpu")) == "torch"
    assert neighbors.choose_engine("auto", torch.device("meta")) == "torch"
    with pytest.raises(ParamsError, match="faiss searches on the CPU here, not on meta; choose engine torch"):
        neighbors.choose_engine("faiss", torch.device("meta"))


def test_without_faiss_auto_is_torch_and_the_rest_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert neighbors.choose_engine("auto", torch.device("cpu")) == "torch"
    message = (
        r"faiss cannot be used \(No module named 'faiss'\); pip install 'noisyctl\[cpu\]', or choose engine"
    )
    with pytest.raises(ParamsError, match=message):
        neighbors.choose_engine("faiss", torch.device("cpu"))
    with pytest.raises(ParamsError, match=message):
        neighbors.mine_hnsw(draw(5, 3), 2, stream(0, "r"), **GRAPH)


# --- nearest, the vote


def test_nearest_takes_equal_rows_and_is_euclidean() -> None:
    assert neighbors.nearest(torch.ones(4, 2), 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert neighbors.nearest(torch.tensor([[0.0], [1.0], [5.0], [6.5]]), 1)[:, 0].tolist() == [1, 0, 3, 2]
    features = draw(50, 4)
    assert neighbors.nearest(features, 6, "cosine").tolist() == oracle(features, 6, "cosine")


def test_votes_are_weighted_by_similarity() -> None:
    """exp(1 / 0.5) of class 0 against two times exp(0) of class 1."""
    shares = neighbors.knn_vote(torch.tensor([[0, 1, 1]]), torch.tensor([[1.0, 0.0, 0.0]]), 3, 0.5)
    heavy = math.exp(2) / (math.exp(2) + 2)
    torch.testing.assert_close(shares, torch.tensor([[heavy, 1 - heavy, 0.0]]))


def test_votes_are_shares_at_any_temperature() -> None:
    labels, similarity = torch.tensor([[0, 1, 1], [2, 2, 0]], dtype=torch.int32), draw(2, 3)
    for temperature in (1e-6, 0.07, math.inf):
        shares = neighbors.knn_vote(labels, similarity, 3, temperature)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(shares, torch.tensor([[1 / 3, 2 / 3, 0], [1 / 3, 0, 2 / 3]]))


def test_the_nearest_rows_name_the_class() -> None:
    database, labels = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 5.0]]), torch.tensor([0, 0, 1])
    queries = torch.tensor([[3.0, 0.1], [0.1, 3.0]])
    assert neighbors.knn_classify(queries, database, labels, 1, 2).tolist() == [0, 1]
    assert neighbors.knn_classify(queries, database, labels, 99, 2).tolist() == [0, 1]


def test_a_query_that_is_in_the_database_may_find_itself() -> None:
    database = draw(30, 5)
    labels = torch.arange(30)
    assert neighbors.knn_classify(database, database, labels, 1, 30).tolist() == list(range(30))
