"""params.yaml to frozen Params: every problem at once, each with its line and its cure.

Values come from layers, the later one wins: defaults of the class, params.yaml, `--set`, options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import Params

P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Layer:
    """Values of one origin. `place` says where a value was written, for messages and `--dry-run`."""

    values: Mapping[str, Any]
    place: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def where(self, name: str) -> str:
        return f"{self.place}:{self.lines[name]}" if name in self.lines else self.place


@dataclass(frozen=True)
class ParamsFile:
    """A params.yaml with the line of every key."""

    path: str
    values: dict[str, Any]
    lines: dict[str, int]

    def get(self, dotted: str) -> Any:
        """The value at `a.b.c`, or None."""
        value: Any = self.values
        for part in dotted.split(".") if dotted else []:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def block(self, dotted: str) -> Layer:
        """The block at `a.b.c` as a layer; an absent one is empty."""
        value = self.get(dotted)
        if value is not None and not isinstance(value, dict):
            raise ParamsError(
                f"{self.where(dotted)}: {dotted} is {value!r}; write a block `{dotted.split('.')[-1]}: {{...}}`"
            )
        prefix = f"{dotted}."
        lines = {key[len(prefix) :]: line for key, line in self.lines.items() if key.startswith(prefix)}
        return Layer({str(k): v for k, v in (value or {}).items()}, self.path, lines)

    def where(self, dotted: str) -> str:
        return f"{self.path}:{self.lines[dotted]}" if dotted in self.lines else self.path

    def renamed(self, group: str, old: str, new: str) -> ParamsFile:
        """The same with the block `group.old` at `group.new`. Raises ParamsError where both are there."""
        blocks = self.get(group)
        if not isinstance(blocks, dict) or old not in blocks:
            return self
        if new in blocks:
            raise ParamsError(
                f"{self.where(f'{group}.{old}')}: {group}.{old} is another name of {group}.{new}, which is there too; "
                "leave one of them out"
            )
        moved = {new if name == old else name: block for name, block in blocks.items()}
        before, after = f"{group}.{old}", f"{group}.{new}"
        lines = {
            after + key[len(before) :] if f"{key}.".startswith(f"{before}.") else key: line
            for key, line in self.lines.items()
        }
        return ParamsFile(self.path, self.values | {group: moved}, lines)


def read_params_file(path: Path) -> ParamsFile:
    """Read a params.yaml; an absent file has no values.

    Raises ParamsError where it is not YAML, not a mapping, or names a key twice.
    """
    if not path.exists():
        return ParamsFile(str(path), {}, {})
    try:
        tree = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return ParamsFile(str(path), {}, {})
    if not isinstance(values, dict):
        raise ParamsError(f"{path} holds a {type(values).__name__}; write `key: value` lines")
    lines: dict[str, int] = {}
    _collect_lines(tree, "", lines, str(path))
    return ParamsFile(str(path), values, lines)


def _collect_lines(node: yaml.Node, prefix: str, lines: dict[str, int], path: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        if dotted in lines:
            raise ParamsError(
                f"{path}:{key.start_mark.line + 1}: {dotted} stands twice (first in line {lines[dotted]})"
            )
        lines[dotted] = key.start_mark.line + 1
        _collect_lines(value, f"{dotted}.", lines, path)


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """`["methods.mixnn.epochs=5"]` to `{"methods.mixnn.epochs": 5}`, values read as YAML."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ParamsError(
                f"--set {text}: write --set key=value, for example --set methods.mixnn.epochs=5"
            )
        values[key.strip()] = read_scalar(value)
    return values


def read_scalar(text: str) -> Any:
    """An option's text as the YAML value it stands for; what is not YAML stays text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def resolve(model: type[P], layers: Iterable[Layer], block: str) -> tuple[P, dict[str, str]]:
    """The params of `model` from `layers`, and where each field's value came from.

    Raises ParamsError with one line a problem: place, name, what is wrong, cure.
    """
    values: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    for layer in layers:
        for name, value in layer.values.items():
            values[name], origin[name] = value, layer
    try:
        params = model(**values)
    except ValidationError as error:
        problems = [_problem(entry, model, origin, block) for entry in error.errors()]
        raise ParamsError("\n".join(sorted(problems, key=_by_line))) from None
    sources = {}
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        sources[name] = str(extra.get("source", "")) if isinstance(extra, dict) else ""
    return params, {
        name: origin[name].where(name) if name in origin else sources[name] for name in model.model_fields
    }


def _by_line(problem: str) -> tuple[str, int]:
    place = problem.split(" ", 1)[0].rstrip(":")
    path, _, line = place.rpartition(":")
    return (path, int(line)) if line.isdigit() else (place, 0)


def _problem(entry: Mapping[str, Any], model: type[Params], origin: Mapping[str, Layer], block: str) -> str:
    name = ".".join(str(part) for part in entry["loc"]) or "?"
    head = name.split(".")[0]
    dotted = f"{block}.{name}" if block else name
    place = origin[head].where(head) if head in origin else "params"
    match entry["type"]:
        case "extra_forbidden":
            return f"{place}: {dotted} is not a parameter; {suggest(name, model.model_fields)}"
        case "missing":
            info = model.model_fields[head]
            option = f"--{head.replace('_', '-')}"
            return (
                f"params: {dotted} is missing ({info.description}); give {option} or write it in params.yaml"
            )
        case _:
            return f"{place}: {dotted} is {entry['input']!r}: {entry['msg'].lower()}"
