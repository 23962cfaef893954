"""How the artifacts of this machine were made: by which command, with which params, and by which code.

An artifact itself says only what decides its bytes: its params and what it was made from. A record says the rest: the
command with its options, and the digest of every source file that the command's result depends on. It lies in the scratch
folder, under a name made from the artifact's place. `status` reads it to tell an artifact that is out of date although
nothing it was made from has changed: the code is another one now, or params.yaml says something else than when the command
ran. An artifact without a record, such as one that came from another machine, is judged by its inputs alone.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisyctl import code

FOLDER = "made"  # of the scratch folder


@dataclass(frozen=True)
class Record:
    """How an artifact was made.

    `digest` is the artifact's own: a record whose artifact has been replaced since says nothing. `command` is the command's
    words, such as ("mine-knn", "--k", "20"), and `given` its options by name. `stage` is the name by which `code.files_of`
    knows the code; `code` the sha256 of each of its modules; `params` the resolved params, and `asked` what they were made
    of: the block of params.yaml, options and presets.
    """

    digest: str
    command: tuple[str, ...]
    given: Mapping[str, Any]
    stage: str
    code: Mapping[str, str]
    params: Mapping[str, Any]
    asked: Sequence[Any]

    @property
    def shown(self) -> str:
        """The command as a person types it."""
        return shlex.join(["noisyctl", *self.command])


def write(scratch: Path, place: Path, record: Record) -> None:
    """Keep the record of the artifact at `place`. A scratch folder that cannot be written is no reason to fail."""
    path = _path(scratch, place)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(record), sort_keys=True))
        partial.replace(path)
    except OSError:
        return


def read(scratch: Path, place: Path, digest: str) -> Record | None:
    """The record of the artifact of this digest at `place`; None where there is none, or it is of another artifact."""
    try:
        held = json.loads(_path(scratch, place).read_text())
        record = Record(**{**held, "command": tuple(held["command"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if record.digest == digest else None


def changes(record: Record, params: Mapping[str, Any] | None) -> str:
    """What is different now from when the artifact was made, in words; "" where nothing is.

    `params` are those that the same command would take now; None where it can no longer be resolved.
    """
    said = []
    if found := code.changed(record.code, code.digests_of(record.stage)):
        said.append(f"by other code than it is now ({_few(found)})")
    if params is not None:
        names = code.changed(_as_text(record.params), _as_text(params))
        if names:
            values = [f"{name} {record.params.get(name)}, now {params.get(name)}" for name in names]
            said.append(f"with other params ({_few(values)})")
    return " and ".join(said)


def digest_of(place: Path) -> str | None:
    """The digest that an artifact carries, read without its arrays; None where it is no artifact, or none that is whole."""
    from noisyctl.artifacts import files

    if place.suffix == ".safetensors":
        header = files.networks_header(place)
        return None if header is None else header.get("digest")
    try:
        return str(json.loads((place / "zarr.json").read_text())["attributes"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(scratch: Path, place: Path) -> Path:
    key = hashlib.sha256(os.fsencode(place.absolute())).hexdigest()[:32]
    return scratch / FOLDER / f"{key}.json"


def _as_text(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value, sort_keys=True, default=str) for name, value in values.items()}


def _few(found: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
