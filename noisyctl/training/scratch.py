"""The scratch folder of an unfinished run, from which an interrupted command continues.

The folder's name holds a digest of everything that decides the result (params, inputs, device, code, torch's version) and
of the place where the output goes. So a run only continues where it left off if nothing of this has changed, and the same
work for two output places has two folders, which can be made at the same time. One process at a time may hold a folder.

In the folder: `checkpoint.safetensors`, the state after the last finished epoch; `rows/NAME-EPOCH.npy`, the rows of the
trace; `about.json`, what the digest was made of; and `lock`.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from noisyctl import code
from noisyctl.artifacts import files, store, tensor_files
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ArtifactError, TrainingError

FOLDER = "scratch"  # of unfinished runs, in the scratch folder of a session
CHECKPOINT = "checkpoint.safetensors"
ABOUT = "about.json"  # lists what the digest in the folder's name is made of


def facts_of(stage: str, facts: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Everything that decides a run: its facts (params, inputs, device), the code, torch's version, and its place."""
    about = {
        "stage": stage,
        "facts": dict(facts),
        "code": code.digests_of(stage),
        "torch": torch.__version__,
        "place": place,
    }
    found: dict[str, Any] = json.loads(store.canonical(about))
    return found


def fingerprint(about: Mapping[str, Any]) -> str:
    """The sha256 of what `facts_of` returns; it changes with anything in it."""
    return hashlib.sha256(store.canonical(dict(about)).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two runs of a stage differ, for a message, such as `code: noisyctl/task.py; epochs: 40, now 50`.

    `before` and `now` are what `facts_of` returns for the two runs. Digests are cut to 8 digits.
    """
    said = []
    if found := code.changed(before["code"], now["code"]):
        said.append("code: " + ", ".join(f"{module.replace('.', '/')}.py" for module in found))
    if before["torch"] != now["torch"]:
        said.append(f"torch: {before['torch']}, now {now['torch']}")
    old, new = (dict(_flat(about["facts"])) for about in (before, now))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            values = (str(held.get(name, "none")) for held in (old, new))
            short = [value[:8] if len(value) == 64 else value for value in values]
            said.append(f"{name}: {short[0]}, now {short[1]}")
    return "; ".join(said)


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The facts as pairs of name and value, without nesting."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


class Scratch:
    """The checkpoint of one unfinished run, and the rows of its trace.

    A row holds one vector of one epoch. The checkpoint lists the sha256 of every row that was written before it.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark
        self._sums: dict[str, str] = {}  # sha256 of each row's file, by file name

    def save(
        self, epoch: int, tensors: dict[str, Tensor], tree: str, scalars: list[dict[str, float]]
    ) -> None:
        """Write the checkpoint after `epoch` epochs; it replaces the one before in a single step."""
        header = {"epoch": epoch, "fingerprint": self.mark, "tree": tree, "scalars": scalars}
        tensor_files.write(self.folder / CHECKPOINT, tensors, header | {"rows": self._sums})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint as (tensors, header), or None if there is none.

        Raises TrainingError if it belongs to another run, or if it or a row of the trace is missing or damaged.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            tensors, header = tensor_files.read(path, "the same command")
        except ArtifactError as error:
            raise self._damaged(CHECKPOINT) from error
        if header.get("fingerprint") != self.mark:
            raise TrainingError(
                f"{path} is a checkpoint of other params, inputs or code; remove {self.folder} and run again"
            )
        self._sums = dict(header["rows"])
        for name in self._sums:
            self._read_row(name)
        return tensors, header

    def write_row(self, name: str, epoch: int, values: np.ndarray) -> None:
        """Write one vector of an epoch's trace."""
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(values), allow_pickle=False)
        place = self.folder / "rows" / f"{name}-{epoch}.npy"
        with files.publish(place, files.Own()) as partial:
            partial.write_bytes(file.getvalue())
        self._sums[place.name] = hashlib.sha256(file.getvalue()).hexdigest()

    def rows(self, name: str, epochs: int, unwritten: int | None = None) -> np.ndarray:
        """The vectors `name` of all epochs, stacked; one that was never written is full of `unwritten`.

        Raises TrainingError if a row is missing, or is not what was written.
        """
        files = [f"{name}-{epoch}.npy" for epoch in range(epochs)]
        if unwritten is None:
            return np.stack([self._read_row(file) for file in files])
        read = {file: self._read_row(file) for file in files if file in self._sums}
        none = np.full_like(next(iter(read.values())), unwritten)
        return np.stack([read.get(file, none) for file in files])

    def _read_row(self, name: str) -> np.ndarray:
        try:
            data = (self.folder / "rows" / name).read_bytes()
        except OSError as error:
            raise self._damaged(name) from error
        if hashlib.sha256(data).hexdigest() != self._sums[name]:
            raise self._damaged(name)
        values: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        return values

    def _damaged(self, name: str) -> TrainingError:
        return TrainingError(
            f"{name} of the unfinished run in {self.folder} is missing or damaged, so the run cannot go on; "
            "remove that folder and run again, from the first epoch"
        )

    def row_names(self) -> list[str]:
        """The names of the vectors that the run has written and that a trace may hold."""
        names = {file.rpartition("-")[0] for file in self._sums}
        return sorted(name for name in names if TRACE.find(name))


