"""However a command ends, it says so in a line: a defect, too little memory, a closed pipe, Ctrl-C, SIGTERM, a slip."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noisyctl.cli import main as cli
from noisyctl.cli import progress
from stages import mine_knn

ROOT = Path(cli.__file__).parent.parent.parent
NOISYCTL = [sys.executable, "-c", "from noisyctl.cli.main import main; main()"]
SMALL = ["--device", "cpu", "--threads", "1", "--precision", "float32"]


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def break_mining(monkeypatch: pytest.MonkeyPatch, how: Any) -> None:
    def broken(*_: Any) -> Any:
        how()

    monkeypatch.setattr(mine_knn, "STAGE", dataclasses.replace(mine_knn.STAGE, run=broken))


def raising(error: BaseException) -> Any:
    def how() -> None:
        raise error

    return how


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOISYCTL_SCRATCH", raising=False)
    monkeypatch.setattr(progress, "_now", None)
    return tmp_path


def test_a_defect_is_one_line_and_a_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_mining(monkeypatch, raising(ZeroDivisionError("first line\nsecond line")))
    assert call(monkeypatch, "mine-knn", "--k", "3") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: ZeroDivisionError: first line; this is a defect of noisyctl; please report it"
    )
    (report,) = (place / ".noisyctl/scratch").iterdir()
    assert str(report.relative_to(place)) in line
    told = report.read_text()
    assert told.startswith("noisyctl mine-knn --k 3\n") and "second line" in told
    assert "Traceback (most recent call last)" in told and "in how" in told
    assert re.search(r"^Python 3\.", told, re.MULTILINE) and re.search(r"^torch \d", told, re.MULTILINE)


def test_the_report_goes_elsewhere_where_the_scratch_folder_cannot_take_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "mine").mkdir()
    (place / "mine/photo.jpg").write_text("mine")
    (place / "tmp").mkdir()
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(place / "mine"))
    monkeypatch.setattr("tempfile.tempdir", str(place / "tmp"))
    break_mining(monkeypatch, raising(KeyError("x")))
    assert call(monkeypatch, "mine-knn") == 1
    (report,) = (place / "tmp").iterdir()
    assert str(report) in capsys.readouterr().err
    assert [p.name for p in (place / "mine").iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError(), "MemoryError: ; this needs more memory than there is"),
        (
            RuntimeError("CUDA out of memory. Tried"),
            "this needs more memory than there is; use a smaller batch",
        ),
        (OSError(5, "Input/output error", "x.zarr"), "Input/output error.*the system refused this; mend it"),
    ],
)
def test_what_the_system_refuses_is_no_defect(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_mining(monkeypatch, raising(error))
    assert call(monkeypatch, "mine-knn") == 1
    assert re.search(said, capsys.readouterr().err)


def stop_now() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("how, code", [(raising(ValueError("x")), 1), (stop_now, 143)])
def test_debug_shows_the_traceback(
    how: Any, code: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_mining(monkeypatch, how)
    assert call(monkeypatch, "mine-knn", "--debug") == code
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert not (place / ".noisyctl").exists()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_keeps_nothing_says_so(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def halfway() -> None:
        progress.steps("mine-knn", "samples", quiet=True)(1500, 3000)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    break_mining(monkeypatch, halfway)
    assert call(monkeypatch, "mine-knn") == code
    assert capsys.readouterr().err == (
        "error: mine-knn stopped at 1,500 of 3,000 samples; nothing unfinished is kept, the same command begins anew\n"
    )
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_says_what_it_kept_and_goes_on_from_there(
    number: int, code: int, home: Path, place: Path
) -> None:
    words = [
        *NOISYCTL,
        "warmup",
        "--images",
        f"{home}/images.zarr",
        "--labels",
        f"{home}/labels.zarr",
        *SMALL,
    ]
    words += ["--backbone", "small_cnn", "--width", "4", "--batch-size", "64", "--epochs", "100000"]
    running = {**os.environ, "PYTHONPATH": str(ROOT)}
    kept = 0
    for _ in range(2):
        process = subprocess.Popen(
            [*words, "--out", "out"],
            cwd=place,
            env=running,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_ctrl_c,
        )
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith(f"warmup  epoch {kept + 1}/100000  "), first
            process.stderr.readline()
            process.send_signal(number)
            said = process.communicate(timeout=60)[1].splitlines()[-1]
            assert process.returncode == code, said
        finally:
            process.kill()
            process.wait()
        found = re.fullmatch(
            r"error: warmup stopped at epoch (\d+) of 100000; the same command goes on from there", said
        )
        assert found, said
        kept = int(found[1])
    assert not (place / "out").exists()


def _heed_ctrl_c() -> None:
    """A shell's background job, and what it starts, is told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_closed_pipe_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [*NOISYCTL, "methods", "--json"]
    running = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, env=running, text=True, check=False)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == ""


def test_a_slip_in_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "mine-kn", "--k", "3") == 2
    assert capsys.readouterr().err == "error: unknown command 'mine-kn'; did you mean 'mine-knn'?\n"


def test_lines_now_and_then_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    report = progress.steps("predict", "images", quiet=False)
    for second in range(1, 41):
        now = float(second)
        report(second * 100, 10_000)
    assert capsys.readouterr().err.splitlines() == [
        "predict  1,000/10,000 images  90 s left",
        "predict  2,000/10,000 images  80 s left",
        "predict  3,000/10,000 images  70 s left",
        "predict  4,000/10,000 images  60 s left",
    ]


def test_a_bar_keeps_count_and_time_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    report = progress.epochs("scanmix", quiet=False)
    for epoch in range(40):
        report(epoch, 40, {f"a_long_name_of_a_scalar_{i}": 0.123456 for i in range(4)})
    progress.close()
    said = terminal.getvalue()
    assert "in the first epoch" in said
    assert "epoch 40/40" in said and "scanmix" in said
    assert "scalar_2" not in said  # two at most
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


@pytest.mark.parametrize(
    "seconds, text", [(0.1, ""), (59.6, "60 s"), (170.0, "3 min"), (7500.0, "2 h 05 min")]
)
def test_times(seconds: float, text: str) -> None:
    assert progress._left(seconds) == (f"{text} left  " if text else "")


@pytest.mark.parametrize("typed", ["elr", "two-stage"])
def test_a_method_that_is_typed_as_a_command_is_told_its_command(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, typed) == 2
    name = typed.replace("-", "_")
    told = f"error: {typed} is a method; train it with `noisyctl train-method {name}`\n"
    assert capsys.readouterr().err == told
