"""params.yaml to frozen Params: every problem at once, each with its line and its cure.

Values come from layers, the later one wins: defaults of the class, params.yaml, `--set`, options.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from noisyctl.errors import ParamsError, suggest
from noisyctl.params import Params

P = TypeVar("P", bound=Params)

DEEPEST = 50  # levels of nesting
MOST_VALUES = 100_000  # with aliases written out
MOST_BYTES = 10 * 2**20
NAMED = 3  # levels whose keys are names: `methods`, `mixnn`, `epochs`
MERGE, TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


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
        """The value at `a.b.c`, or None. A name may hold points itself: `noises.sym0.6`."""
        return _at(self.values, dotted.split(".")) if dotted else self.values

    def block(self, dotted: str) -> Layer:
        """The block at `a.b.c` as a layer; an absent one is empty."""
        value = self.get(dotted)
        if value is not None and not isinstance(value, dict):
            raise ParamsError(
                f"{self.where(dotted)}: {dotted} is {_short(value)}; write a block `{dotted.split('.')[-1]}: {{...}}`"
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


def _at(value: Any, parts: list[str]) -> Any:
    """The value at a path of names, where a name may be several parts joined by points."""
    if not parts:
        return value
    if isinstance(value, dict):
        for stop in range(1, len(parts) + 1):
            found = _at(value.get(".".join(parts[:stop])), parts[stop:])
            if found is not None:
                return found
    return None


def read_params_file(path: Path) -> ParamsFile:
    """Read a params.yaml; an absent file has no values.

    Raises ParamsError where it cannot be read, is not YAML, is no mapping, names a key twice, or is too deep or too large.
    """
    if not path.exists():
        return ParamsFile(str(path), {}, {})
    tree, values = _read_yaml(_text_of(path), str(path), NAMED)
    if tree is None:
        return ParamsFile(str(path), {}, {})
    if not isinstance(values, dict):
        raise ParamsError(
            f"{path}:{tree.start_mark.line + 1}: {_short(values)} stands where `key: value` lines are expected"
        )
    lines: dict[str, int] = {}
    _collect_lines(tree, "", lines, str(path))
    return ParamsFile(str(path), values, lines)


def _text_of(path: Path) -> str:
    """The text of a file. Raises ParamsError where it is no file, too large or not UTF-8."""
    if path.is_dir():
        raise ParamsError(f"{path} is a folder; give a file of `key: value` lines to --params-file")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error.strerror}); give another --params-file") from error
    if len(content) > MOST_BYTES:
        raise ParamsError(f"{path} is larger than {MOST_BYTES // 2**20} MiB; it should hold parameters only")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ParamsError(f"{path}:{line}: the text is not UTF-8; save the file as UTF-8") from error


class _Loader(yaml.SafeLoader):
    """YAML of bounded depth: PyYAML calls itself once a level."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {DEEPEST} levels deep", problem_mark=self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _read_yaml(text: str, place: str, named: int = 0) -> tuple[yaml.Node | None, Any]:
    """The nodes of a YAML text, and its value; keys of the first `named` levels are text. ParamsError names the line."""
    loader = _Loader(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return None, None
        _require_bounded(tree, place)
        _read_keys_as_text(tree, named)
        return tree, loader.construct_document(tree)
    except yaml.YAMLError as error:
        raise ParamsError(_not_yaml(error, place)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # PyYAML's constructors raise these on a date that does not exist, on a number of 5,000 digits, and the like
        raise ParamsError(
            f"{place}: a value is not what it looks like ({_first_line(error)}); write text in quotes"
        ) from error
    finally:
        loader.dispose()


def _not_yaml(error: yaml.YAMLError, place: str) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    line = f":{mark.line + 1}" if mark else ""
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.problem else str(error)
    return f"{place}{line} is not YAML: {' '.join(problem.split())}; write `key: value` lines"


def _require_bounded(tree: yaml.Node, place: str) -> None:
    """Refuse aliases that contain themselves, and those that stand for too many values when written out."""
    count = 0
    above: set[int] = set()

    def visit(node: yaml.Node) -> None:
        nonlocal count
        count += 1
        line = f"{place}:{node.start_mark.line + 1}"
        if id(node) in above:
            raise ParamsError(f"{line}: this block contains itself through an alias (*name); write it out")
        if count > MOST_VALUES:
            raise ParamsError(
                f"{line}: with its aliases (*name) written out this holds more than {MOST_VALUES:,} values; use fewer"
            )
        if len(above) > DEEPEST:
            raise ParamsError(f"{line}: nested more than {DEEPEST} levels deep; write it flatter")
        if isinstance(node, yaml.CollectionNode):
            above.add(id(node))
            pairs = node.value if isinstance(node, yaml.MappingNode) else [(one,) for one in node.value]
            for pair in pairs:
                for one in pair:
                    visit(one)
            above.remove(id(node))

    visit(tree)


def _read_keys_as_text(node: yaml.Node, levels: int) -> None:
    """Names of blocks and of parameters are text as written: `2024` and `on` may be names of data sets."""
    if levels and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                key.tag = TEXT
            _read_keys_as_text(value, levels - 1)


def _collect_lines(node: yaml.Node, prefix: str, lines: dict[str, int], path: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ParamsError(
                f"{path}:{key.start_mark.line + 1}: a list or a block cannot be a name; write text"
            )
        dotted = f"{prefix}{key.value}"
        if dotted in lines:
            raise ParamsError(
                f"{path}:{key.start_mark.line + 1}: {dotted} stands twice (first in line {lines[dotted]})"
            )
        lines[dotted] = key.start_mark.line + 1
        _collect_lines(value, f"{dotted}.", lines, path)


def _short(value: Any) -> str:
    """A value as a message shows it: at most a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """`["methods.mixnn.epochs=5"]` to `{"methods.mixnn.epochs": 5}`, values read as YAML."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ParamsError(
                f"--set {text}: write --set key=value, for example --set methods.mixnn.epochs=5"
            )
        values[key.strip()] = read_scalar(value, f"--set {key.strip()}")
    return values


def read_scalar(text: str, place: str = "the value") -> Any:
    """The YAML value that a text stands for; what is not YAML stays text. Raises ParamsError on a bomb of aliases."""
    try:
        return _read_yaml(text, place)[1]
    except ParamsError as error:
        if isinstance(error.__cause__, yaml.YAMLError):
            return text
        raise


def read_option(text: str, annotation: Any) -> Any:
    """The value that an option's text stands for in a field of this type.

    Text is taken as it is: `2024`, `null` and `#x` are names of folders where the field is text. Elsewhere a number, a
    choice, true or false, or `none` where nothing may be given; lists and mappings as YAML. What fits no type stays text,
    which the field refuses.
    """
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for kind in kinds:
        if get_origin(kind) is Literal:
            found = [one for one in get_args(kind) if str(one) == text]
            if found:
                return found[0]
    if str in kinds:
        return text
    if NoneType in kinds and text.casefold() in ("none", "null"):
        return None
    for kind in kinds:
        if kind is bool and text.casefold() in ("true", "false"):
            return text.casefold() == "true"
        if kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        if get_origin(kind) in (list, tuple, dict):
            return read_scalar(text)
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
            said = entry["msg"].removeprefix("Value error, ")
            return f"{place}: {dotted} is {_short(entry['input'])}: {said[:1].lower()}{said[1:]}"
