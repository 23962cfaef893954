"""A label that is corrected redoes nothing that is label-free: a photo moved to another class, or a corrected manifest."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_docs import call

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, LABELS, PATHS, TRACE
from noisyctl.datasets import folder
from stages import prepare_data

ROOT = Path(__file__).parent.parent.parent
SMALL = "--backbone small_cnn --width 4 --epochs 1 --batch-size 16"
GRAPH = {
    "prepare": (
        "noisyctl prepare-data --dataset folder --root photos --image-size 8 --keep files --out data/photos",
        ["photos"],
        ["images.zarr", "paths.zarr", "labels.zarr"],
    ),
    "pretrain": (
        f"noisyctl pretrain-simclr --dataset photos {SMALL}",
        ["data/photos/images.zarr"],
        ["simclr/encoder.safetensors", "simclr/features.zarr"],
    ),
    "knn": (
        "noisyctl mine-knn --dataset photos --k 3",
        ["data/photos/simclr/features.zarr"],
        ["simclr/neighbors.zarr"],
    ),
    "cluster": (
        "noisyctl cluster-scan --dataset photos --num-clusters 2 --epochs 1 --batch-size 16",
        [
            f"data/photos/{name}"
            for name in ("images.zarr", "simclr/encoder.safetensors", "simclr/neighbors.zarr")
        ],
        ["simclr/clusters.safetensors"],
    ),
    "vote": (
        "noisyctl train-method knn_vote --dataset photos",
        [f"data/photos/{name}" for name in ("images.zarr", "labels.zarr", "simclr/neighbors.zarr")],
        ["runs/knn_vote/given-s0"],
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """48 photos in two classes, one of them twice, and a manifest that names them all."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(path)
        rows.append((path.relative_to(tmp_path / "photos").as_posix(), "ab"[i % 2]))
    shutil.copy(tmp_path / "photos/a/0.png", tmp_path / "photos/a/copy.png")
    write_manifest(tmp_path, [*rows, ("a/copy.png", "a")])
    return tmp_path


def write_manifest(project: Path, rows: list[tuple[str, str]]) -> None:
    with (project / "photos/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def relabel(project: Path, manifest: bool) -> None:
    if manifest:
        text = (project / "photos/labels.csv").read_text()
        (project / "photos/labels.csv").write_text(text.replace("a/0.png,a", "a/0.png,b"))
    else:
        (project / "photos/a/0.png").rename(project / "photos/b/anything else.png")


def test_dvc_repeats_nothing_that_is_label_free(project: Path) -> None:
    graph = {
        name: {
            "cmd": cmd,
            "deps": deps,
            "outs": [f"data/photos/{o}" for o in outs],
        }
        for name, (cmd, deps, outs) in GRAPH.items()
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = dict(os.environ) | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def repro() -> list[str]:
        words = ["dvc", "repro", "--quiet"] if not (project / ".dvc").exists() else ["dvc", "repro"]
        done = subprocess.run(words, cwd=project, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]

    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=project, check=True, env=environment)
    assert sorted(repro()) == sorted(GRAPH)
    relabel(project, manifest=False)
    assert repro() == ["prepare", "vote"]


@pytest.mark.parametrize("manifest", [False, True])
def test_ids_and_order_stay_and_paths_and_labels_follow(project: Path, manifest: bool) -> None:
    listed = str(project / "photos/labels.csv") if manifest else None
    params = folder.Params(root=str(project / "photos"), image_size=8, manifest=listed)

    def prepared() -> tuple[bytes, dict[str, int], list[str]]:
        prepare_data.run(prepare_data.Inputs("folder", project / "data"), params)
        images, paths = (
            store.read(project / "data/images.zarr", IMAGES),
            store.read(project / "data/paths.zarr", PATHS),
        )
        labels = store.read(project / "data/labels.zarr", LABELS)
        tree = sorted(
            (p.name, p.read_bytes()) for p in (project / "data/images.zarr").rglob("*") if p.is_file()
        )
        assert "class_names" not in images.attributes
        assert labels.attributes["class_names"] == ["a", "b"]
        path = paths.array("train_path").tolist()
        assert images.array("train_id").tolist() == sorted(images.array("train_id").tolist())
        return repr(tree).encode(), dict(zip(path, labels.array("noisy_labels").tolist(), strict=True)), path

    before, labels, paths = prepared()
    relabel(project, manifest)
    after, corrected, moved = prepared()
    assert after == before
    now = "a/0.png" if manifest else "b/anything else.png"
    assert corrected == {p: c for p, c in labels.items() if p != "a/0.png"} | {now: 1}
    assert len(paths) == len(moved) == 49


def test_samples_show_paths_and_runs_keep_ids(project: Path) -> None:
    commands = [
        cmd.format(keep="pixels", manifest="") for name, (cmd, _, _) in GRAPH.items() if name != "cluster"
    ]
    for command in [
        *commands,
        "noisyctl evaluate --dataset photos",
        "noisyctl evaluate --run data/photos/runs --out r",
    ]:
        done = call(*command.split()[1:], cwd=project)
        assert done.returncode == 0, (command, done.stderr)
    trace = store.read(project / "data/photos/runs/knn_vote/given-s0/trace.zarr", TRACE)
    for place in ("data/photos/results", "r"):
        rows = list(csv.DictReader((project / place / "samples/knn_vote-given-s0.csv").open()))
        assert sorted(row["id"] for row in rows) == trace.array("train_id").tolist()
        assert sorted(row["path"] for row in rows) == sorted(
            p.relative_to(project / "photos").as_posix() for p in (project / "photos").rglob("*.png")
        )
        assert all(row["given"] == row["path"][0] for row in rows)
