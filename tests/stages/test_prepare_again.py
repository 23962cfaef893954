"""prepare-data run again into the same folder: what an earlier run left beside the images never stays unnoticed."""

import os
from pathlib import Path

import numpy as np
import pipeline
import pytest
from PIL import Image

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import LABELS, TRUTH
from noisyctl.datasets import features, folder
from noisyctl.noise import symmetric
from noisyctl.runs import prepare_data as runs_prepare
from stages import inject_noise, prepare_data


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight images in two classes, one of them broken; a manifest of true labels and one of checked labels."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        name = f"{'ab'[i % 2]}/{i}.png"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "photos" / name)
        rows.append(f"{name},{'ab'[i % 2]}")
    (tmp_path / "photos/a/broken.png").write_bytes(b"no image")
    (tmp_path / "right.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (tmp_path / "checked.csv").write_text("\n".join(["path,label", *rows[:4]]) + "\n")
    return tmp_path


def prepare(at: Path, **more: object) -> dict[str, object]:
    params = folder.Params(root=str(at / "photos"), image_size=8, **more)  # type: ignore[arg-type]
    return prepare_data.run(prepare_data.Inputs("folder", at / "out"), params)


def held(at: Path) -> set[str]:
    return {p.name for p in (at / "out").iterdir()}


def prepare_with_all(at: Path) -> None:
    right, checked = str(at / "right.csv"), str(at / "checked.csv")
    prepare(at, keep="files", truth_manifest=right, verified_manifest=checked)
    assert held(at) >= {
        "images.zarr",
        "truth.zarr",
        "labels.zarr",
        "verified.zarr",
        "quarantine.csv",
        "files",
    }


def test_what_this_run_does_not_write_does_not_stay(photos: Path) -> None:
    prepare_with_all(photos)
    (photos / "photos/a/broken.png").unlink()
    counts = prepare(photos)
    assert held(photos) & {"truth.zarr", "verified.zarr", "quarantine.csv", "files"} == set()
    assert held(photos) >= {"images.zarr", "labels.zarr"}
    assert set(str(counts["removed"]).split(", ")) == {
        "truth.zarr",
        "verified.zarr",
        "quarantine.csv",
        "files",
    }
    assert (photos / "photos/a/0.png").exists(), "what the link led to was removed"
    assert "removed" not in prepare(photos)


def test_another_kind_of_data_set_leaves_nothing_of_the_first(photos: Path) -> None:
    prepare_with_all(photos)
    np.save(photos / "x.npy", np.random.default_rng(0).random((8, 3)).astype(np.float32))
    np.save(photos / "y.npy", np.arange(8) % 2)
    params = features.Params(array=str(photos / "x.npy"), labels=str(photos / "y.npy"))
    prepare_data.run(prepare_data.Inputs("features", photos / "out"), params)
    assert held(photos) == {"features.zarr", "labels.zarr"}
    prepare(photos)
    assert "features.zarr" not in held(photos)


def test_labels_of_inject_noise_stay(photos: Path) -> None:
    """They lie beside the images, and go by their own digests."""
    prepare_with_all(photos)
    noise = symmetric.Params(rate=0.5, include_true_class=False)
    places = photos / "out/truth.zarr", photos / "out/labels.zarr"
    inject_noise.run(inject_noise.Inputs("symmetric", *places), noise, pipeline.session(photos))
    digest = store.read(places[1], LABELS).digest
    assert runs_prepare.remove_stale(photos / "out", set()) != []
    assert store.read(places[1], LABELS).digest == digest


def test_what_is_not_of_this_command_stays(photos: Path) -> None:
    prepare_with_all(photos)
    (photos / "out/files").unlink()
    (photos / "out/files").mkdir()
    (photos / "out/files/mine.txt").write_text("mine")
    (photos / "out/quarantine.csv").write_text("mine")
    (photos / "out/notes.txt").write_text("mine")
    runs_prepare.remove_stale(photos / "out", set())
    assert held(photos) == {"files", "quarantine.csv", "notes.txt"}
    assert (photos / "out/files/mine.txt").exists()


def test_a_failed_run_removes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_with_all(photos)
    before = pipeline.tree(photos / "out")
    monkeypatch.setattr(files, "_sync", lambda path: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with pytest.raises(Exception, match="the disk is full"):
        prepare(photos)
    assert pipeline.tree(photos / "out") == before
    assert "clean_labels" in store.read(photos / "out/truth.zarr", TRUTH)


def test_what_was_written_stays_whatever_number_its_file_has(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process may have replaced the file meanwhile, and file numbers are used again."""
    prepare(photos)
    before = (photos / "out/quarantine.csv").read_bytes()

    def in_place(path: Path, quarantined: object) -> None:
        path.write_bytes(before)

    monkeypatch.setattr(runs_prepare, "_write_quarantine", in_place)
    prepare(photos)
    assert (photos / "out/quarantine.csv").read_bytes() == before


def test_what_a_kill_left_of_a_removed_artifact_goes_with_the_next_run(photos: Path) -> None:
    prepare_with_all(photos)
    if not (child := os.fork()):
        files.remove = lambda path: os._exit(0)  # killed when the artifact is out of sight, and still there
        runs_prepare.remove_stale(photos / "out", {"images.zarr", "labels.zarr"})
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    left = list((photos / "out").glob(".*.partial-*"))
    assert left
    runs_prepare.remove_stale(photos / "out", {"images.zarr", "labels.zarr"})
    assert not left[0].exists()
