"""metrics.json: what evaluate found of every run, with a digest over all of it, which every reader checks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.errors import ArtifactError

MADE_BY = "noisyctl evaluate"
SCORES = {  # by their names in scores.json: a block of a run in metrics.json, and a key of it
    "test_accuracy": ("test_accuracy", "last"),
    "average_precision": ("detection", "average_precision"),
    "called_wrong": ("list", "called_wrong"),
}


def write(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics with their digest, into a folder that is being published."""
    whole = {**metrics, "digest": _digest(metrics)}
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")


def write_scores(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write a few numbers of each run, for `dvc metrics diff` and `dvc exp show`: what SCORES names and a run has."""
    found = {name: _scores(run) for name, run in metrics["runs"].items()}
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _scores(run: Mapping[str, Any]) -> dict[str, int | float]:
    """The scores of a run, which has no test accuracy without a truth."""
    found: dict[str, int | float] = {}
    for name, (block, key) in SCORES.items():
        value = (run.get(block) or {}).get(key)
        if isinstance(value, int | float):
            found[name] = round(value, 4)
    return found


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
