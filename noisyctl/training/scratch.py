"""Where an unfinished run lives: a folder keyed by params, inputs, code and the place its output goes to.

One process at a time holds it. The same work for two places has two folders, so both can be made at once.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisyctl import code
from noisyctl.artifacts import files, networks, store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import TrainingError

ABOUT = "about.json"  # in the folder of a run: what its key is made of


def facts_of(stage: str, facts: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What the key of a run is made of: its facts (params, inputs, device), code, torch's version, and its place."""
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
    """Changes with anything in what `facts_of` gives."""
    return hashlib.sha256(store.canonical(dict(about)).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What makes two runs of a stage different, in words: `code: noisyctl/task.py; epochs: 40, now 50`."""
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
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


class Scratch:
    """Checkpoint and rows of the trace of one unfinished run."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark = folder, mark

    def save(
        self, epoch: int, tensors: dict[str, Tensor], tree: str, scalars: list[dict[str, float]]
    ) -> None:
        """The state after `epoch` epochs, in one rename."""
        header = {"epoch": epoch, "fingerprint": self.mark, "tree": tree, "scalars": scalars}
        networks.write(self.folder / "checkpoint.safetensors", tensors, header)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint, or None. Raises TrainingError where it belongs to another run."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return None
        tensors, header = networks.read(path, f"the same command, after removing {self.folder}")
        if header["fingerprint"] != self.mark:
            raise TrainingError(
                f"{path} is a checkpoint of other params, inputs or code; remove {self.folder} and run again"
            )
        return tensors, header

    def write_row(self, name: str, epoch: int, values: np.ndarray) -> None:
        with (
            files.publish(self.folder / "rows" / f"{name}-{epoch}.npy", files.Own()) as partial,
            partial.open("wb") as file,
        ):
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)

    def rows(self, name: str, epochs: int) -> np.ndarray:
        return np.stack(
            [np.load(self.folder / "rows" / f"{name}-{e}.npy", allow_pickle=False) for e in range(epochs)]
        )

    def row_names(self) -> list[str]:
        names = {file.stem.rpartition("-")[0] for file in (self.folder / "rows").glob("*.npy")}
        return sorted(name for name in names if TRACE.find(name))


def tell(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def hold(
    root: Path, stage: str, facts: Mapping[str, Any], out: Path, say: Callable[[str], None] = tell
) -> Iterator[Scratch]:
    """The scratch folder of this work, held against a second process; removed when the block ends well.

    `stage` is named as in `noisyctl.code.files_of`; `out` is where the work's output goes. Where an unfinished run for the
    same place has other params, inputs or code, its folder stays, and `say` is told why the work begins anew.
    """
    files.require_scratch(root)
    about = facts_of(stage, facts, os.path.relpath(out, root))
    mark = fingerprint(about)
    folder = root / "scratch" / f"{stage}-{mark[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise TrainingError(
            f"cannot write {folder} ({error.strerror}); set NOISYCTL_SCRATCH to a folder that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise TrainingError(
                f"process {lock.read().strip() or '?'} already works on this run; wait for it or stop it, then run again"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if not (folder / ABOUT).exists():
            if why := _why_anew(folder, about):
                say(f"{stage} begins anew: {why}")
            with files.publish(folder / ABOUT, files.Own()) as partial:
                partial.write_text(store.canonical(about))
        yield Scratch(folder, mark)
        files.remove(folder)


def _why_anew(folder: Path, about: Mapping[str, Any]) -> str:
    """How the latest unfinished run for the same place differs from this one; "" where there is none."""
    found = []
    for file in folder.parent.glob(f"{about['stage']}-{'[0-9a-f]' * 16}/{ABOUT}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            other, saved = json.loads(file.read_text()), file.with_name("checkpoint.safetensors")
            if other["place"] == about["place"] and saved.exists():
                found.append((saved.stat().st_mtime, file.parent, differences(other, about)))
    if not found:
        return ""
    _, unfinished, changes = max(found)
    return f"the unfinished run in {unfinished} was of something else ({changes}); it is kept there"
