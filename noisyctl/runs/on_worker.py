"""What a worker of `--cluster` runs. Nothing heavy is imported on the way here: the scheduler imports this file too.

A worker only reads. It makes one block at a time and holds what `Work.open` read, whatever number of threads Dask gives it.
"""

import functools
import os
import pickle
import socket
import threading
from importlib.metadata import version
from typing import Any, NamedTuple

from noisyctl.errors import NoisyctlError

DECIDING = ("noisyctl", "torch", "pillow")  # packages whose version decides the bytes


class Here(NamedTuple):
    """A process that makes blocks: versions that decide the bytes, and what it computes with."""

    name: str
    versions: dict[str, str]
    numerics: dict[str, Any]


def met(stage: str, session: bytes) -> Here:
    """What this worker is. `session` is a pickled Session."""
    with _ONE_AT_A_TIME:
        return Here(_name(), versions(stage), _numerics(session))


def made(expected: Here, stage: str, session: bytes, work: bytes, part: bytes) -> bytes:
    """The block of a part, as bytes of safetensors. All but the name of the stage is pickled, and read after the versions.

    Raises NoisyctlError where this worker would make other bytes, or does not see the files.
    """
    from safetensors.torch import save

    found = versions(stage)
    if found != expected.versions:
        raise NoisyctlError(other_version(_name(), found, expected.versions))
    with _ONE_AT_A_TIME:
        numerics, asked = _numerics(session), pickle.loads(work)
        if asked.on_processor and numerics != expected.numerics:
            raise NoisyctlError(_other_processor(numerics, expected))
        some = pickle.loads(part)
        _require_files(asked, some)
        block = _opened(asked)(some, _nobody)
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in block.items()})


@functools.cache
def versions(stage: str) -> dict[str, str]:
    """Of the packages and of the code that decide the bytes of a stage."""
    from noisyctl import code

    return {name: version(name) for name in DECIDING} | {"code": code.code_digest(stage)[:8]}


def other_version(name: str, found: dict[str, str], expected: dict[str, str]) -> str:
    """How a worker's versions differ from those of the command."""
    differ = [key for key in expected if found.get(key) != expected[key]]
    theirs, ours = (", ".join(f"{key} {of.get(key)}" for key in differ) for of in (found, expected))
    return f"{name} has {theirs}, this command {ours}; install the same there, and start the worker again"


def _other_processor(numerics: dict[str, Any], expected: Here) -> str:
    key = next(key for key in expected.numerics if numerics.get(key) != expected.numerics[key])
    return (
        f"{_name()} computes with {key} {numerics.get(key)}, {expected.name} with {expected.numerics[key]}: their results "
        "differ in the last digits; start workers of one kind"
    )


def _require_files(work: Any, part: Any) -> None:
    """Refuse to work where this worker does not see what the command sees."""
    from noisyctl.runs.file_parts import SomeFiles

    unseen = [str(path) for path in work.sees if not path.exists()]
    if not unseen and isinstance(part, SomeFiles):
        unseen = [other] if (other := part.difference()) else []
    if unseen:
        raise NoisyctlError(
            f"{_name()} does not see {unseen[0]} as this command does; start workers where that folder is shared under the "
            "same path"
        )


def _numerics(session: bytes) -> dict[str, Any]:
    """What this worker computes with; from now on it takes the threads of the session."""
    import torch

    asked = pickle.loads(session)
    device = asked.start()
    torch.set_num_threads(asked.threads)  # also in this thread of Dask's
    return dict(asked.numerics(device, asked.precision)) | {"threads": asked.threads}


_ONE_AT_A_TIME = threading.Lock()
_held: list[Any] = []  # the last work, and what makes its blocks


def _opened(work: Any) -> Any:
    if not _held or _held[0] != work:
        _held.clear()  # its memory is free before more is taken
        _held.extend((work, work.open(*work.arguments)))
    return _held[1]


def _name() -> str:
    return f"the worker on {socket.gethostname()} (process {os.getpid()})"


def _nobody(done: int) -> None:
    """Nobody is told how many items of a part are done."""
