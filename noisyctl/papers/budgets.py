"""Budgets: what makes the runs of a paper shorter or smaller, from the papers' budgets.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisyctl.papers.files import home, read
from noisyctl.params import FieldSpec, ModuleSpec

DATA = Path("data")


@dataclass(frozen=True)
class Budget:
    """What makes a run shorter or smaller. The budget `full` changes nothing.

    Parameters that count epochs shrink together: to `epochs_factor` of what the row says, or so that `epochs` is at most
    `max_epochs`. `override` gives a value to every parameter of that name, `at_most` is an upper limit, and `replace`
    exchanges certain values of the row for others. `dataset` is prepared in the place of every data set, and has the
    `size`. `noises` changes noises by their kind: a block that names a `kind` replaces the noise, any other is added to it.
    """

    name: str
    epochs_factor: float = 1.0
    max_epochs: int | None = None
    seeds: int | None = None
    override: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    replace: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: Mapping[str, Any] | None = None
    size: Mapping[str, int] = field(default_factory=dict)
    noises: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The folder that holds all data of this budget."""
        return DATA if self.name == "full" else DATA / self.name

    def noise(self, block: Mapping[str, Any]) -> dict[str, Any]:
        """A noise of the papers' shared/params.yaml as this budget makes it, with its `kind`."""
        change = self.noises.get(block["kind"], {})
        return dict(change) if "kind" in change else {**block, **change}

    def shorten(self, values: Mapping[str, Any], spec: ModuleSpec) -> dict[str, Any]:
        """The parameters of a run under this budget: the given `values`, and those that the budget changes."""
        names = {f.name for f in spec.fields}
        full = {f.name: f.default for f in spec.fields} | dict(values)
        factor = self.epochs_factor
        if self.max_epochs is not None and full.get("epochs"):
            factor = min(factor, self.max_epochs / full["epochs"])
        found = dict(values) | {name: value for name, value in self.override.items() if name in names}
        for name, by_value in self.replace.items():
            if found.get(name) in by_value:
                found[name] = by_value[found[name]]
        for name, limit in self.at_most.items():
            if name in names and full[name] is not None and full[name] > limit:
                found[name] = limit
        if factor < 1:
            counted = {f.name: full[f.name] for f in spec.fields if counts_epochs(f)}
            found |= {name: _scaled(value, factor) for name, value in counted.items() if value}
        return found


def counts_epochs(spec: FieldSpec) -> bool:
    """Whether a parameter is a number of epochs, or the number of an epoch; its name tells."""
    words = spec.name.split("_")
    return words[-1] in ("epoch", "epochs", "period") or spec.name == "decay_start"


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return [_scaled(one, factor) for one in value]
    return max(1, round(value * factor))


def budgets() -> dict[str, Budget]:
    """The budgets by name: `full`, and the blocks of the papers' budgets.yaml."""
    file = read(home() / "budgets.yaml")
    return {"full": Budget("full")} | {name: Budget(name, **values) for name, values in file.values.items()}
