"""Unfinished runs: one process each, and never another run's checkpoint."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from noisyctl.errors import TrainingError
from noisyctl.task import Monitor
from noisyctl.training import scratch


def test_a_second_process_on_the_same_run_is_refused_and_told_who_works(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from noisyctl.errors import TrainingError
        from noisyctl.training.scratch import hold
        try:
            with hold(Path({str(tmp_path)!r}), "warmup", {{"k": 1}}):
                print("ran")
        except TrainingError as error:
            print(error)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with scratch.hold(tmp_path, "warmup", {"k": 1}) as held:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "already works on this run" in done.stdout
        assert held.folder.exists()
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "ran"


def test_other_params_have_another_folder_and_a_moved_checkpoint_is_refused(tmp_path: Path) -> None:
    marks = [scratch.fingerprint("warmup", {"epochs": e}) for e in (1, 2)]
    assert marks[0] != marks[1]
    scratch.Scratch(tmp_path, marks[0]).save(1, {"w": torch.zeros(2)}, "{}", [])
    assert scratch.Scratch(tmp_path, marks[0]).load() is not None
    with pytest.raises(TrainingError, match="checkpoint of other params"):
        scratch.Scratch(tmp_path, marks[1]).load()


def test_a_loss_that_is_not_finite_names_epoch_and_first_batch() -> None:
    monitor = Monitor()
    for value in (1.0, float("nan"), 2.0, float("inf")):
        monitor.observe(torch.tensor(value))
    with pytest.raises(TrainingError, match="epoch 7, batch 1"):
        monitor.check(7)
    monitor.check(8)  # and starts anew
