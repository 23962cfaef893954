"""Who makes the blocks of a long work: this process one after the other, or the workers of `--cluster` in any order.

A work says how its blocks are made: `open` reads what all blocks need, once in each process, and gives the function that
makes one block of its part, such as a range of rows. Parts are the same for any number of workers, and every process
computes with the same number of threads, so the bytes are the same too. A block is kept as soon as it is there.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.session import Session

Report = Callable[[int, int], None]  # called with the number of items that are done, and of all items
Tell = Callable[[int], None]  # called with the number of items of a part that are done
Make = Callable[[Any, Tell], Tensors]  # makes the block of a part


@dataclass(frozen=True)
class Work:
    """How blocks are made: `open(*arguments)` gives what makes a block.

    `open` is a function of a module, and `arguments` can be compared and sent to another process. `sees` are the files and
    folders that it reads. `on_processor` says that the last digits depend on the kind of processor. `opened` is what makes a
    block in this process, where it is there already.
    """

    open: Callable[..., Make]
    arguments: tuple[Any, ...]
    sees: tuple[Path, ...]
    on_processor: bool = False
    opened: Make | None = field(default=None, compare=False)

    def opened_here(self) -> Make:
        return self.opened or self.open(*self.arguments)


@runtime_checkable
class Workers(Protocol):
    """Processes that make blocks."""

    def numerics(self, precision: str | None = None) -> dict[str, Any]:
        """What the bytes depend on where blocks are made, as `Session.numerics` gives it."""

    def session(self) -> Session:
        """Who computes where a block is made: goes to a worker among the arguments of a work."""

    def finished(
        self, work: Work, blocks: Blocks, parts: Sequence[Sized], report: Report
    ) -> Iterator[tuple[int, Tensors]]:
        """Every block with its number, in any order: as it was kept, or made now and kept."""


@dataclass(frozen=True)
class Here:
    """This process, which makes blocks one after the other."""

    own: Session

    def numerics(self, precision: str | None = None) -> dict[str, Any]:
        return self.own.numerics(self.own.start(), precision)

    def session(self) -> Session:
        return self.own

    def finished(
        self, work: Work, blocks: Blocks, parts: Sequence[Sized], report: Report
    ) -> Iterator[tuple[int, Tensors]]:
        total, make = sum(map(len, parts)), None
        done = sum(len(part) for number, part in enumerate(parts) if blocks.has(number))
        if done:
            report(done, total)
        for number, part in enumerate(parts):
            block = blocks.read(number)
            if block is None:
                make = make or work.opened_here()
                block = make(part, _from(report, done, total))
                blocks.write(number, block)
                done += len(part)
                report(done, total)
            yield number, block


@contextlib.contextmanager
def workers_of(session: Session, stage: str) -> Iterator[Workers]:
    """Who makes the blocks of a stage, named as in `noisyctl.code.files_of`: without `--cluster` this process.

    Raises NoisyctlError where there is no such cluster, or where its workers would not make the same bytes.
    """
    if not session.cluster:
        yield Here(session)
        return
    from noisyctl.runs import cluster  # Dask is imported for those who ask for it alone

    with cluster.connected(session, stage) as found:
        yield found


def _from(report: Report, start: int, total: int) -> Tell:
    """Reports items of one part as some of all."""
    return lambda done: report(start + done, total)
