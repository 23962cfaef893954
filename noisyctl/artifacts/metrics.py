"""metrics.json: what evaluate found of every run, with a digest over all of it, which every reader checks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.errors import ArtifactError

MADE_BY = "noisyctl evaluate"


def write(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics with their digest, into a folder that is being published."""
    whole = {**metrics, "digest": _digest(metrics)}
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> dict[str, Any]:
    """The metrics: `runs` by name, and the probes beside them.

    Raises ArtifactError where the file is missing, another program's, or not as evaluate wrote it.
    """
    files.recover(path.parent)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with `{MADE_BY}`")
    try:
        found = json.loads(path.read_text())
        digest = found.pop("digest")
        whole = digest == _digest(found) and isinstance(found["runs"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a metrics.json of {MADE_BY}; make it with `{MADE_BY}`") from error
    if not whole:
        raise ArtifactError(f"{path} was changed after it was written; make it again with `{MADE_BY}`")
    return dict(found)


def _digest(metrics: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(metrics, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
