"""What is found by the name of its file: the modules of a folder, such as methods, data sets and noise models.

The file's name is the name on the command line and in params.yaml. Modules that begin with an underscore are shared by the
others and are not found. Other packages may offer modules under the entry-point group with the name of the folder.
"""

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import ModuleType

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import ModuleSpec, module_spec


@dataclass(frozen=True)
class Registry:
    """The modules of `package`, each a `what` in messages, with the names in `contract`.

    `renamed` are former names that are still understood, each with the present one. With `open_to_others` the entry points
    of other packages belong to it.
    """

    package: str
    what: str
    contract: tuple[str, ...] = ("Params",)
    renamed: Mapping[str, str] = field(default_factory=dict)
    open_to_others: bool = False

    def modules(self) -> dict[str, str]:
        """Name to module, found without importing any."""
        found = importlib.util.find_spec(self.package)
        places = found.submodule_search_locations if found else None
        names = sorted(m.name for m in pkgutil.iter_modules(places) if not m.name.startswith("_"))
        own = {name: f"{self.package}.{name}" for name in names}
        return own | (_entry_points(self.package) if self.open_to_others else {})

    def available(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(sorted(self.modules()))

    def present_name(self, name: str) -> str:
        """The name of what may be given by a former one."""
        return self.renamed.get(name, name)

    def module_of(self, name: str) -> str:
        """The module of a name. Raises ParamsError with the nearest name, or all that there are."""
        found = self.modules()
        if self.present_name(name) not in found:
            raise ParamsError(f"unknown {self.what} {name!r}; {suggest(name, sorted(found))}")
        return found[self.present_name(name)]

    def load(self, name: str) -> ModuleType:
        """Import the module of a name. Raises ParamsError where it lacks one of the names that it must have."""
        module = importlib.import_module(self.module_of(name))
        if lacking := [each for each in self.contract if not hasattr(module, each)]:
            raise ParamsError(
                f"{module.__file__}: the {self.what} {name!r} has no {' and no '.join(lacking)}; its file must have "
                f"{', '.join(self.contract[:-1])} and {self.contract[-1]} (see CONTRIBUTING.md)"
            )
        return module

    def spec_of(self, name: str) -> ModuleSpec:
        """What the module's source says of it, without importing it."""
        return module_spec(self.module_of(name))


@functools.cache
def _entry_points(group: str) -> dict[str, str]:
    """Reading what is installed takes longer than all the rest."""
    return {point.name: point.module for point in entry_points(group=group)}
