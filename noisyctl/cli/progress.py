"""What a command says on stderr while it works, with the time left, and what it kept when it is stopped.

On a terminal a bar; elsewhere, as in a log, a line now and then. The library itself prints nothing: it calls what
`Session.report` and `Session.progress` give it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_SCALARS = 2
SET_BEFOREHAND = ("learning_rate",)
AT_ONCE = 2.0  # seconds in which kept blocks have been counted
EVERY = 10.0  # seconds between two lines where stderr is no terminal


@dataclass
class Work:
    """The work that this process is at. What goes on from a checkpoint is `resumable`; other work may keep `blocks`."""

    what: str
    unit: str
    resumable: bool
    done: int = 0
    total: int = 0
    blocks: bool = False
    bar: Any = None

    def kept(self) -> str:
        """What is kept of it where it stops now, and how to go on."""
        if not self.resumable:
            at = f" at {self.done:,} of {self.total:,} {self.unit}" if self.total else ""
            if self.blocks:
                return f"{self.what} stopped{at}; finished blocks are kept, and the same command goes on from them"
            return f"{self.what} stopped{at}; nothing unfinished is kept, the same command begins anew"
        if not self.done:
            return f"{self.what} stopped before an epoch ended; the same command goes on from the last one kept, if any"
        return (
            f"{self.what} stopped at epoch {self.done} of {self.total}; the same command goes on from there"
        )


_now: Work | None = None


def kept() -> str:
    """What is kept of this process's work, for the message when it is stopped."""
    return _now.kept() if _now else "stopped; nothing unfinished is kept, the same command begins anew"


def close() -> None:
    """Give the terminal back: no bar is drawn any more."""
    if _now and _now.bar:
        _now.bar.stop()


@dataclass(frozen=True)
class Terminal:
    """Shows on stderr: a bar where it is a terminal, else lines. `quiet` only notes what is at work, for `kept`."""

    quiet: bool = False
    said: set[str] = field(default_factory=set, compare=False, repr=False)

    def epochs(self, what: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """A bar, or a line an epoch."""
        return epochs(what, self.quiet)

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        """A bar, or a line now and then."""
        return steps(what, unit, self.quiet, kept)

    def say(self, text: str) -> None:
        """One line; the same one, such as the precision of each step of `clean`, is not said twice."""
        if not self.quiet and text not in self.said:
            self.said.add(text)
            print(text, file=sys.stderr)


def epochs(what: str, quiet: bool) -> Callable[[int, int, Mapping[str, float]], None]:
    """A reporter of finished epochs and their scalars: a bar, or a line each."""
    work = _start(what, "epochs", resumable=True)
    show = _show(work, quiet, every=0.0)
    if work.bar:  # the first epoch may take long
        work.bar.start()
    begun, calls = time.monotonic(), 0

    def report(epoch: int, total: int, scalars: Mapping[str, float]) -> None:
        nonlocal calls
        calls += 1
        left = (time.monotonic() - begun) / calls * (total - epoch - 1)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in telling(scalars))
        show(epoch + 1, total, f"epoch {epoch + 1}/{total}  {_left(left)}{numbers}")

    return report


def telling(scalars: Mapping[str, float]) -> list[tuple[str, float]]:
    """The scalars of an epoch that are shown, two at most: what the epoch found goes before the rate that was set."""
    found = [(name, value) for name, value in scalars.items() if name not in SET_BEFOREHAND]
    return [*found, *((name, value) for name, value in scalars.items() if name in SET_BEFOREHAND)][
        :MOST_SCALARS
    ]


def steps(what: str, unit: str, quiet: bool, kept: bool = False) -> Callable[[int, int], None]:
    """A reporter of `done` of `total` units: a bar, or now and then a line.

    Units that were `kept` by an earlier call are told at once, and say nothing of the time that the others take.
    """
    work = _start(what, unit, resumable=False)
    work.blocks = kept
    show = _show(work, quiet, every=EVERY)
    begun, before = time.monotonic(), -1

    def report(done: int, total: int) -> None:
        nonlocal before
        passed = time.monotonic() - begun
        if before < 0:
            before = done if kept and passed < AT_ONCE else 0
        left = passed / (done - before) * (total - done) if done > before else 0.0
        show(done, total, f"{done:,}/{total:,} {unit}  {_left(left)}".rstrip())

    return report


def _start(what: str, unit: str, resumable: bool) -> Work:
    global _now
    _now = Work(what, unit, resumable)
    return _now


def _show(work: Work, quiet: bool, every: float) -> Callable[[int, int, str], None]:
    draw = _nothing if quiet else _bar(work) if sys.stderr.isatty() else _lines(work.what, every)

    def show(done: int, total: int, text: str) -> None:
        work.done, work.total = done, total
        draw(done, total, text)

    return show


def _nothing(done: int, total: int, text: str) -> None:
    pass


def _lines(what: str, every: float) -> Callable[[int, int, str], None]:
    last = time.monotonic()

    def draw(done: int, total: int, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{what}  {text}", file=sys.stderr, flush=True)

    return draw


def _bar(work: Work) -> Callable[[int, int, str], None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    end = Column(
        no_wrap=True, overflow="ellipsis", ratio=1
    )  # of a narrow terminal the end of the line is cut
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}", markup=False, table_column=end),
    )
    work.bar = Progress(*columns, console=Console(stderr=True), expand=True)
    task = work.bar.add_task(
        work.what,
        total=None,
        text="working on the first part" if work.unit != "epochs" else "in the first epoch",
    )

    def draw(done: int, total: int, text: str) -> None:
        work.bar.start()
        work.bar.update(task, total=total, completed=done, text=text)
        if done >= total:
            work.bar.stop()

    return draw


def _left(seconds: float) -> str:
    """`3 min left`, or nothing at the end."""
    if seconds < 0.5:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s left  "
    minutes = round(seconds / 60)
    return f"{minutes} min left  " if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min left  "
