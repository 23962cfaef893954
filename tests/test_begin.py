"""`noisyctl init`: a project of the user's own, from photos to the table; what it refuses; and git and DVC around it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from noisyctl import code
from noisyctl.cli.main import main
from noisyctl.config import read_params_file
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.layout import Layout
from noisyctl.papers import begin, files, pipeline, printed
from noisyctl.papers.begin import About
from stages.warmup import PROFILES

ROOT = Path(__file__).parent.parent


def write_photos(folder: Path, count: int = 60) -> Path:
    """Digits as photos, in a folder for each of three classes."""
    digits = load_digits()
    for i in range(count):
        place = folder / f"digit {digits.target[i] % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory and lies in no git repository."""
    place = tmp_path / "mine"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def make(about: About, **options: Any) -> begin.Begun:
    return begin.begin(about, PROFILES, **options)


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pipeline_of(text: str, **options: Any) -> dict[str, Any]:
    """The stages of dvc.yaml for a params.yaml of this text."""
    Path("params.yaml").write_text(text)
    file = read_params_file(Path("params.yaml"))
    layout = Layout(str(file.get("dataset")), str(file.get("pretrain")), **options)
    found = pipeline.cells(file, layout, PROFILES, range(1))
    stages: dict[str, Any] = yaml.safe_load(pipeline.text(file, layout, found))["stages"]
    return stages


# ------------------------------------------------------------------------------------------------------- the whole job


