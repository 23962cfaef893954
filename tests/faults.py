"""Faults that a process can be given: it dies, or its disk is full, at its n-th file operation; an input goes away.

`arm` changes the functions of os, io and fcntl through which Python writes, in a process that was forked for it. Only what
lies below `root` counts.
"""

import builtins
import errno
import fcntl
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files

DIED = 113  # the exit code of a process that was killed by its fault
NAMED = ("rename", "replace", "unlink", "remove", "mkdir", "rmdir", "symlink")  # of os, by a path
FREEING = ("unlink", "remove", "rmdir", "flock")  # these work on a full disk too


@dataclass
class Fault:
    """What happens at file operation `at`: `before` it, `after` it, or with `half` of its bytes written.

    kind: `count` only counts; `kill` ends the process there and then, as kill -9 does; `full` fails this operation and all
    later ones with "no space left on device".
    """

    kind: str = "count"
    at: int = -1
    phase: str = "before"
    count: int = 0


def arm(root: Path, fault: Fault) -> None:
    """Give this process the fault."""
    lock, inside = threading.Lock(), str(root)

    def ours(path: Any) -> bool:
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(inside)  # noqa: PTH100  may be a descriptor's
        except TypeError:
            return True  # a descriptor or an open file

    def during(name: str, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        with lock:
            number = fault.count
            fault.count += 1
        if fault.kind == "count" or number < fault.at:
            return act()
        if fault.kind == "full":
            if name in FREEING:
                return act()
            if number == fault.at and half is not None:
                half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number == fault.at and fault.phase == "after":
            act()
        elif number == fault.at and fault.phase == "half" and half is not None:
            half()
        os._exit(DIED)

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(path: Any, *given: Any, **more: Any) -> Any:
            if "dir_fd" not in more and not ours(path):
                return real(path, *given, **more)
            return during(name, lambda: real(path, *given, **more))

        setattr(module, name, watched)

    class Watched:
        """A file that is open for writing, whose every write is an operation."""

        def __init__(self, file: Any) -> None:
            self.__dict__["file"] = file

        def write(self, data: Any) -> Any:
            def half() -> None:
                self.file.write(data[: len(data) // 2])
                self.file.flush()

            return during("write", lambda: self.file.write(data), half)

        def writelines(self, lines: Any) -> None:
            for line in lines:
                self.write(line)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Any:
            self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> Any:
            return self.file.__exit__(*error)

        def __iter__(self) -> Any:
            return iter(self.file)

    real_open, real_rename = io.open, files._rename_with

    def opened(file: Any, mode: str = "r", *given: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or not ours(file):
            return real_open(file, mode, *given, **more)
        return Watched(during("open", lambda: real_open(file, mode, *given, **more)))

    for name in NAMED:
        watch(os, name)
    watch(os, "fsync")
    watch(fcntl, "flock")
    builtins.open = io.open = opened  # type: ignore[assignment]
    files._rename_with = lambda source, target, flag: during(
        "exchange", lambda: real_rename(source, target, flag)
    )


def forbid_exchange() -> None:
    """A file system without renameat2."""
    files._renameat2 = lambda: None  # type: ignore[assignment]


def vanish(folder: Path, at: int, away: Path) -> None:
    """`folder` is gone from the `at`-th time on that this process opens something in it."""
    seen, rename = [0], os.rename

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str) and given[0].startswith(str(folder)):
            seen[0] += 1
            if seen[0] == at and folder.exists():
                rename(folder, away)

    sys.addaudithook(hook)


def set_clock_back(step: float) -> None:
    """The clock goes back by `step` seconds every time that somebody looks."""
    real, looks = time.time, [0]

    def earlier() -> float:
        looks[0] += 1
        return real() - step * looks[0]

    time.time = earlier
    time.time_ns = lambda: int(earlier() * 1e9)
