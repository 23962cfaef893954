"""Freed memory is kept while a network trains on a processor, and given back afterwards."""

from pathlib import Path
from typing import Any

import pipeline
import pytest
import torch

from noisyctl.training import memory
from stages import train_method

CPU = torch.device("cpu")


class Allocator:
    """Stands in for glibc, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def mallopt(self, option: int, value: int) -> int:
        self.told.append((option, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.told.append("trimmed")
        return 1


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    found = Allocator()
    monkeypatch.setattr(memory, "_glibc", lambda: found)
    return found


def test_a_training_keeps_memory_and_gives_it_back_whatever_happens(allocator: Allocator) -> None:
    with pytest.raises(KeyError), memory.kept(CPU):
        assert allocator.told == list(memory.KEEP.items())
        raise KeyError
    assert allocator.told[2:] == [*memory.USUAL.items(), "trimmed"]


def test_a_gpu_and_another_libc_are_left_alone(allocator: Allocator, monkeypatch: pytest.MonkeyPatch) -> None:
    with memory.kept(torch.device("cuda")):
        pass
    assert allocator.told == []
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.kept(CPU):
        pass


def test_a_run_has_the_same_bytes_in_kept_memory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, session, usual = pipeline.params_of("cross_entropy", 1), pipeline.session(tmp_path), Allocator()
    for name in ("usual", "kept"):
        with monkeypatch.context() as patch:
            if name == "usual":
                patch.setattr(memory, "_glibc", lambda: usual)
            train_method.run(pipeline.inputs(home, "cross_entropy", tmp_path / name), params, session)
    assert usual.told[-1] == "trimmed"  # the run was inside
    assert pipeline.tree(tmp_path / "usual") == pipeline.tree(tmp_path / "kept")
