"""Noisy-label methods; one file each. File name, command-line name and params block are the same word."""

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import ModuleSpec, module_spec

RENAMED = {
    "scanmix_official": "scanmix"
}  # another name of a method until the next version, and the name it has


def modules() -> dict[str, str]:
    """Method name to module: this folder's files, and the entry points `noisyctl.methods` of other packages."""
    own = {m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__)}
    return own | _of_other_packages()


def present_name(name: str) -> str:
    """The name of a method that may be given by a former one."""
    return RENAMED.get(name, name)


@functools.cache
def _of_other_packages() -> dict[str, str]:
    """Reading what is installed takes longer than all the rest."""
    return {point.name: point.module for point in entry_points(group="noisyctl.methods")}


def available() -> tuple[str, ...]:
    return tuple(sorted(modules()))


def load(name: str) -> ModuleType:
    """A method's module. Raises ParamsError naming the methods there are."""
    return importlib.import_module(module_of(name))


def spec_of(name: str) -> ModuleSpec:
    """What a method's source says of it, without importing it."""
    return module_spec(module_of(name))


def module_of(name: str) -> str:
    """The module of a method. Raises ParamsError naming the methods there are."""
    found = modules()
    if present_name(name) not in found:
        raise ParamsError(f"unknown method {name!r}; {suggest(name, sorted(found))}")
    return found[present_name(name)]
