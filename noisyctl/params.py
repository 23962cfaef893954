"""How a stage, a noise or a method declares its parameters: one line per field, with its source.

A field is written `name: type = param(default, "meaning [symbol]", source="paper section 4.1")`. These lines give the
options of the command line, the checks of params.yaml, the output of `--dry-run` and the tables of the documentation.
They are read from the source text, without an import, so that `--help` does not have to import torch.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from noisyctl.code import source_of

OURS = "ours"


class Params(BaseModel):
    """Base of all parameter classes; the values cannot be changed.

    An unknown key, an infinite number and NaN are errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: Any) -> Any:
        """Refuse `true` and `false` where a number is wanted, though Python counts them as 1 and 0."""
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("true and false are no value for it; write a number or text")
        return value


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))


def param(
    default: Any = ..., meaning: str = "", *, source: str = OURS, path: bool = False, **limits: Any
) -> Any:
    """A field of `Params`, with its default, meaning and source. `limits` are pydantic's: ge, gt, le, lt, min_length.

    A field without a default must be given by the user; this is for choices of which none is neutral. `path` marks
    the name of a file or folder that is read, so that no output is written into it.
    """
    return Field(default, description=meaning, json_schema_extra={"source": source, "path": path}, **limits)


def paths_of(params: Params | None) -> list[Path]:
    """The files and folders that these params name: the values of the fields marked with `path`."""
    if params is None:
        return []
    named = {
        name: info.json_schema_extra
        for name, info in type(params).model_fields.items()
        if isinstance(info.json_schema_extra, dict)
    }
    values = [getattr(params, name) for name, extra in named.items() if extra.get("path")]
    return [Path(value).expanduser() for value in values if isinstance(value, str)]


@dataclass(frozen=True)
class FieldSpec:
    """One field of a `Params` class, as it is written in the source."""

    name: str
    annotation: str
    default: Any
    required: bool
    meaning: str
    source: str

    @property
    def option(self) -> str:
        """The name of the option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def off(self) -> str:
        """The option that turns a bool off: `--exclude-x` beside `--include-x`, else `--no-x`."""
        if "include" in self.option:
            return self.option.replace("--include", "--exclude")
        return f"--no-{self.option[2:]}"


@dataclass(frozen=True)
class Needs:
    """What a method starts from. The cells of a paper, help texts, errors and the README's table follow from it.

    `networks` is the number of networks it takes, from a `warmup` if that is set. With `pretrained`, the warm-up
    itself starts from pretraining: from clusters or, where clusters are not needed, from an encoder. `neighbors` are
    mined neighbors, `clusters` label-free clusters. `clusters_unless` names a param and a value with which no
    clusters are needed. With `verified`, verified labels are used if the user gives them.
    """

    networks: int = 1
    warmup: bool = True
    pretrained: bool = False
    neighbors: bool = False
    clusters: bool = False
    clusters_unless: tuple[str, str] | None = None
    verified: bool = False

    def under(self, values: Mapping[str, Any]) -> Needs:
        """What is needed with these params; params that are not given have their defaults."""
        if self.clusters_unless is None:
            return self
        name, value = self.clusters_unless
        return replace(self, clusters=self.clusters and values.get(name) != value, clusters_unless=None)


@dataclass(frozen=True)
class ModuleSpec:
    """What the source of a module says, without importing it: its first line, its params and its needs."""

    name: str
    summary: str
    fields: tuple[FieldSpec, ...]
    needs: Needs


@functools.lru_cache
def module_spec(module: str, class_name: str = "Params") -> ModuleSpec:
    """Read the first line of a module's docstring, the fields of `class_name` (inherited ones first) and `NEEDS`."""
    found = source_of(module)  # find_spec would import the package, and numpy with it
    if found is None:
        raise ModuleNotFoundError(f"no module {module}")
    tree = ast.parse(found.read_text())
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    return ModuleSpec(module.rsplit(".", 1)[-1], summary, tuple(_fields(tree, class_name)), _needs(tree))


def _fields(tree: ast.Module, class_name: str) -> list[FieldSpec]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            inherited = {
                spec.name: spec for base in node.bases for spec in _inherited(tree, ast.unparse(base))
            }
            own = [_field(line) for line in node.body if isinstance(line, ast.AnnAssign)]
            return list((inherited | {spec.name: spec for spec in own}).values())
    return []


def _inherited(tree: ast.Module, base: str) -> tuple[FieldSpec, ...]:
    """The fields of a base class, read from the source of the module that it is imported from."""
    if base == "MethodParams":
        return METHOD_FIELDS
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and base in [name.asname or name.name for name in node.names]:
            return module_spec(str(node.module), base).fields
    return ()


def _field(line: ast.AnnAssign) -> FieldSpec:
    assert isinstance(line.target, ast.Name)
    call = line.value
    if not isinstance(call, ast.Call):
        raise TypeError(f"{line.target.id}: write `name: type = param(default, ...)`")
    named = {word.arg: word.value for word in call.keywords}
    arguments = [ast.literal_eval(value) for value in call.args]
    required = not arguments
    return FieldSpec(
        name=line.target.id,
        annotation=ast.unparse(line.annotation),
        default=None if required else arguments[0],
        required=required,
        meaning=arguments[1]
        if len(arguments) > 1
        else ast.literal_eval(named["meaning"])
        if "meaning" in named
        else "",
        source=ast.literal_eval(named["source"]) if "source" in named else OURS,
    )


def _needs(tree: ast.Module) -> Needs:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "NEEDS"
            and isinstance(node.value, ast.Call)
        ):
            return Needs(**{str(word.arg): ast.literal_eval(word.value) for word in node.value.keywords})
    return Needs()


class MethodParams(Params):
    """The base of every method's Params."""

    warmup_profile: str = param(
        "default", "warm-up profile to start from: the name of a block under `warmups:`"
    )
    validation_rate: float = param(
        0.0, "share of the training samples that are held out; their noisy labels validate", ge=0, lt=1
    )


METHOD_FIELDS = tuple(
    FieldSpec(
        name,
        getattr(info.annotation, "__name__", ""),
        info.default,
        info.is_required(),
        info.description or "",
        OURS,
    )
    for name, info in MethodParams.model_fields.items()
)
