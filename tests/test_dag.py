"""The DVC graph: deps are what the code imports, cells are in step, and a real `dvc repro` runs each work once."""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from noisyctl import code, methods, noise
from noisyctl.config import read_params_file
from noisyctl.layout import Layout
from noisyctl.papers import demonstration
from stages.warmup import PROFILES

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
FILES = (
    "noisyctl.datasets",
    "noisyctl.streaming",
    "noisyctl.images",
)  # digits are pixels
CODE = {  # stages whose name says less than their code: what they find by name
    "prepare-data": ["prepare-data-digits"],
    "inject-noise": [f"inject-noise-{kind}" for kind in noise.available()],
    "train-method": [f"train-method-{name}" for name in methods.available()],
}
PAPERS = {  # stages of the template, and the stages of the demonstration whose code they run
    "prepare": "prepare-data",
    "prepare_given": "prepare-data",
    "prepare_verified": "prepare-data",
    "prepare_own": "prepare-data",
    "noise": "inject-noise",
    "noise_given": "inject-noise",
    "pretrain": "pretrain-simclr",
    "knn": "mine-knn",
    "cluster": "cluster-scan",
    "train": "train-method",
}
PROBE = ("noisyctl/nn", "noisyctl/parts", "noisyctl/task.py", "noisyctl/views", "noisyctl/runs/tasks.py")


def body(name: str) -> dict[str, list[str]]:
    return STAGES[name].get("do", STAGES[name])


def covers(dep: str, module: str) -> bool:
    path = module.replace(".", "/")
    return f"{path}.py" == dep or f"{path}/__init__.py" == dep or f"{path}/".startswith(f"{dep}/")


@pytest.mark.parametrize("name", list(STAGES))
def test_deps_are_the_code_that_decides_the_result(name: str) -> None:
    imported = {module for stage in CODE.get(name, [name]) for module in code.files_of(stage)}
    if name == "inject-noise":
        # a classifier is trained for semantic noise alone, and the demonstration has none
        imported = {
            m
            for m in imported
            if m.startswith(
                ("noisyctl.noise", "noisyctl.seeds", "noisyctl.runs.inject", "stages.inject_noise")
            )
        }
    imported -= set(FILES[1:] if name == "prepare-data" else FILES)
    if name == "table":  # the demonstration has no tables of papers
        imported = {m for m in imported if not m.startswith(("noisyctl.papers", "noisyctl.methods"))}
    deps = [
        d.replace("${item.method}", "*") for d in body(name)["deps"] if d.startswith(("noisyctl/", "stages/"))
    ]
    found = {m: [d for d in deps if covers(d.replace("*", m.rsplit(".", 1)[-1]), m)] for m in imported}
    assert [m for m, by in found.items() if not by] == [], "imported, but no dep"
    assert [d for d in deps if not any(d in by for by in found.values())] == [], "a dep, but not imported"


@pytest.mark.parametrize(
    "file", ["noisyctl/papers/template/shared.yaml", "noisyctl/papers/template/own.yaml"]
)
def test_the_other_graphs_depend_on_the_same_code(file: str) -> None:
    """As much of it as the demonstration's stage, or the folder that it lies in."""
    stages = yaml.safe_load((ROOT / file).read_text())["stages"]
    for name, stage in stages.items():
        deps = [re.sub(r"\$\{[^}]*\}", "*", dep) for dep in stage.get("do", stage)["deps"]]
        root = [re.sub(r"\$\{[^}]*\}", "*", dep) for dep in body(PAPERS.get(name, name))["deps"]]
        code = [dep for dep in root if dep.startswith(("noisyctl/", "stages/"))]
        lacking = [c for c in code if not any(fnmatch(c, d) or c.startswith(f"{d}/") for d in deps)]
        if name == "evaluate":  # no encoder is probed there
            lacking = [c for c in lacking if c not in PROBE]
        assert lacking == [], name


def test_dvc_lock_holds_no_stage_that_dvc_yaml_does_not() -> None:
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    file = read_params_file(ROOT / "params.yaml")
    known = yaml.safe_load((ROOT / "cells.yaml").read_text()) | {"noises": file.get("noises")}
    there = set()
    for name, stage in STAGES.items():
        each = known[stage["foreach"][2:-1]] if "foreach" in stage else None
        there |= {name} if each is None else {f"{name}@{key}" for key in each}
    assert set(locked) - there == set()


def test_the_committed_cells_are_what_plan_makes() -> None:
    file = read_params_file(ROOT / "params.yaml")
    layout = Layout(str(file.get("dataset")), str(file.get("pretrain")), seed=int(file.get("seed")))
    assert yaml.safe_load((ROOT / "cells.yaml").read_text()) == demonstration.cells(file, layout, PROFILES)


def test_a_path_without_use_repeats_the_labels(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "noises: {a: {}, b: {}}\nwarmups: {w: {start: encoder}}\nmethods: {mixnn: {warmup_profile: w}, knn_vote: {}}\n"
    )
    cells = demonstration.cells(read_params_file(tmp_path / "params.yaml"), Layout("x", seed=3), PROFILES)
    assert list(cells["warmup_cells"]) == ["w-a-s3", "w-b-s3"]
    assert cells["warmup_cells"]["w-a-s3"]["start"] == "data/x/simclr/encoder.safetensors"
    vote = cells["train_cells"]["knn_vote-a-s3"]
    assert vote["warmup"] == vote["labels"] == "data/x/noise/a-s3/labels.zarr"
    assert vote["neighbors"] == "data/x/simclr/neighbors.zarr"
    assert cells["train_cells"]["mixnn-b-s3"]["warmup"] == "data/x/warmup/w/b-s3"


PARAMS = """
dataset: digits
pretrain: simclr
seed: 0
precision: float32
threads: 1
noises:
  sym: {kind: symmetric, rate: 0.4, include_true_class: false}
  pair: {kind: pairflip, rate: 0.2}
simclr: {backbone: small_cnn, width: 4, embedding_size: 8, epochs: 1, batch_size: 256}
knn: {k: 5}
scan: {epochs: 1, batch_size: 256}
warmups:
  default: {backbone: small_cnn, width: 4, epochs: 1}
methods:
  knn_vote: {}
"""


def test_dvc_repro_pretrains_and_mines_once_for_all_noises_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    bin_ = Path(sys.executable).parent
    environment = dict(os.environ) | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}

    def call(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    call("noisyctl", "plan")
    call("dvc", "init", "--no-scm", "-q")
    ran = [line for line in call("dvc", "repro").splitlines() if line.startswith("Running stage")]
    assert sum("pretrain-simclr" in line for line in ran) == sum("mine-knn" in line for line in ran) == 1
    assert sum("train-method@knn_vote" in line for line in ran) == 2
    assert "Running stage" not in call("dvc", "repro")
    assert call("dvc", "metrics", "show").count("knn_vote") >= 1
    assert "|" in (tmp_path / "data/digits/table.md").read_text()
