"""mine-knn: what it writes, that it reads in blocks, and that damage is named before anything is mined."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, NEIGHBORS
from noisyctl.cli import progress
from noisyctl.errors import ArtifactError, NoisyctlError
from noisyctl.parts import neighbors
from noisyctl.session import Session
from stages import mine_knn

N = store.ROWS + 300  # two chunks
QUIET = Session(device="cpu", threads=1, quiet=True)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "features.zarr"
    values = np.random.default_rng(0).standard_normal((2 * N, 4), dtype=np.float32)
    store.write(path, FEATURES, {"features": values[:N], "embeddings": values[N:]}, inputs={"images": "x"})
    return path


def copy(features: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(features, tmp_path / "copy.zarr"))


def mine(features: Path, out: Path, **params: object) -> store.Artifact:
    mine_knn.run(mine_knn.Inputs(features, out), mine_knn.Params(**params), QUIET)  # type: ignore[arg-type]
    return store.read(out, NEIGHBORS)


def test_engines_write_the_same_neighbors_and_say_so(features: Path, tmp_path: Path) -> None:
    one, other = (mine(features, tmp_path / f"{e}.zarr", k=3, engine=e) for e in ("faiss", "torch"))
    for name in ("indices", "similarity"):
        np.testing.assert_array_equal(one.array(name), other.array(name))
    for artifact, engine in ((one, "faiss"), (other, "torch")):
        facts = {key: artifact.attributes[key] for key in ("k", "space", "metric", "engine", "recall")}
        assert facts == {"k": 3, "space": "embeddings", "metric": "cosine", "engine": engine, "recall": 1.0}
    assert one.inputs["images"] == "x"


def test_features_are_read_in_blocks(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mine(features, tmp_path / "a.zarr", k=2).array("indices")
    with monkeypatch.context() as patch:
        patch.delattr(store.Artifact, "array")
        mine_knn.run(mine_knn.Inputs(features, tmp_path / "b.zarr"), mine_knn.Params(k=2), QUIET)
    np.testing.assert_array_equal(store.read(tmp_path / "b.zarr", NEIGHBORS).array("indices"), expected)


def test_a_graph_stores_and_returns_its_recall(features: Path, tmp_path: Path) -> None:
    params = mine_knn.Params(k=5, engine="hnsw", hnsw_links=2, hnsw_construction=4, hnsw_search=1)
    result = mine_knn.run(mine_knn.Inputs(features, tmp_path / "h.zarr"), params, QUIET)
    written = store.read(tmp_path / "h.zarr", NEIGHBORS)
    assert result["engine"] == written.attributes["engine"] == "hnsw"
    assert result["recall"] == written.attributes["recall"]
    exact = mine(features, tmp_path / "e.zarr", k=5).array("indices")
    pairs = zip(written.array("indices").tolist(), exact.tolist(), strict=True)
    whole = sum(len(set(a) & set(b)) for a, b in pairs) / exact.size
    assert result["recall"] == pytest.approx(whole, abs=0.05) and whole < 0.95


@pytest.mark.parametrize("chunk", ["0", "1"])
def test_a_flipped_byte_of_any_chunk_is_named(features: Path, tmp_path: Path, chunk: str) -> None:
    damaged = copy(features, tmp_path)
    file = damaged / "embeddings/c" / chunk / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"copy\.zarr: array 'embeddings' is damaged .*noisyctl pretrain"):
        mine(damaged, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    assert mine(damaged, tmp_path / "out.zarr", space="features", k=2).attributes["space"] == "features"


def test_a_chunk_that_is_missing_or_from_elsewhere_is_named(features: Path, tmp_path: Path) -> None:
    """zarr reads a missing chunk as zeros, and a foreign one has a right crc32c: the digest tells."""
    damaged = copy(features, tmp_path)
    (damaged / "embeddings/c/0/0").write_bytes((damaged / "features/c/0/0").read_bytes())
    for _ in range(2):
        with pytest.raises(ArtifactError, match="its values are not those that were written"):
            mine(damaged, tmp_path / "out.zarr")
        (damaged / "embeddings/c/0/0").unlink(missing_ok=True)


def test_an_array_that_is_absent_is_named(tmp_path: Path) -> None:
    values = np.eye(4, dtype=np.float32)
    store.write(tmp_path / "f.zarr", FEATURES, {"features": values, "embeddings": values})
    artifact = store.read(tmp_path / "f.zarr", FEATURES)
    with pytest.raises(NoisyctlError, match="has no array 'test_features'"):
        artifact.checked_rows("test_features")


def test_progress_tells_blocks_of_queries(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BLOCK", 4000)
    told: list[tuple[int, int]] = []
    rows = store.read(features, FEATURES).checked_rows("features")
    neighbors.mine(rows, 2, report=lambda done, total: told.append((done, total)))
    assert told == [(min(4000 * i, N), N) for i in range(1, -(-N // 4000) + 1)]


def test_progress_is_printed_by_the_stage(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    loud = Session(device="cpu", threads=1, shows=progress.Terminal())
    mine_knn.run(mine_knn.Inputs(features, tmp_path / "n.zarr"), mine_knn.Params(k=2), loud)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"mine-knn  {N:,}/{N:,} samples" and said[0].startswith(
        "mine-knn  8,192/8,492 samples"
    )


def test_a_mining_that_was_stopped_goes_on_with_the_blocks_that_are_there(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(device="cpu", threads=1, quiet=True, scratch=tmp_path / "scratch")
    inputs, params = mine_knn.Inputs(features, tmp_path / "n.zarr"), mine_knn.Params(k=3)
    monkeypatch.setattr(neighbors, "BLOCK", 2048)
    number = -(-N // 2048)
    search, asked = neighbors._search.search, []

    def counted(queries: object, own: object, *rest: object) -> object:
        if len(asked) == 2:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(own))  # type: ignore[arg-type]
        return search(queries, own, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbors._search, "search", counted)
    with pytest.raises(KeyboardInterrupt):
        mine_knn.run(inputs, params, session)
    mine_knn.run(inputs, params, session)
    assert len(asked) == number + 1  # two before, one that was interrupted, and the rest
    assert not list((tmp_path / "scratch/scratch").iterdir())
    monkeypatch.setattr(neighbors._search, "search", search)
    monkeypatch.setattr(neighbors, "BLOCK", N)
    whole = mine(features, tmp_path / "whole.zarr", k=3)
    resumed = store.read(tmp_path / "n.zarr", NEIGHBORS)
    assert resumed.digest == whole.digest
