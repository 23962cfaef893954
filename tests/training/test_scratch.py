"""Unfinished runs: one process each, and never another run's checkpoint."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from noisyctl.artifacts import files
from noisyctl.errors import TrainingError
from noisyctl.task import Monitor
from noisyctl.training import scratch


def test_a_second_process_on_the_same_run_is_refused_and_told_who_works(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from noisyctl.errors import TrainingError
        from noisyctl.training.scratch import hold
        try:
            with hold(Path({str(tmp_path)!r}), "warmup", {{"k": 1}}, Path("out")):
                print("ran")
        except TrainingError as error:
            print(error)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with scratch.hold(tmp_path, "warmup", {"k": 1}, Path("out")) as held:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "already works on this run" in done.stdout
        assert held.folder.exists()
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "ran"


def test_other_params_have_another_folder_and_a_moved_checkpoint_is_refused(tmp_path: Path) -> None:
    marks = [scratch.fingerprint(scratch.facts_of("warmup", {"epochs": e}, "out")) for e in (1, 2)]
    assert marks[0] != marks[1]
    scratch.Scratch(tmp_path, marks[0]).save(1, {"w": torch.zeros(2)}, "{}", [])
    assert scratch.Scratch(tmp_path, marks[0]).load() is not None
    with pytest.raises(TrainingError, match="checkpoint of other params"):
        scratch.Scratch(tmp_path, marks[1]).load()


def test_the_same_work_for_two_places_is_done_side_by_side(tmp_path: Path) -> None:
    facts = {"params": {"epochs": 2}}
    with (
        scratch.hold(tmp_path / "s", "warmup", facts, tmp_path / "a") as one,
        scratch.hold(tmp_path / "s", "warmup", facts, tmp_path / "b") as other,
    ):
        assert one.folder != other.folder


def test_a_project_that_is_moved_finds_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for out in (Path("data/x"), tmp_path / name / "data/x"):
            with scratch.hold(Path(".noisyctl"), "warmup", {}, out) as held:
                marks.append(held.mark)
    assert len(set(marks)) == 1


def test_a_run_that_begins_anew_says_why_and_keeps_the_unfinished_one(tmp_path: Path) -> None:
    said: list[str] = []

    def interrupted(place: str = "out", **params: float) -> None:
        facts = {"params": {"epochs": 40} | params, "inputs": {"images": "a" * 64}}
        with (
            contextlib.suppress(KeyboardInterrupt),
            scratch.hold(tmp_path, "warmup", facts, Path(place), said.append) as held,
        ):
            held.save(1, {"w": torch.zeros(2)}, "{}", [])
            raise KeyboardInterrupt

    interrupted()
    interrupted()
    interrupted("elsewhere")
    assert said == [], "resumed, or another place"
    interrupted(epochs=50)
    assert len(said) == 1
    assert "warmup starts from the beginning" in said[0]
    assert "(epochs: 40, now 50); it is kept" in said[0]
    interrupted(epochs=50)
    interrupted()
    assert len(said) == 1, "both are there still, and go on"


def test_what_differs_is_named() -> None:
    before = {
        "code": {"noisyctl.task": "1", "noisyctl.seeds": "2"},
        "torch": "1",
        "facts": {"images": "a" * 64},
    }
    now = {"code": {"noisyctl.task": "3", "noisyctl.seeds": "2"}, "torch": "2", "facts": {"images": "b" * 64}}
    expected = "code: noisyctl/task.py; torch: 1, now 2; images: aaaaaaaa, now bbbbbbbb"
    assert scratch.differences(before, now) == expected


def test_a_loss_that_is_not_finite_names_epoch_and_first_batch() -> None:
    monitor = Monitor()
    for value in (1.0, float("nan"), 2.0, float("inf")):
        monitor.observe(torch.tensor(value))
    with pytest.raises(TrainingError, match="epoch 7, batch 1"):
        monitor.check(7)
    monitor.check(8)  # and starts anew


def unfinished(folder: Path) -> scratch.Scratch:
    """Two epochs of a run that was killed in the third."""
    run = scratch.Scratch(folder, "mark")
    for epoch in range(3):
        run.write_row("losses", epoch, np.arange(5, dtype=np.float32) + epoch)
        if epoch < 2:
            run.save(epoch + 1, {"w": torch.arange(4.0)}, "{}", [])
    return run


def test_every_flipped_byte_of_an_unfinished_run_is_found(tmp_path: Path) -> None:
    unfinished(tmp_path)
    kept = [tmp_path / "checkpoint.safetensors", *(tmp_path / f"rows/losses-{e}.npy" for e in range(2))]
    for file in kept:
        whole = file.read_bytes()
        for place in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(TrainingError, match=f"{file.name} of the unfinished run.*remove that folder"):
                scratch.Scratch(tmp_path, "mark").load()
        file.write_bytes(whole)
    resumed = scratch.Scratch(tmp_path, "mark")
    assert resumed.load() is not None
    assert resumed.rows("losses", 2)[1, 0] == 1


def test_a_row_that_is_gone_or_belongs_to_another_epoch_is_found(tmp_path: Path) -> None:
    unfinished(tmp_path)
    rows = tmp_path / "rows"
    (rows / "losses-1.npy").replace(rows / "losses-0.npy")
    with pytest.raises(TrainingError, match=r"losses-0\.npy .* is missing or damaged"):
        scratch.Scratch(tmp_path, "mark").load()
    (rows / "losses-0.npy").unlink()
    with pytest.raises(TrainingError, match=r"losses-0\.npy .* is missing or damaged"):
        scratch.Scratch(tmp_path, "mark").load()


def test_a_row_that_is_damaged_while_the_run_goes_on_is_not_published(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    file = tmp_path / "rows/losses-2.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(TrainingError, match=r"losses-2\.npy .* is missing or damaged"):
        run.rows("losses", 3)


def test_a_run_that_is_killed_while_its_scratch_folder_is_removed_begins_anew(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        files.remove = lambda path: os._exit(9)
        with scratch.hold(tmp_path, "warmup", {"k": 1}, Path("out")) as held:
            held.save(1, {"w": torch.zeros(2)}, "{}", [])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was not killed"
    with scratch.hold(tmp_path, "warmup", {"k": 1}, Path("out")) as held:
        assert held.load() is None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_killed_run_holds_its_folder_until_its_last_forked_process_has_ended(tmp_path: Path) -> None:
    """docs/decisions.md: why the lock is not filelock's."""
    told, tell = os.pipe()
    go, ended = os.pipe()
    if (run := os.fork()) == 0:
        with scratch.hold(tmp_path, "warmup", {}, Path("out")):
            if (child := os.fork()) == 0:
                os.close(ended)
                os.read(go, 1)  # until the test closes its end
                os._exit(0)
            os.write(tell, f"{child} ".encode())
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(go)
    os.waitpid(run, 0)
    assert os.read(told, 20)
    with (
        pytest.raises(TrainingError, match=f"process {run} already works on this run"),
        scratch.hold(tmp_path, "warmup", {}, Path("out")),
    ):
        pass
    os.close(ended)
    for _ in range(1000):
        with contextlib.suppress(TrainingError), scratch.hold(tmp_path, "warmup", {}, Path("out")):
            break
        time.sleep(0.01)
    else:
        pytest.fail("the folder stays locked")


def test_a_full_disk_when_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
        import resource
        from pathlib import Path
        from noisyctl.errors import ArtifactError
        from noisyctl.training.scratch import hold
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            with hold(Path({str(tmp_path)!r}), "warmup", {{"k": 1}}, Path("out")):
                print("ran")
        except ArtifactError as error:
            print(error)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "lock: the file would be larger than allowed" in done.stdout
