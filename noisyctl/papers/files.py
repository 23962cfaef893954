"""Reading the YAML files of papers/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from noisyctl import config
from noisyctl.errors import ParamsError

HOME = Path("papers")


def read(path: Path) -> config.ParamsFile:
    """A file that people write, with the line of every key. Raises ParamsError where it does not exist."""
    require(path)
    return config.read_params_file(path)


def read_fast(path: Path) -> dict[str, Any]:
    """A large file, without the lines of its keys. Raises ParamsError where it does not exist."""
    require(path)
    found: dict[str, Any] = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def require(path: Path) -> None:
    """Raise ParamsError, which says where to run, if a file of papers/ does not exist."""
    if not path.exists():
        raise ParamsError(f"{path} does not exist; run this in the project's folder, which holds papers/")
