"""What a user wrote and nothing knows is refused, with what there is: no name is passed over in silence."""

import json
import sys
from pathlib import Path

import pytest

from noisyctl.artifacts import metrics
from noisyctl.cli import main as cli
from noisyctl.errors import ArtifactError, ParamsError
from stages import table


def call(*words: str) -> None:
    before, sys.argv = sys.argv, ["noisyctl", *words]
    try:
        cli.app(list(words), standalone_mode=False)
    finally:
        sys.argv = before


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words, said",
    [
        (("--set", "epohs=3"), "--set: epohs is not a parameter; one of: dataset"),
        (("--set", "method.pencil.epochs=3"), "--set: method is not a parameter; did you mean 'methods'"),
        (
            ("--set", "methods.penicl.epochs=3"),
            "--set: methods.penicl: unknown method 'penicl'; did you mean 'pencil'",
        ),
        (
            ("--set", "methods.pencil.epohs=3"),
            "methods.pencil.epohs is not a parameter; did you mean 'epochs'",
        ),
        (("--params-file", "nope.yaml"), "nope.yaml does not exist; give a file to --params-file"),
    ],
)
def test_options(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        call("train-method", "pencil", "--dry-run", *words)


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "methods: {penicl: {epochs: 3}}",
            "params.yaml:1: methods.penicl: unknown method 'penicl'; did you mean 'pencil'",
        ),
        ("methods: pencil", "params.yaml:1: methods is 'pencil'; write a block"),
        ("noises:\n  - sym60", "params.yaml:1: noises is .*; write a block"),
        ("epohs: 3", "params.yaml:1: epohs is not a parameter"),
    ],
)
def test_params_yaml(text: str, said: str, empty_folder: Path) -> None:
    (empty_folder / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=said):
        call("train-method", "pencil", "--dry-run")


def test_a_table_and_a_budget_need_a_paper() -> None:
    for words in (("--table", "1"), ("--budget", "smoke"), ("--only", "row=elr")):
        with pytest.raises(
            ParamsError, match="--table, --only and --budget need a paper: noisyctl plan PAPER"
        ):
            call("plan", *words)


def test_metrics_that_are_not_there_and_runs_of_one_name(empty_folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nope.json does not exist; make it with `noisyctl evaluate`"):
        call("table", "--metrics", "nope.json")
    for name in ("a.json", "b.json"):
        metrics.write(empty_folder / name, {"runs": {"elr/sym60-s0": {"method": "elr"}}})
    with pytest.raises(
        ArtifactError, match=r"b\.json and an earlier file both hold elr/sym60-s0; make a table for each"
    ):
        table.run(table.Inputs((Path("a.json"), Path("b.json")), Path("t.md")))


@pytest.mark.parametrize("command", ["status", "mine-knn", "evaluate", "prepare-data"])
@pytest.mark.parametrize(
    "name, said",
    [
        ("phtoos", "did you mean 'photos'"),
        ("cifar01", "did you mean 'cifar10'"),
        ("mien", "did you mean 'mine'"),
        ("xyzzy", "one of: "),
    ],
)
def test_a_slip_in_a_data_set(command: str, name: str, said: str, empty_folder: Path) -> None:
    (empty_folder / "data/photos").mkdir(parents=True)
    (empty_folder / "params.yaml").write_text("datasets: {mine: {kind: folder, root: x}}\n")
    with pytest.raises(ParamsError, match=f"no data set '{name}'; {said}.*--root FOLDER --out data/{name}"):
        call(command, "--dataset", name)
    call("mine-knn", "--dataset", "mine", "--dry-run")
    call("mine-knn", "--dataset", "photos", "--dry-run")


def test_status_names_the_data_set_and_goes_on_to_the_table(
    capsys: pytest.CaptureFixture[str], empty_folder: Path
) -> None:
    (empty_folder / "data/photos").mkdir(parents=True)
    call("status", "--dataset", "photos", "--json")
    assert json.loads(capsys.readouterr().out)["next"] == "noisyctl prepare-data --dataset photos"
