"""A sample of the attacks of tests/attack.py on every command that writes; `make attack` runs them in full."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def attack(*words: str) -> subprocess.CompletedProcess[str]:
    place = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "attack.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=place, check=False)


def test_a_sample_of_attacks_on_every_command() -> None:
    done = attack("--effort", "0.01", "--rounds", "1", "--sample")
    assert done.returncode == 0, done.stderr[-8000:]
    row = re.search(r"^\| \*\*all\*\* \| (\d+) \| \d+ \| 0 \| 0 \| 0 \| 0 \|$", done.stdout, re.MULTILINE)
    assert row is not None, done.stdout
    assert int(row[1]) >= 16


def in_child(folder: Path, kind: str, at: int, phase: str, act: Callable[[], None]) -> int:
    """The exit code of a forked process with a fault below `folder`."""
    import faults

    child = os.fork()
    if child == 0:
        code = 1
        try:
            faults.arm(folder, faults.Fault(kind, at, phase))
            act()
            code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "at, phase, left",
    [
        (0, "before", {}),
        (0, "after", {"a": ""}),
        (1, "half", {"a": "12"}),
        (2, "before", {"a": "1234"}),
        (2, "after", {"b": "1234"}),
        (9, "before", {"b": "1234"}),
    ],
)
def test_a_process_dies_at_its_nth_file_operation(
    at: int, phase: str, left: dict[str, str], tmp_path: Path
) -> None:
    """The three operations are to open, to write, to rename."""
    import faults

    def act() -> None:
        (tmp_path / "a").write_text("1234")
        (tmp_path / "a").rename(tmp_path / "b")

    assert in_child(tmp_path, "kill", at, phase, act) == (faults.DIED if at < 3 else 0)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == left


@pytest.mark.parametrize("at, left", [(0, {}), (1, {"a": "12"}), (2, {"a": "1234"})])
def test_a_disk_is_full_from_the_nth_file_operation_on(at: int, left: dict[str, str], tmp_path: Path) -> None:
    def act() -> None:
        (tmp_path / "a").write_text("1234")
        (tmp_path / "a").rename(tmp_path / "b")

    assert in_child(tmp_path, "full", at, "before", act) == 28
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == left
