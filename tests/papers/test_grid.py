"""A grid: methods, noises and seeds of a params file, planned with params in every command, run by a sweep."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisyctl.config import read_params_file
from noisyctl.errors import ParamsError
from noisyctl.papers import cells, project
from noisyctl.papers.grid import Grid
from noisyctl.session import Session
from stages import plan
from stages.warmup import PROFILES

ROOT = Path(__file__).parent.parent.parent
PARAMS = """
dataset: digits
seed: 3
threads: 1
noises:
  sym: {kind: symmetric, rate: 0.4, include_true_class: false}
  pair: {kind: pairflip, rate: 0.2}
simclr: {backbone: small_cnn, width: 4, epochs: 1}
warmups:
  default: {backbone: small_cnn, width: 4, epochs: 1}
methods:
  knn_vote: {temperature: 0.7}
  cross_entropy: {epochs: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(PARAMS)
    return tmp_path


def grid(seeds: int = 2) -> Grid:
    return Grid("mine", read_params_file(Path("mine.yaml")), seeds, PROFILES)


def test_one_cell_per_method_noise_and_seed_and_one_pretraining_for_all(folder: Path) -> None:
    made = grid()
    assert {group: len(of) for group, of in made.cells.items()} == {"warmup": 4, "train": 8, "evaluate": 8}
    shared = cells.merge(made.shared())
    counts = {group: len(of) for group, of in shared.items() if of}
    assert counts == {"prepare": 1, "noise": 4, "pretrain": 1, "knn": 1}
    assert "--temperature 0.7" in made.cells["train"]["knn_vote-sym-s3"].command
    assert "--threads 1" in made.cells["train"]["knn_vote-pair-s4"].command
    for of in (*made.cells.values(), *shared.values()):
        assert all("--params-file plans/defaults.yaml" in cell.command for cell in of.values())


def test_a_grid_on_features_is_refused_and_not_trained_on_images(folder: Path) -> None:
    (folder / "mine.yaml").write_text(PARAMS + "input: features\n")
    with pytest.raises(ParamsError, match=r"mine.yaml:\d+: input is features, and a plan's runs see images"):
        grid()


def test_own_photos_have_truth_only_where_a_manifest_gives_it(folder: Path) -> None:
    text = PARAMS.replace("dataset: digits", "dataset: photos")
    photos = text[: text.index("noises")] + text[text.index("simclr") :]
    block = "datasets:\n  photos: {kind: folder, root: photos, manifest: given.csv%s}\n"
    Path("mine.yaml").write_text(photos + block % "")
    made = grid(1)
    assert list(cells.merge(made.shared())["prepare_own"]) == ["mine"]
    assert all("--truth" not in cell.command for cell in made.cells["evaluate"].values())
    Path("mine.yaml").write_text(photos + block % ", truth_manifest: true.csv")
    assert list(cells.merge(grid(1).shared())["prepare_given"]) == ["mine"]
    assert all("--truth" in cell.command for cell in grid(1).cells["evaluate"].values())
    Path("mine.yaml").write_text(text + block % "")
    with pytest.raises(ParamsError, match="noises need clean labels, and this data set comes with none"):
        list(grid(1).shared())


def test_it_is_planned_in_plans_and_follows_its_params_file(folder: Path) -> None:
    file = read_params_file(Path("mine.yaml"))
    inputs = plan.Inputs(file, None, Path("elsewhere"))  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match="a grid is planned in plans/; write plans/NAME"):
        plan.run(inputs, None, Session(quiet=True))
    project.write(grid(), PROFILES)
    Path("mine.yaml").write_text(PARAMS.replace("0.7}", "0.9}"))
    assert project.prepare("mine", project.Choice(), PROFILES) == "plans/mine/dvc.yaml"
    assert "--temperature 0.9" in project.path_of("mine").read_text()
    with pytest.raises(ParamsError, match="choose what of a paper is run, and 'mine' is none"):
        project.prepare("mine", project.Choice(num_seeds=3), PROFILES)


def test_a_misspelt_param_is_refused_when_it_is_planned(folder: Path) -> None:
    Path("mine.yaml").write_text(PARAMS.replace("{epochs: 1}\n", "{epohs: 1}\n"))
    with pytest.raises(ParamsError, match=r"mine.yaml: methods.cross_entropy.epohs is not a parameter"):
        project.write(grid(), PROFILES)


def test_a_sweep_runs_it_to_its_table(folder: Path) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "NOISYCTL_SCRATCH": ".noisyctl"}
    small = PARAMS.replace("  pair: {kind: pairflip, rate: 0.2}\n", "").replace(
        "  knn_vote: {temperature: 0.7}\n", ""
    )
    (folder / "mine.yaml").write_text(small)

    def call(*words: str) -> str:
        place = str(Path(sys.executable).with_name(words[0]))
        done = subprocess.run(
            [place, *words[1:]], cwd=folder, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("dvc", "init", "-q", "--no-scm")
    call("noisyctl", "plan", "--params-file", "mine.yaml", "--out", "plans/mine")
    assert json.loads(call("noisyctl", "sweep", "mine", "--json")) == {
        "ran": 6,
        "restored": 0,
        "unchanged": 0,
    }
    (row,) = csv.DictReader((folder / "data/grids/mine/tables/table.csv").open())
    assert row["method"] == "cross_entropy" and float(row["last"]) > 0 and row["noise nominal"] == "0.400"