class Unkept(Scratch):
    """The rows of a trace in memory, and no checkpoint: for a run that nobody will resume."""

    def __init__(self) -> None:
        super().__init__(Path(), "")
        self._rows: dict[str, np.ndarray] = {}

    def save(
        self, epoch: int, tensors: dict[str, Tensor], tree: str, scalars: list[dict[str, float]]
    ) -> None:
        """Nothing."""

    def load(self) -> None:
        """None: there is no checkpoint."""

    def write_row(self, name: str, epoch: int, values: np.ndarray) -> None:
        """Keep one vector of an epoch's trace."""
        self._sums[f"{name}-{epoch}.npy"] = ""
        self._rows[f"{name}-{epoch}.npy"] = np.array(values)

    def _read_row(self, name: str) -> np.ndarray:
        return self._rows[name]


def tell(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def hold(
    root: Path, stage: str, facts: Mapping[str, Any], out: Path, say: Callable[[str], None] = tell
) -> Iterator[Scratch]:
    """Hold the scratch folder of a run against other processes. It is removed when the block ends without an error.

    `stage` is named as in `noisyctl.code.files_of`; `out` is the path of the output. If there is an unfinished run
    for the same output with other params, inputs or code, its folder is kept, and `say` is told why the work starts
    from the beginning. Raises TrainingError if another process holds the folder, or if it cannot be written.
    """
    files.require_scratch(root)
    about = facts_of(stage, facts, os.path.relpath(out, root))
    mark = fingerprint(about)
    folder = root / FOLDER / f"{stage}-{mark[:16]}"
    with _lock(folder) as lock:
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except OSError as error:
            raise files.disk_error(folder / "lock", error) from error
        if not (folder / ABOUT).exists():
            if why := _why_anew(folder, about):
                say(f"{stage} starts from the beginning: {why}")
            with files.publish(folder / ABOUT, files.Own()) as partial:
                partial.write_text(store.canonical(about))
        yield Scratch(folder, mark)
        files.discard(folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[IO[bytes]]:
    """The lock of a scratch folder. Raises TrainingError if another process holds it, or the folder cannot be written."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("a+b", buffering=0)
        except FileNotFoundError:  # another process has just ended its run and removed the folder
            continue
        except OSError as error:
            raise TrainingError(
                f"cannot write {folder} ({error.strerror}); set NOISYCTL_SCRATCH to a folder that can be written"
            ) from error
        with lock:
            files.remove_remains(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().decode("ascii", "replace").strip() or "?"
                raise TrainingError(
                    f"process {holder} already works on this run; wait for it or stop it, then run again"
                ) from None
            if not _is_at(lock, folder / "lock"):  # the same happened after the lock was opened here
                continue
            yield lock
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _why_anew(folder: Path, about: Mapping[str, Any]) -> str:
    """How the latest unfinished run for the same output differs from this one; "" if there is none."""
    found = []
    for file in folder.parent.glob(f"{about['stage']}-{'[0-9a-f]' * 16}/{ABOUT}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            other, saved = json.loads(file.read_text()), file.with_name(CHECKPOINT)
            if other["place"] == about["place"] and saved.exists():
                found.append((saved.stat().st_mtime, file.parent, differences(other, about)))
    if not found:
        return ""
    _, unfinished, changes = max(found)
    return f"the unfinished run in {unfinished} was of something else ({changes}); it is kept there"
