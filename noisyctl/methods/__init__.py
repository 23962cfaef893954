"""Noisy-label methods, one file each. A method's file name is its name on the command line and in params.yaml."""

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import ModuleSpec, module_spec

# former names of methods, kept until the next version, and their present names
RENAMED = {"scanmix_official": "scanmix"}


def modules() -> dict[str, str]:
    """The module of each method: this folder's files, and the entry points `noisyctl.methods` of other packages."""
    own = {m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__)}
    return own | _of_other_packages()


def present_name(name: str) -> str:
    """The present name of a method, which may be given by a former name."""
    return RENAMED.get(name, name)


@functools.cache
def _of_other_packages() -> dict[str, str]:
    """Methods of other packages. The result is cached, since reading what is installed takes long."""
    return {point.name: point.module for point in entry_points(group="noisyctl.methods")}


def available() -> tuple[str, ...]:
    """The names of all methods, sorted."""
    return tuple(sorted(modules()))


def load(name: str) -> ModuleType:
    """A method's module. Raises ParamsError, which lists the methods, if there is none of this name."""
    return importlib.import_module(module_of(name))


def spec_of(name: str) -> ModuleSpec:
    """What a method's source says about it, without importing it."""
    return module_spec(module_of(name))


def module_of(name: str) -> str:
    """The module of a method. Raises ParamsError naming the methods there are."""
    found = modules()
    if present_name(name) not in found:
        raise ParamsError(f"unknown method {name!r}; {suggest(name, sorted(found))}")
    return found[present_name(name)]
