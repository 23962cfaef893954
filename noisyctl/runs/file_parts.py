"""Some of the files below a folder, as a part of a long work: a worker makes sure that it sees the same files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noisyctl.artifacts import files


@dataclass(frozen=True)
class SomeFiles:
    """Files by their paths below `root`. `digest` changes with the path, size or time of any of them."""

    root: Path
    paths: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, root: Path, paths: Sequence[str]) -> "SomeFiles":
        return cls(root, tuple(paths), _digest(root, paths))

    def __len__(self) -> int:
        return len(self.paths)

    def difference(self) -> str:
        """A file that this process does not see as the one that made the part did; "" where it sees all as they were."""
        if _digest(self.root, self.paths) == self.digest:
            return ""
        gone = (path for path in self.paths if not (self.root / path).exists())
        return str(self.root / next(gone, self.paths[0]))


def parts_of(root: Path, paths: Sequence[str], size: int) -> list[SomeFiles]:
    """The files, `size` at a time."""
    return [SomeFiles.of(root, paths[start : start + size]) for start in range(0, len(paths), size)]


def digest_of(parts: Sequence[SomeFiles]) -> str:
    """Changes with any file: its path, size or time."""
    return hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()


def _digest(root: Path, paths: Sequence[str]) -> str:
    about = [(path, *files.size_and_time(root / path)) for path in paths]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
