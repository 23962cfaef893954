"""Blocks of a long work that are kept in the scratch folder until its artifact is published.

A command that is stopped after an hour takes what was finished from there when it is called again, and gives the same bytes
as one that was never stopped: the facts of the scratch folder say what the blocks were made of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from noisyctl.artifacts import tensor_files
from noisyctl.artifacts.files import exists
from noisyctl.training.scratch import Scratch

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Blocks:
    """The blocks of one kind, such as those of the split `train`, by their numbers from 0 on."""

    scratch: Scratch
    kind: str

    def has(self, number: int) -> bool:
        """Whether a block is there already."""
        return exists(self._path(number))

    def read(self, number: int) -> Tensors | None:
        """A block that is there already, or None. Raises ArtifactError where a byte of it was changed."""
        path = self._path(number)
        return tensor_files.read(path, "the same command")[0] if exists(path) else None

    def write(self, number: int, block: Mapping[str, Tensor]) -> None:
        """Keep a block that is finished."""
        tensor_files.write(
            self._path(number), block, {"kind": "checkpoint", "block": self.kind, "number": number}
        )

    def kept(self, number: int, make: Callable[[], Tensors]) -> Tensors:
        """The block of this number: as it was kept, or made now and kept."""
        found = self.read(number)
        if found is None:
            found = make()
            self.write(number, found)
        return found

    def _path(self, number: int) -> Path:
        return self.scratch.folder / "blocks" / f"{self.kind}-{number}.safetensors"
