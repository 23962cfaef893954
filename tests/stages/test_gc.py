"""`noisyctl gc`: what takes space is told; an unfinished run goes only where asked, and never while a process is at it."""

import json
import os
import time
from pathlib import Path

import pipeline
import pytest

from noisyctl.runs import space
from noisyctl.training.scratch import hold

SCRATCH = Path(".noisyctl")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOISYCTL_SCRATCH", raising=False)


def stopped(name: str, days: float) -> Path:
    """An unfinished run that nothing was written to for so many days."""
    with (
        pytest.raises(KeyboardInterrupt),
        hold(SCRATCH, "warmup", {"name": name}, Path(f"data/{name}")) as scratch,
    ):
        (scratch.folder / "checkpoint.safetensors").write_bytes(b"x" * 5000)
        raise KeyboardInterrupt
    for path in [scratch.folder, *scratch.folder.rglob("*")]:
        os.utime(path, (time.time() - days * space.DAY,) * 2)
    return scratch.folder


def gc(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert pipeline.command("gc", *words) == 0
    return capsys.readouterr().out


def test_nothing_is_removed_unasked_and_only_what_is_old_where_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = stopped("old", 9.5), stopped("new", 2)
    Path("data").mkdir()
    Path("data/a").write_bytes(b"y" * 2_500_000)
    Path("data/b").symlink_to("a")  # counted once
    said = gc(capsys)
    assert said.splitlines()[0].startswith("unfinished runs: 2, ")
    assert said.index("warmup for data/old: ") < said.index("warmup for data/new: ")
    assert "waits since 9.5 days" in said and "`noisyctl gc --unfinished 7`" in said
    assert "data: 2.5 MB, artifacts" in said
    assert old.is_dir() and new.is_dir()
    said = gc(capsys, "--unfinished", "7")
    assert said.startswith("removed 1 unfinished run, ") and "data/old" not in said
    assert not old.exists() and (new / "checkpoint.safetensors").exists()
    found = json.loads(gc(capsys, "--unfinished", "0", "--json"))
    assert (found["removed"], found["unfinished"]) == (1, []) and found["freed"] > 5000


def test_a_run_that_a_process_is_at_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with hold(SCRATCH, "warmup", {}, Path("data/x")) as scratch:
        (scratch.folder / "checkpoint.safetensors").write_bytes(b"x")
        said = gc(capsys, "--unfinished", "0")
        assert "warmup for data/x" in said and "at work" in said and "removed" not in said
        (run,) = space.unfinished(SCRATCH)
        assert run.at_work and not space.remove(run)
        assert (scratch.folder / "checkpoint.safetensors").exists()
    assert space.unfinished(SCRATCH) == []


def test_without_anything_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gc(capsys).splitlines() == ["unfinished runs: 0, 0 B"]
