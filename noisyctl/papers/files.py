"""Reading the YAML files of the papers: those that come with noisyctl, or those in a folder papers/ of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from noisyctl import config
from noisyctl.errors import ParamsError

OWN = Path("papers")
PACKAGED = Path(__file__).parent / "data"
PRINTED = "printed.yaml"  # without it a folder called papers/ is somebody's own, and none of these


def home() -> Path:
    """The folder of the papers' files: papers/ in the current folder, where it holds them, or else the packaged one.

    The packaged one is a relative path where it lies in the current folder, as in a clone.
    """
    if (OWN / PRINTED).is_file():
        return OWN
    here = Path.cwd()
    return PACKAGED.relative_to(here) if PACKAGED.is_relative_to(here) else PACKAGED


def linked(name: str) -> Path:
    """A file of `home` as a plan names it: plans/ holds a link to papers/, or one to the package."""
    inside = OWN if home() == OWN else Path("noisyctl", *PACKAGED.parts[-2:])
    return inside / name


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
    """Raise ParamsError if a file of the papers does not exist."""
    if not path.exists():
        raise ParamsError(
            f"{path} does not exist; put it there, or move papers/ elsewhere: without one the papers that come with "
            "noisyctl are meant"
        )
