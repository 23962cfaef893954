"""What noisyctl keeps on the disk beside the artifacts themselves, and unfinished runs that nobody will go on with."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noisyctl.artifacts import files
from noisyctl.training.scratch import ABOUT, FOLDER

DAY = 86_400.0


@dataclass(frozen=True)
class Unfinished:
    """A run in the scratch folder: its stage, the output it is for, its bytes, and the days since it was written to.

    `at_work` says that a process holds it now.
    """

    folder: Path
    stage: str
    out: str
    size: int
    days: float
    at_work: bool


def unfinished(root: Path, now: float | None = None) -> list[Unfinished]:
    """The unfinished runs in the scratch folder `root`, those that have waited longest first."""
    found = []
    now = time.time() if now is None else now
    for folder in sorted((root / FOLDER).glob("*-" + "[0-9a-f]" * 16)):
        stage, out = folder.name.rpartition("-")[0], "?"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            out = os.path.normpath(root / json.loads((folder / ABOUT).read_text())["place"])
        with contextlib.suppress(FileNotFoundError):  # the run has just ended
            written = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
            days = max(now - written, 0) / DAY
            found.append(Unfinished(folder, stage, out, size_of(folder), days, _is_held(folder)))
    return sorted(found, key=lambda run: -run.days)


def remove(run: Unfinished) -> bool:
    """Remove an unfinished run, unless a process holds it. Says whether it is gone."""
    with _held(run.folder) as free:
        if free:
            files.discard(run.folder)
        return free


def size_of(place: Path) -> int:
    """Bytes of all files below a place; a link counts nothing, and what vanishes meanwhile neither."""
    total = 0
    for path in [place, *place.rglob("*")] if place.is_dir() and not place.is_symlink() else [place]:
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


def _is_held(folder: Path) -> bool:
    with _held(folder) as free:
        return not free


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Holds the lock of a run inside. Gives False where another process has it."""
    try:
        lock = (folder / "lock").open("rb")
    except OSError:  # of a process that died before it made one, or nothing there any more
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
