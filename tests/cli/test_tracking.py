"""`--track`: curves in three libraries, continued by a resumed run; a library that fails neither stops nor changes a run."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pipeline
import pytest

from noisyctl.cli import tracking
from noisyctl.cli.tracking import Tracked
from noisyctl.errors import ParamsError
from noisyctl.session import Silent

PARAMS = {"learning_rate": 0.02, "views": "weak", "weights": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def train(library: str, first: int, last: int, start: float) -> None:
    """The epochs of a process, of four in all."""
    report = Tracked(Silent(), library, "data/digits/runs/elr/a-s0", PARAMS).epochs("elr")
    for epoch in range(first, last):
        report(epoch, 4, {"loss": start - epoch, "bad": float("nan")})


def in_tensorboard() -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("tracking/tensorboard/data/digits/runs/elr/a-s0")
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    return {event.step: event.value for event in events.Scalars("loss")}


def in_dvclive() -> dict[int, float]:
    place = Path("tracking/dvclive/data/digits/runs/elr/a-s0")
    assert "learning_rate: 0.02" in (place / "params.yaml").read_text()
    _, *rows = (place / "plots/metrics/loss.tsv").read_text().splitlines()
    return {int(step): float(value) for step, value in (row.split("\t") for row in rows)}


def in_mlflow() -> dict[int, float]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=Path("tracking/mlflow").absolute().as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'noisyctl'")
    run = client.search_runs([experiment.experiment_id])[0]  # the latest one
    assert run.data.params["views"] == "weak" and run.info.status == "FINISHED"
    return {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")}


@pytest.mark.parametrize(
    "library, read", [("tensorboard", in_tensorboard), ("dvclive", in_dvclive), ("mlflow", in_mlflow)]
)
def test_a_resumed_run_continues_its_curve_and_a_new_one_begins_another(
    library: str, read: Callable[[], dict[int, float]], folder: Path
) -> None:
    pytest.importorskip(library)
    train(library, 0, 2, 10.0)
    train(library, 2, 4, 10.0)  # another process, which goes on from the checkpoint
    assert read() == {0: 10.0, 1: 9.0, 2: 8.0, 3: 7.0}
    train(library, 0, 4, 20.0)
    assert read() == {0: 20.0, 1: 19.0, 2: 18.0, 3: 17.0}
    assert {path.name for path in folder.iterdir()} <= {"tracking"}


def test_a_log_lies_in_tracking_wherever_the_output_lies(folder: Path) -> None:
    assert tracking._folder("dvclive", "../../x", 0) == Path("tracking/dvclive/x")
    assert tracking._folder("dvclive", "/tmp/x", 0) == Path("tracking/dvclive/tmp/x")


def test_a_new_pretraining_leaves_the_logs_of_the_runs_on_its_features(folder: Path) -> None:
    below = tracking._folder("tensorboard", "data/digits/simclr/runs/elr/a-s0", 0) / "events"
    own = tracking._folder("tensorboard", "data/digits/simclr", 0) / "events"
    for file in (below, own):
        file.write_text("x")
    tracking._folder("tensorboard", "data/digits/simclr", 3)
    assert own.exists() and below.exists()
    tracking._folder("tensorboard", "data/digits/simclr", 0)
    assert not own.exists() and below.exists()


def test_a_tracked_run_has_the_same_bytes_and_one_whose_library_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", "scratch")
    pipeline.prepare(tmp_path / "data/digits")
    words = (
        "warmup",
        "--backbone",
        "small_cnn",
        "--width",
        "4",
        "--epochs",
        "3",
        "--networks",
        "1",
        "--threads",
        "1",
    )

    def run(out: str, *more: str) -> bytes:
        assert pipeline.command(*words, *more, "--out", out) == 0
        return (tmp_path / out / "networks.safetensors").read_bytes()

    plain = run("plain")
    assert run("tracked", "--track", "tensorboard") == plain
    assert list(Path("tracking/tensorboard/tracked").glob("events*"))
    asked: list[int] = []

    class Broken:
        def __init__(self, about: str, what: str, first: int, params: Mapping[str, Any]) -> None:
            assert (about, what, first) == ("broken", "warmup", 0) and params["epochs"] == 3

        def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
            asked.append(epoch)
            if epoch == 1:
                raise ConnectionError("the server is gone")

        def close(self) -> None:
            raise AssertionError

    monkeypatch.setitem(tracking.LOGS, "tensorboard", Broken)
    Path("params.yaml").write_text("track: tensorboard\n")
    capsys.readouterr()
    assert run("broken") == plain
    assert asked == [0, 1]
    assert (
        capsys.readouterr().err.count("tensorboard logs nothing more of this run (the server is gone)") == 1
    )


def test_a_library_that_is_not_there_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(ParamsError, match="--track wandb: wandb is not installed; pip install wandb"):
        tracking.require("wandb")
    tracking.require("")


def test_no_library_is_imported_unasked() -> None:
    code = "import sys, noisyctl.cli.execute, noisyctl.runs.train_method, stages.warmup\n"
    code += f"print(sorted({set(tracking.PACKAGES.values())} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_another_name_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("track: tensorbord\n")
    assert pipeline.command("warmup") == 2
    assert "track is 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
