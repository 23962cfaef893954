"""Artifacts: whole or absent, and every flipped byte is found."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import FEATURES, KINDS, LABELS, NEIGHBORS
from noisyctl.errors import ArtifactError

KIND = store.Kind(
    "probe",
    1,
    "",
    {"a": store.Array("float32", ("sample", "x"), ""), "train_id": store.Array("str", ("sample",), "")},
    {},
    "noisyctl probe",
)


def write(path: Path) -> str:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.random((50, 3)), "train_id": np.array([f"photo {i} ä" for i in range(50)])}
    return store.write(path, KIND, arrays, params={"k": 1}, inputs={"images": "x"})


def test_round_trip_and_identical_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "one.zarr") == write(tmp_path / "two.zarr")
    files = sorted(
        p.relative_to(tmp_path / "one.zarr") for p in (tmp_path / "one.zarr").rglob("*") if p.is_file()
    )
    assert files
    assert all(
        (tmp_path / "one.zarr" / f).read_bytes() == (tmp_path / "two.zarr" / f).read_bytes() for f in files
    )
    artifact = store.read(tmp_path / "one.zarr", KIND)
    assert artifact.array("train_id")[3] == "photo 3 ä"
    np.testing.assert_array_equal(
        artifact.array("a"), np.random.default_rng(0).random((50, 3)).astype("float32")
    )


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr")
    rng = np.random.default_rng(0)
    for file in sorted(p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()):
        whole = file.read_bytes()
        for place in rng.integers(len(whole), size=15):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            with pytest.raises(ArtifactError, match=r"a\.zarr.*noisyctl probe"):
                artifact = store.read(tmp_path / "a.zarr", KIND)
                [artifact.array(name) for name in artifact.names]
        file.write_bytes(whole)


def test_missing_truncated_and_foreign_artifacts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.zarr does not exist; make it with `noisyctl probe`"):
        store.read(tmp_path / "none.zarr", KIND)
    write(tmp_path / "a.zarr")
    with pytest.raises(ArtifactError, match="is probe, not labels"):
        store.read(tmp_path / "a.zarr", LABELS)
    with pytest.raises(ArtifactError, match="was not made from"):
        store.require_input(store.read(tmp_path / "a.zarr", KIND), "images", "y", Path("images.zarr"))
    chunk = next(p for p in (tmp_path / "a.zarr" / "a").rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="'a' is damaged"):
        store.read(tmp_path / "a.zarr", KIND).array("a")


def test_a_failed_write_leaves_the_old_artifact_and_no_rubbish(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr")
    with pytest.raises(RuntimeError), files.publish(tmp_path / "a.zarr", store.Form(KIND)) as partial:
        partial.mkdir()
        raise RuntimeError
    assert store.read(tmp_path / "a.zarr", KIND).array("a").shape == (50, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_disk_that_takes_no_more_is_said(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
import numpy as np
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.errors import ArtifactError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
x = np.random.default_rng(0).random((2000, 16))
try:
    store.write(Path({str(tmp_path / "f.zarr")!r}), FEATURES, {{"features": x, "embeddings": x}})
except ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "nothing is lost" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="another --out"):
        store.write(
            tmp_path / "file" / "x.zarr", KIND, {"a": np.zeros((2, 2)), "train_id": np.array(["a", "b"])}
        )


def test_wrong_sizes_are_found_on_reading(tmp_path: Path) -> None:
    arrays = {"indices": np.zeros((5, 2), int), "similarity": np.zeros((4, 2))}
    store.write(tmp_path / "n.zarr", NEIGHBORS, arrays)
    with pytest.raises(ArtifactError, match="along sample"):
        store.read(tmp_path / "n.zarr", NEIGHBORS)


def test_kinds_have_distinct_names_and_a_command() -> None:
    assert len({k.name for k in KINDS}) == len(KINDS)
    assert all(k.made_by.startswith("noisyctl ") and k.purpose for k in (*KINDS, FEATURES))
