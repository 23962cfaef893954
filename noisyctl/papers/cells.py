"""A cell: one command of a plan, as a type. Its params are a mapping, and its command line is derived from them.

A plan's cells.yaml holds each cell as DVC needs it: the whole command, so that a changed value changes the command of one
cell alone, and the paths that the stage reads and writes. Nothing is ever read back from a command line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import FieldSpec, ModuleSpec, module_spec

# an empty file that every plan writes: a value is in the command, or is the default of the code
NO_PARAMS = Path("plans/defaults.yaml")


@dataclass(frozen=True)
class Group:
    """The cells that share a stage of the template.

    `depends` are the paths that the stage depends on, by their names in the template. Every cell has all of them: in the
    place of one that a cell does not read stands the one called `unused`, for DVC accepts the same path twice.
    """

    depends: tuple[str, ...] = ()
    unused: str = ""


SHARED = {  # the work that several runs share, in the order in which it is made
    "prepare": Group(),
    "prepare_given": Group(),
    "prepare_verified": Group(),
    "prepare_own": Group(),
    "noise": Group(("truth", "images")),
    "noise_given": Group(("truth", "images")),
    "pretrain": Group(("images",)),
    "knn": Group(("features",)),
    "cluster": Group(("images", "encoder", "neighbors")),
}
OWN = {
    "warmup": Group(("images", "labels", "start"), "labels"),
    "train": Group(("images", "labels", "warmup", "neighbors", "clusters", "verified"), "labels"),
    "evaluate": Group(("run", "truth", "noise_facts", "verified"), "truth"),
}
GROUPS = SHARED | OWN


@dataclass(frozen=True)
class Cell:
    """One command of a plan.

    `words` are the command and its choices, such as `train-method elr`; `kind` is the name of the method, the pretraining,
    the data set or the noise. `params` are the values that the row or block gives, fields of the class Params in `module`.
    `reads` are paths by the option that names them, `writes` paths by name. `depends` adds what DVC must watch under another
    name than an option's. `params_file` takes the place of a params.yaml that happens to lie in the folder. `where` says in
    messages where the params were written.

    Raises ParamsError where `params` gives a value that the command has no parameter for.
    """

    name: str
    words: str
    out: Path
    kind: str = ""
    module: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, Path] = field(default_factory=dict)
    writes: Mapping[str, Path] = field(default_factory=dict)
    depends: Mapping[str, Path] = field(default_factory=dict)
    seed: int | None = None
    params_file: Path = NO_PARAMS
    where: str = field(default="params", compare=False)

    def __post_init__(self) -> None:
        known = [f.name for f in self.spec.fields] if self.spec else []
        for name in self.params:
            if name not in known:
                raise ParamsError(
                    f"{self.where}.{name} is not a parameter of {self.words}; {suggest(name, known)}"
                )

    @property
    def spec(self) -> ModuleSpec | None:
        """The fields that `params` may give; None for a command without params."""
        return module_spec(self.module) if self.module else None

    @property
    def resolved(self) -> dict[str, Any]:
        """All params by name: those that are given, and the defaults of the others."""
        defaults = {f.name: f.default for f in self.spec.fields} if self.spec else {}
        return defaults | dict(self.params)

    @property
    def command(self) -> str:
        """The command as one line for a shell: words, paths, params in the order of their declaration, seed, --out."""
        line = ["noisyctl", *self.words.split()]
        for name, path in self.reads.items():
            line += [f"--{name.replace('_', '-')}", str(path)]
        for one in self.spec.fields if self.spec else ():
            if one.name in self.params:
                line += _option(one, self.params[one.name])
        line += [] if self.seed is None else ["--seed", str(self.seed)]
        line += ["--params-file", str(self.params_file)]
        return shlex.join([*line, "--out", str(self.out)])

    def as_yaml(self, group: Group) -> dict[str, Any]:
        """The cell as the template's stage for its group reads it."""
        paths = {**self.reads, **self.depends}
        depends = {name: str(paths.get(name) or paths[group.unused]) for name in group.depends}
        found: dict[str, Any] = {"cmd": self.command, "out": str(self.out)}
        found |= {"kind": self.kind} if self.kind else {}
        found |= {"params": dict(self.params)} if self.module else {}
        return found | depends | {name: str(path) for name, path in self.writes.items()}

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The paths that DVC keeps of this cell."""
        return tuple(self.writes.values()) or (self.out,)


Cells = dict[str, dict[str, Cell]]  # by group and name


def as_yaml(cells: Cells) -> dict[str, dict[str, Any]]:
    """Cells by group and name, as a cells.yaml holds them."""
    return {
        group: {name: cell.as_yaml(GROUPS[group]) for name, cell in of.items()} for group, of in cells.items()
    }


def merge(shared: Iterable[tuple[str, Cell]]) -> Cells:
    """Shared cells by group and name; the same cell may come several times."""
    found: Cells = {group: {} for group in SHARED}
    for group, cell in shared:
        found[group][cell.name] = cell
    return found


def _option(spec: FieldSpec, value: Any) -> list[str]:
    """A parameter as words of a command line. A bool is one word, `--flip` or `--no-flip`."""
    if spec.annotation == "bool":
        return [spec.option if value else spec.off]
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return [spec.option, text.removesuffix("\n").removesuffix("\n...")]
