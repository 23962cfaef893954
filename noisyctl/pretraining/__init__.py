"""Label-free pretraining methods, one file each. A method's file name is its name on the command line."""

import importlib
import pkgutil
from types import ModuleType


def available() -> tuple[str, ...]:
    """The names of the pretraining methods, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """The module of a pretraining method."""
    return importlib.import_module(f"{__name__}.{name}")
