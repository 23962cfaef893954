"""`status` for people: artifacts by names that they know, first what is wrong, and an end when all is done."""

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline import command as run

from stages import status


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project with own features of two classes, their neighbors and a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    labels = np.arange(40) % 2
    vectors = 5 * np.eye(2, 4)[labels] + np.random.default_rng(0).normal(size=(40, 4))
    np.save("x.npy", vectors.astype(np.float32))
    np.save("y.npy", labels)
    made = ("prepare-data", "--dataset", "features", "--array", "x.npy", "--labels", "y.npy")
    assert run(*made, "--out", "data/own") == 0
    assert run("mine-knn", "--dataset", "own", "--k", "5") == 0
    assert run("train-method", "knn_vote", "--dataset", "own") == 0
    return tmp_path


def test_it_ends_when_every_run_is_judged_and_in_the_table(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> tuple[str, str]:
        capsys.readouterr()
        assert run("status", "--dataset", "own") == 0
        text = capsys.readouterr().out
        assert run("status", "--dataset", "own", "--json") == 0
        return json.loads(capsys.readouterr().out)["next"], text.splitlines()[-1]

    judge = "noisyctl evaluate --dataset own --input features"
    assert said() == (judge, f"Next: {judge}")
    assert run("evaluate", "--dataset", "own") == 0
    assert said()[0] == "noisyctl table --dataset own --input features"
    assert run("table", "--dataset", "own") == 0
    done = "All done: every run is judged (metrics.json) and in the table (table.md)."
    assert said() == ("", done)
    assert run("train-method", "knn_vote", "--dataset", "own", "--temperature", "0.5") == 0
    assert said()[0] == judge  # the table is of the former run


def test_names_that_a_person_knows_stand_aligned_and_first_what_is_wrong() -> None:
    found = {
        "data/digits/images.zarr": "there",
        "data/digits/truth.zarr": "there",
        "data/digits/noise/sym60-s0/labels.zarr": "there",
        "data/digits/simclr/features.zarr": "there",
        "data/digits/simclr/neighbors.zarr": "stale: was made with other params (k 5, now 7)",
        "data/digits/runs/elr/sym60-s0/trace.zarr": "there",
        "data/digits/warmup/default/sym60-s0/trace.zarr": "missing",
        "next": "noisyctl mine-knn",
    }
    assert status.STAGE.text is not None
    assert status.STAGE.text(found).splitlines() == [
        "2 of 7 artifacts are not as they should be:",
        "  neighbors                  stale: was made with other params (k 5, now 7)",
        "                             data/digits/simclr/neighbors.zarr",
        "  warm-up default, sym60-s0  missing",
        "                             data/digits/warmup/default/sym60-s0/trace.zarr",
        "Up to date:",
        "  images                     data/digits/images.zarr",
        "  clean labels               data/digits/truth.zarr",
        "  noisy labels, sym60-s0     data/digits/noise/sym60-s0/labels.zarr",
        "  features                   data/digits/simclr/features.zarr",
        "  run of elr, sym60-s0       data/digits/runs/elr/sym60-s0/trace.zarr",
        "Next: noisyctl mine-knn",
    ]


def test_photos_of_one_s_own_need_no_clean_labels() -> None:
    found = {"data/p/images.zarr": "there", "data/p/truth.zarr": "missing", "next": "noisyctl mine-knn"}
    assert status.STAGE.text is not None
    assert status.STAGE.text(found).splitlines() == [
        "Everything is up to date:",
        "  images        data/p/images.zarr",
        "  clean labels  none, so nobody knows how many labels are wrong",
        "Next: noisyctl mine-knn",
    ]
