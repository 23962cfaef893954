"""Label-free pretraining; one file each, found by name."""

import importlib
import pkgutil
from types import ModuleType


def available() -> tuple[str, ...]:
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
