"""An output never harms what noisyctl did not write: every command against every kind of place that a slip can name."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pipeline
import pytest
from PIL import Image

from noisyctl.artifacts import files, store, tensor_files
from noisyctl.artifacts.kinds import LABELS, NEIGHBORS
from noisyctl.cli import main as cli
from noisyctl.errors import OutputError

SMALL = ["--device", "cpu", "--threads", "1", "--json"]
TINY = ["--backbone", "small_cnn", "--width", "4", "--epochs", "0", "--batch-size", "64"]


@pytest.fixture(scope="module")
def made(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline, a run, its results and a folder of photos."""
    at = Path(shutil.copytree(home, tmp_path_factory.mktemp("made") / "home"))
    pipeline.train(at, "cross_entropy", at / "runs/cross_entropy/given-s0", epochs=1)
    pipeline.judge(at, at / "runs", at / "results")
    photos(at / "photos")
    return at


def photos(root: Path) -> Path:
    """Six photos in two classes, and a file that belongs to the user."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(root / name / f"{i}.png")
    (root / "notes.txt").write_text("mine\n")
    return root


def commands(made: Path) -> dict[str, list[str]]:
    """Every command that has an output, with all its inputs named."""
    images, labels = ["--images", f"{made}/images.zarr"], ["--labels", f"{made}/labels.zarr"]
    encoder = ["--encoder", f"{made}/simclr/encoder.safetensors"]
    neighbors = ["--neighbors", f"{made}/neighbors.zarr"]
    return {
        "prepare-data": ["--dataset", "folder", "--root", f"{made}/photos", "--image-size", "8"],
        "inject-noise": ["--truth", f"{made}/truth.zarr", "--kind", "pairflip", "--rate", "0.2"],
        "pretrain-simclr": [*images, *TINY],
        "pretrain-moco": [*images, *TINY, "--queue-size", "64"],
        "mine-knn": ["--features", f"{made}/simclr/features.zarr"],
        "cluster-scan": [*images, *encoder, *neighbors, "--epochs", "0", "--batch-size", "64"],
        "warmup": [*images, *labels, *TINY],
        "train-method": ["cross_entropy", *images, *labels, "--warmup", f"{made}/warmup", "--epochs", "0"],
        "evaluate": ["--run", f"{made}/runs", "--truth", f"{made}/truth.zarr"],
        "table": ["--metrics", f"{made}/results/metrics.json"],
        "predict": ["--run", f"{made}/runs/cross_entropy/given-s0", "--root", f"{made}/photos"],
    }


NAMES = list(commands(Path()))


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with contextlib.suppress(SystemExit):
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def digest(folder: Path) -> str:
    """The names, links and bytes of everything below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path.relative_to(folder)} {path.is_symlink()} {path.is_dir()}\n".encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def folder_of_photos(place: Path, made: Path) -> Path:
    return photos(place / "photos")


def project(place: Path, made: Path) -> Path:
    (place / "project/.git").mkdir(parents=True)
    (place / "project/params.yaml").write_text("dataset: digits\n")
    (place / "project/code.py").write_text("print()\n")
    return place / "project"


def data_folder(place: Path, made: Path) -> Path:
    shutil.copytree(made, place / "data/digits", ignore=shutil.ignore_patterns("photos", "scratch"))
    (place / "data/README.md").write_text("what lies here\n")
    return place / "data"


def other_artifact(place: Path, made: Path) -> Path:
    return Path(shutil.copytree(made / "all/images.zarr", place / "other.zarr"))


def link_to_a_folder(place: Path, made: Path) -> Path:
    (place / "target").mkdir()
    (place / "target/kept.txt").write_text("mine\n")
    (place / "link").symlink_to(place / "target", target_is_directory=True)
    return place / "link"


def read_only(place: Path, made: Path) -> Path:
    (place / "locked").mkdir()
    (place / "locked").chmod(0o555)
    return place / "locked/new"


def current(place: Path, made: Path) -> Path:
    (place / "kept.txt").write_text("mine\n")
    os.chdir(place)
    return Path()


PLACES = (folder_of_photos, project, data_folder, other_artifact, link_to_a_folder, read_only, current)


