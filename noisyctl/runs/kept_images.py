"""Image files that are read in parts, each kept as a block until the artifact is published."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from noisyctl.images import Outcome, Report, Some, Wanted, some_of
from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.runs.file_parts import SomeFiles, digest_of
from noisyctl.runs.workers import Make, Tell, Work, Workers, workers_of
from noisyctl.session import Session
from noisyctl.training.scratch import Scratch, hold


@dataclass(frozen=True)
class KeptImages:
    """Reads parts of image files (`images.Reader`). `threads` read a part; 0: one for each processor."""

    workers: Workers
    scratch: Scratch
    threads: int

    @classmethod
    @contextlib.contextmanager
    def held(
        cls, stage: str, params: Mapping[str, Any], out: Path, session: Session
    ) -> Iterator["KeptImages"]:
        """Holds workers and the scratch folder. What is kept is removed when the block inside ends without an error."""
        facts = {"params": params, "pillow": PIL.__version__}
        with (
            workers_of(session, stage) as workers,
            hold(session.scratch, stage, facts, out) as scratch,
        ):
            yield cls(workers, scratch, workers.session().threads if session.cluster else 0)

    def __call__(
        self, wanted: Wanted, paths: list[Sequence[str]], report: Report
    ) -> Iterator[tuple[int, Some]]:
        parts = [SomeFiles.of(wanted.root, some) for some in paths]
        about = [wanted.image_size, wanted.gray, wanted.pixels, digest_of(parts)]
        blocks = Blocks(self.scratch, hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16])
        work = Work(open_reader, (wanted, self.threads), (wanted.root,))
        for number, block in self.workers.finished(work, blocks, parts, report):
            outcomes = [Outcome(*fields) for fields in json.loads(block["outcomes"].numpy().tobytes())]
            yield number, Some(outcomes, block["values"].numpy())


def open_reader(wanted: Wanted, threads: int) -> Make:
    """What reads some files."""

    def read(part: SomeFiles, tell: Tell) -> Tensors:
        some = some_of(replace(wanted, root=part.root), part.paths, tell, threads)
        outcomes = np.frombuffer(json.dumps(some.outcomes).encode(), np.uint8)
        return {"values": torch.from_numpy(some.values), "outcomes": torch.from_numpy(outcomes.copy())}

    return read
