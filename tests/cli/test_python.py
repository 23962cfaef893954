"""The commands as Python functions: the same work, results and errors as on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import noisyctl
from noisyctl.cli.commands import COMMANDS
from noisyctl.errors import NoisyctlError, ParamsError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path


def test_the_example_of_the_page_runs(empty: Path) -> None:
    """In a process of its own, as a reader would run it."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**__import__("os").environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"39% of the labels are wrong now\nmost suspicious: digits-\d+, called .*, looks like .*\n\[\{'row': .*\}\]\n"
        r"9\d\.\d% of the test samples are right\nModel 8 \['0', '1', '2'\]\n",
        done.stdout,
    )


def test_a_function_gives_what_json_prints(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisyctl.prepare_data(dataset="digits", out="data/digits")
    words = {"kind": "symmetric", "rate": 0.4, "include_true_class": False, "seed": 3}
    told = noisyctl.inject_noise(dataset="digits", out="L.zarr", **words)
    assert capsys.readouterr().out == ""
    line = [
        "inject-noise",
        "--dataset",
        "digits",
        "--kind",
        "symmetric",
        "--rate",
        "0.4",
        "--exclude-true-class",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["noisyctl", *line, "--seed", "3", "--out", "M.zarr", "--json"])
        with pytest.raises(SystemExit) as ended:
            __import__("noisyctl.cli.main", fromlist=["main"]).main()
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    assert told | {"labels": ""} == printed | {"labels": ""}
    same = [(empty / name / "noisy_labels/c/0").read_bytes() for name in ("L.zarr", "M.zarr")]
    assert same[0] == same[1]


def test_errors_are_raised_with_the_exact_cure(empty: Path) -> None:
    noisyctl.prepare_data(dataset="digits", out="data/own")
    with pytest.raises(
        NoisyctlError, match=r"`noisyctl mine-knn --dataset own|`noisyctl pretrain-moco --dataset own"
    ):
        noisyctl.mine_knn(dataset="own", pretrain="moco")
    with pytest.raises(ParamsError, match="--rate"):
        noisyctl.inject_noise(dataset="digits", kind="symmetric", rate=2, include_true_class=True)


def test_slips_are_told(empty: Path) -> None:
    with pytest.raises(TypeError, match="mine_knn has no argument 'kk'"):
        noisyctl.mine_knn(kk=3)
    with pytest.raises(TypeError, match="train_method needs the name of a method first"):
        noisyctl.train_method()
    with pytest.raises(TypeError, match=r"why: Missing (argument|parameter)"):
        noisyctl.why(result="photos-clean")
    with pytest.raises(ParamsError, match="give the folder of the photos"):
        noisyctl.clean()
    with pytest.raises(AttributeError, match="noisyctl has no 'mine_nn'"):
        noisyctl.mine_nn  # noqa: B018


def test_packages_of_the_library_are_not_hidden_by_commands() -> None:
    code = "from noisyctl import methods, sweep; print(methods.__name__, sweep.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "noisyctl.methods noisyctl.sweep\n"


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("methods", "sweep", "doctor", "init")]
)
def test_every_other_command_is_a_function(command: str) -> None:
    call = getattr(noisyctl, command.replace("-", "_"))
    assert call.__doc__.startswith(COMMANDS[command][1])