@pytest.fixture
def back() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("command", NAMES)
def test_refused_and_nothing_changed(
    command: str,
    place: Callable[[Path, Path], Path],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    back: None,
) -> None:
    out = place(tmp_path, made)
    before = digest(tmp_path), digest(made)
    words = [command, *commands(made)[command], *SMALL, "--out", str(out)]
    if command == "table" and place is not current:
        # a table is three files: the slip is a folder, or a foreign file, that has their name
        words[-1] = str(out.with_suffix(".md"))
        if out.exists():
            out.rename(out.with_suffix(".md"))
            before = digest(tmp_path), digest(made)
    assert call(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "nothing was written" in said
    assert any(
        cure in said for cure in ("--out", "Give the place it leads to", "Give the folder it leads to")
    )
    assert (digest(tmp_path), digest(made)) == before


@pytest.mark.parametrize("command", NAMES)
def test_an_empty_out_is_the_current_folder(
    command: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, command, *commands(made)[command], *SMALL, "--out", "") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", NAMES)
def test_the_same_output_can_be_made_again(
    command: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command wrote itself it may replace."""
    name = {"mine-knn": "n.zarr", "inject-noise": "l.zarr", "table": "t.md", "predict": "p.csv"}
    out = str(tmp_path / name.get(command, "out"))
    monkeypatch.chdir(tmp_path)
    if command == "predict":  # its state holds networks alone, which the type checks of the tests refuse
        words = [
            sys.executable,
            "-c",
            "from noisyctl.cli.main import main; main()",
            command,
            *commands(made)[command],
        ]
        place = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent.parent)}
        for _ in range(2):
            subprocess.run([*words, *SMALL, "--out", out], check=True, env=place, capture_output=True)
        return
    for _ in range(2):
        assert call(monkeypatch, command, *commands(made)[command], *SMALL, "--out", out) == 0


OVERLAPS = {
    "an input itself": ("mine-knn", "{made}/simclr/features.zarr"),
    "inside the photos": ("prepare-data", "{made}/photos/out"),
    "the photos": ("prepare-data", "{made}/photos"),
    "photos to predict": ("predict", "{made}/photos/predictions.csv"),
    "the folder of the photos to predict": ("predict", "{made}/photos"),
    "the runs": ("evaluate", "{made}/runs"),
    "inside the runs": ("evaluate", "{made}/runs/results"),
    "around the runs": ("evaluate", "{made}"),
    "the truth": ("evaluate", "{made}/truth.zarr"),
    "the truth instead of labels": ("inject-noise", "{made}/truth.zarr"),
    "the warm-up": ("train-method", "{made}/warmup"),
    "inside the features": ("mine-knn", "{made}/simclr/features.zarr/n.zarr"),
    "the metrics": ("table", "{made}/results"),
}


@pytest.mark.parametrize("command, out", OVERLAPS.values(), ids=OVERLAPS)
def test_an_output_is_no_input(
    command: str, out: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(made)
    words = [command, *commands(made)[command], *SMALL, "--out", out.format(made=made)]
    assert call(monkeypatch, *words) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert digest(made) == before


def test_the_params_file_is_an_input(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.csv"
    params.write_text("path,label,probability: {}\n")
    before = params.read_bytes()
    words = ["--params-file", str(params), "--out", str(params)]
    assert call(monkeypatch, "predict", *commands(made)["predict"], *SMALL, *words) == 2
    assert params.read_bytes() == before


@pytest.mark.parametrize("option", ["--root", "--params-file"])
@pytest.mark.parametrize("place", PLACES[:5], ids=lambda place: place.__name__)
def test_what_is_read_stays_as_it_is(
    option: str,
    place: Callable[[Path, Path], Path],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in").mkdir()
    given = place(tmp_path / "in", made)
    before = digest(tmp_path / "in")
    words = ["prepare-data", "--dataset", "folder", "--root", f"{made}/photos", "--image-size", "8"]
    call(monkeypatch, *words, *SMALL, option, str(given), "--out", str(tmp_path / "out"))
    assert digest(tmp_path / "in") == before


@pytest.mark.parametrize("place", PLACES[:5], ids=lambda place: place.__name__)
def test_a_scratch_folder_holds_nothing_else(
    place: Callable[[Path, Path], Path],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scratch = place(tmp_path, made)
    before = digest(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(scratch))
    words = [*commands(made)["warmup"], *SMALL, "--out", str(tmp_path / "new")]
    assert call(monkeypatch, "warmup", *words) == 2
    assert "set NOISYCTL_SCRATCH to a new folder of its own" in capsys.readouterr().err
    assert digest(tmp_path) == before


def test_a_users_file_inside_an_artifact_stays(made: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "neighbors.zarr", tmp_path / "n.zarr"))
    (out / "indices" / "notes.txt").write_text("mine")
    found = store.read(out, NEIGHBORS)
    arrays = {name: found.array(name) for name in found.names}
    with pytest.raises(OutputError, match=r"n\.zarr holds indices/notes\.txt, which noisyctl did not write"):
        store.write(out, NEIGHBORS, arrays)
    (out / "indices" / "notes.txt").unlink()
    store.write(out, NEIGHBORS, arrays)


def test_a_damaged_artifact_can_be_made_again(made: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "labels.zarr", tmp_path / "l.zarr"))
    (out / "zarr.json").write_text("{")
    store.write(out, LABELS, {"noisy_labels": np.zeros(3, int)})


def test_an_edited_result_stays(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "results"
    words = ["evaluate", *commands(made)["evaluate"], *SMALL, "--out", str(out)]
    assert call(monkeypatch, *words) == 0
    (edited,) = out.glob("samples/*.csv")
    edited.write_text(edited.read_text() + "a note of mine\n")
    assert call(monkeypatch, *words) == 2
    assert edited.read_text().endswith("a note of mine\n")


def test_networks_of_another_kind_stay(made: Path, tmp_path: Path) -> None:
    place = tmp_path / "networks.safetensors"
    shutil.copy(made / "clusters.safetensors", place)
    with pytest.raises(OutputError, match="holds clusters, not encoder"):
        tensor_files.write(place, {}, {"kind": "encoder"})
    place.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(OutputError, match="not a file that noisyctl wrote, or is damaged"):
        tensor_files.write(place, {}, {"kind": "encoder"})


def test_what_appears_while_a_command_works_stays(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="is not a file that this command wrote"),
        files.publish(tmp_path / "p.csv", files.Text(("path",))) as partial,
    ):
        partial.write_text("path\n")
        (tmp_path / "p.csv").write_text("mine\n")
    assert (tmp_path / "p.csv").read_text() == "mine\n"


def test_a_clone_of_the_project_takes_its_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of data/, git keeps the metrics alone: the folder holds no artifact, and is noisyctl's all the same."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(
        ["git", "ls-files", "data", "params.yaml"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout, so nobody knows what a clone would hold")
    for name in listed.stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    assert (tmp_path / "data/digits/results/metrics.json").is_file()
    from noisyctl import prepare_data as first

    assert first()["train images"] == 1297
    (tmp_path / "data/other/results").mkdir(parents=True)
    (tmp_path / "data/other/results/metrics.json").write_text("mine")
    with pytest.raises(OutputError, match="is a folder with other files"):
        first(out="data/other")