def test_from_photos_to_a_table_and_only_changed_code_runs_again(photos: Path, folder: Path) -> None:
    installed = folder.parent / "installed"  # a copy of the package, whose code this test changes
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, installed / name, ignore=shutil.ignore_patterns("__pycache__"))
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {
        "PATH": places,
        "PYTHONPATH": str(installed),
        "NOISYCTL_SCRATCH": ".noisyctl",
        "OMP_NUM_THREADS": "1",
    }

    def call(line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=folder, capture_output=True, text=True, env=os.environ | own
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    section = (ROOT / "README.md").read_text().split("## A project of your own\n")[1].split("\n## ")[0]
    first, repro, again = (line.partition("#")[0].strip() for line in re.findall("^    (.*)$", section, re.M))
    said = call(first.replace("../photos", os.path.relpath(photos, folder)))
    assert "dvc.yaml, cells.yaml: the pipeline" in said and "\nnext\n  dvc repro" in said
    assert yaml.safe_load((folder / "params.yaml").read_text())["datasets"]["photos"]["root"] == str(photos)
    assert {".git", ".dvc", ".gitignore", "params.yaml", "dvc.yaml", "cells.yaml"} <= held(folder)

    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["embed"]["image_size"], values["threads"], values["warmups"]["default"]["epochs"] = 32, 1, 1
    values["methods"] = {"knn_vote": {}, "cross_entropy": {"epochs": 1}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    assert call(again).count("Running stage") == 8  # two methods, not the four of init
    assert (folder / "data/photos/table.md").read_text().count("\n| ") == 4  # head, line, two methods
    results = folder / "data/photos/efficientnet_lite0/results"
    assert list((results / "figures").iterdir()) and (results / "samples/cross_entropy-given-s0.csv").exists()
    assert "Running stage" not in call(repro)

    # an experiment, as docs/experiments.md shows it, shares all that it does not touch
    call("git add -A && git -c user.name=me -c user.email=me@example.org commit -q -m begun")
    said = call("dvc exp run --set-param methods.cross_entropy.epochs=2")
    ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert ran == ["train-method@cross_entropy-given-s0", "evaluate", "table"]
    changed = json.loads(call("dvc metrics diff --all --json"))
    ((path, of_runs),) = changed.items()
    assert path.endswith("results/scores.json")
    assert of_runs.keys() == {"cross_entropy/given-s0.called_wrong", "knn_vote/given-s0.called_wrong"}

    method = installed / "noisyctl/methods/cross_entropy.py"
    method.write_text(method.read_text() + "\n# changed\n")
    call("noisyctl plan")  # writes the digests of the code anew
    stale = [line for line in call("dvc repro --dry").splitlines() if line.startswith("Running stage")]
    assert stale == ["Running stage 'train-method@cross_entropy-given-s0':"]


# ------------------------------------------------------------------------------------------------------- what is made


def test_photos_in_the_project_are_kept_out_of_git_and_nothing_that_lies_there_is_lost(folder: Path) -> None:
    write_photos(folder / "my photos.v2", 9)
    (folder / ".gitignore").write_text("/data/\n*.bak")
    (folder / "notes.txt").write_text("mine")
    make(About(photos=Path("my photos.v2")), git=False)
    assert (
        folder / ".gitignore"
    ).read_text() == "/data/\n*.bak\n/.noisyctl/\n/plans/\n/tracking/\n/my photos.v2/\n"
    assert (folder / "notes.txt").read_text() == "mine"
    values = yaml.safe_load((folder / "params.yaml").read_text())
    assert values["dataset"] == "my-photos"
    assert values["datasets"]["my-photos"]["root"] == str(folder / "my photos.v2")
    assert "no_scm" in (folder / ".dvc/config").read_text() and not (folder / ".git").exists()


@pytest.mark.parametrize(
    ("name", "called"), [("2024", "photos-2024"), ("yes", "photos-yes"), ("digits", "photos-digits")]
)
def test_a_folders_name_that_means_something_else_is_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, called: str
) -> None:
    write_photos(folder / name, 9)
    assert yaml.safe_load(begin.params_text(About(photos=Path(name))))["dataset"] == called


def test_a_manifest_names_photos_below_its_own_folder_or_below_another(photos: Path, folder: Path) -> None:
    paths = sorted(photos.rglob("*.png"))[:30]
    rows = [
        f"{path.relative_to(photos)},{path.parent.name},{'test' if i < 5 else 'train'}"
        for i, path in enumerate(paths)
    ]
    Path("labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    with pytest.raises(NoisyctlError, match=r"none of the 30 photos that labels\.csv names lies in"):
        make(About(manifest=Path("labels.csv")))
    assert held(folder) == {"labels.csv"}
    make(About(photos, Path("labels.csv")))
    block = yaml.safe_load(Path("params.yaml").read_text())["datasets"]["photos"]
    assert (block["root"], block["manifest"]) == (str(photos), str(folder / "labels.csv"))
    prepare = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["prepare-data"]
    assert prepare["deps"] == ["${datasets.photos.root}", "${datasets.photos.manifest}"]
    assert "data/${dataset}/truth.zarr" in prepare["outs"]  # the labels of the split test


def test_a_data_set_gets_noise_and_a_paper_its_rows(folder: Path) -> None:
    stages = pipeline_of(begin.params_text(About(dataset="digits")), input="features")
    assert list(stages) == [
        "prepare-data",
        "inject-noise",
        "embed",
        "mine-knn",
        "warmup",
        "train-method",
        "evaluate",
        "table",
    ]
    assert "deps" not in stages["prepare-data"]
    with pytest.raises(ParamsError, match="comes with wrong labels of its own"):
        begin.params_text(About(dataset="clothing1m"))
    with pytest.raises(ParamsError, match="did you mean 'digits'"):
        begin.params_text(About(dataset="digit"))
    with pytest.raises(
        ParamsError, match="folder is no data set that comes with labels; for photos there are --photos"
    ):
        begin.params_text(About(dataset="folder"))
    with pytest.raises(ParamsError, match=r"has no root in params\.yaml"):
        pipeline_of("dataset: a\ndatasets: {a: {kind: folder}}\npretrain: simclr\nmethods: {}\n")
    Path("params.yaml").unlink()
    begun = make(About(paper="smp"), git=False)
    assert begun.next == "noisyctl sweep smp --budget smoke"
    assert printed.load("smp").params.path == "papers/smp/params.yaml" and printed.names() == ["smp"]
    with pytest.raises(ParamsError, match="papers lies here already"):
        make(About(paper="smp"), git=False)


# ------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "cells.yaml", "dvc.lock"])
def test_a_folder_in_use_is_left_as_it_is(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / name).write_text("mine: 1\n")
    monkeypatch.setattr(sys, "argv", ["noisyctl", "init", "--photos", str(photos)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {name} lies here already, so nothing was touched")
    assert held(folder) == {name} and (folder / name).read_text() == "mine: 1\n"


@pytest.mark.parametrize(
    ("words", "code_", "said"),
    [
        (["--photos", "nowhere"], 1, "nowhere is not a folder"),
        (["--photos", "empty"], 1, "has no photo in a folder of a class"),
        (["--photos", "one"], 1, "holds one class folder"),
        (["--paper", "scanmi"], 2, "did you mean 'scanmix'"),
        ([], 2, "give one of --photos DIR, --manifest FILE, --dataset NAME and --paper NAME"),
        (["--photos", "one", "--dataset", "digits"], 2, "give one of"),
    ],
)
def test_bad_input_is_told_in_one_line_and_makes_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code_: int,
    said: str,
) -> None:
    (folder / "empty").mkdir()
    (folder / "one/class").mkdir(parents=True)
    shutil.copy(ROOT / "docs/demonstration.png", folder / "one/class")
    monkeypatch.setattr(sys, "argv", ["noisyctl", "init", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert (ended.value.code, len(err.splitlines())) == (code_, 1), err
    assert said in err and held(folder) == {"empty", "one"}


# ------------------------------------------------------------------------------------------------------- git and DVC


def git(*words: str, cwd: Path) -> str:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


def test_below_another_dvc_project_and_git_repository_it_is_a_dvc_project_of_its_own(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("init", "-q", cwd=folder)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    before = (folder / ".dvc/config").read_bytes()
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    made = make(About(photos=photos)).made
    assert ".dvc: a DVC project" in made and not (folder / "below/.git").exists()
    assert (folder / ".dvc/config").read_bytes() == before
    root = subprocess.run(
        [sys.executable, "-m", "dvc", "root"], cwd=folder / "below", capture_output=True, text=True
    )
    assert root.stdout.strip() == "."
    (folder / "ignored").mkdir()
    (folder / ".gitignore").write_text("/ignored/\n")
    monkeypatch.chdir(folder / "ignored")
    with pytest.raises(ParamsError, match="ignores this folder, where DVC refuses to work"):
        make(About(photos=photos))
    assert held(folder / "ignored") == set()


def test_without_git_dvc_does_without(photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "git" else which(name, *rest))
    assert ".dvc: a DVC project, without git" in make(About(photos=photos)).made
    config = (folder / ".dvc/config").read_text()
    assert "no_scm = true" in config.lower() and "analytics = false" in config
    assert not (folder / ".git").exists()


# ------------------------------------------------------------------------------------------------------- the template


def test_the_demonstrations_dvc_yaml_is_made_from_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = read_params_file(Path("params.yaml"))
    layout = Layout(str(file.get("dataset")), str(file.get("pretrain")), seed=int(file.get("seed")))
    found = pipeline.cells(file, layout, PROFILES, range(1))
    assert Path("dvc.yaml").read_text() == pipeline.text(file, layout, found), "run noisyctl plan"


def test_embed_depends_on_its_code_in_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = read_params_file(Path("params.yaml"))
    layout = Layout("digits", "timm:vit", input="features")
    found = pipeline.cells(file, layout, PROFILES, range(1))
    embed = yaml.safe_load(pipeline.text(file, layout, found))["stages"]["embed"]
    assert embed["outs"] == ["data/${dataset}/timm-vit/features.zarr"]
    deps = [dep for dep in embed["deps"] if dep.startswith(("noisyctl/", "stages/"))]
    needed = {str(path.relative_to(ROOT)) for path in code.files_of("embed").values()}
    assert {
        path for path in needed if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)
    } == set()
    assert [
        dep for dep in deps if not any(path == dep or path.startswith(f"{dep}/") for path in needed)
    ] == []


def test_a_method_that_needs_clusters_brings_their_stage(folder: Path) -> None:
    text = "dataset: digits\npretrain: efficientnet_lite0\nnoises: {a: {kind: pairflip, rate: 0.4}}\n"
    plain = pipeline_of(text + "methods: {elr: {}}\n", input="features")
    assert "cluster-scan" not in plain
    stages = pipeline_of(text + "methods: {scanmix: {}}\n", input="features")
    assert stages["cluster-scan"]["outs"] == ["data/${dataset}/${pretrain}/vectors/clusters.safetensors"]
    assert {"cells.yaml": ["code.cluster-scan"]} in stages["cluster-scan"]["params"]
    assert "warmup" not in pipeline_of(text + "methods: {knn_vote: {}}\n", input="features")


def test_a_plan_keeps_a_dvc_yaml_that_somebody_edits(photos: Path, folder: Path) -> None:
    make(About(photos=photos), git=False)
    file = read_params_file(Path("params.yaml"))
    layout = Layout("photos", "efficientnet_lite0", input="features")
    edited = Path("dvc.yaml").read_text().partition("\n")[2] + "# mine\n"
    Path("dvc.yaml").write_text(edited)
    pipeline.write(file, layout, PROFILES, range(1), Path("cells.yaml"))
    assert Path("dvc.yaml").read_text() == edited
    made = pipeline.HEAD + "\nstages: {}\n"
    Path("dvc.yaml").write_text(made)
    shutil.copy("params.yaml", "other.yaml")
    pipeline.write(read_params_file(Path("other.yaml")), layout, PROFILES, range(1), Path("cells.yaml"))
    pipeline.write(file, layout, PROFILES, range(1), Path("other_cells.yaml"))
    assert Path("dvc.yaml").read_text() == made  # DVC reads params.yaml and cells.yaml
    pipeline.write(file, layout, PROFILES, range(1), Path("cells.yaml"))
    assert "train-method" in Path("dvc.yaml").read_text()


def test_json_tells_what_was_made(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["noisyctl", "init", "--photos", str(photos), "--no-git", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["next"] == "dvc repro"
    assert files.home() == files.PACKAGED
