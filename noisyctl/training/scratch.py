"""Where an unfinished run lives: a folder keyed by params, inputs and code, held by one process at a time."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import noisyctl
from noisyctl.artifacts import files, networks, store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import TrainingError


def fingerprint(stage: str, facts: Mapping[str, Any]) -> str:
    """Changes with the stage's params and inputs, with noisyctl's code and with torch's version."""
    root = Path(noisyctl.__file__).parent
    code = {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*.py"))
    }
    text = store.canonical({"stage": stage, "facts": dict(facts), "code": code, "torch": torch.__version__})
    return hashlib.sha256(text.encode()).hexdigest()


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


@contextlib.contextmanager
def hold(root: Path, stage: str, facts: Mapping[str, Any]) -> Iterator[Scratch]:
    """The scratch folder of this work, held against a second process; removed when the block ends well."""
    files.require_scratch(root)
    mark = fingerprint(stage, facts)
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
        yield Scratch(folder, mark)
        files.remove(folder)
