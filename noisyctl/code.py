"""Which source files decide what a stage computes, and a digest of them.

Three ask for it: the scratch folder of an unfinished run, the dependencies in dvc.yaml (a test compares them), and `status`.
The files are found by reading the sources, without importing them: a stage's module, what it imports, and so on, also
where the import stands inside a function. What a stage finds by its name, such as a method, is that one file and what it
imports: another method, or a new one, changes nothing. Backbones, which a network's spec names, count together.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

BY_NAME = {  # commands that find a module by name, and the package it lies in
    "train-method": "noisyctl.methods",
    "pretrain": "noisyctl.pretraining",
    "prepare-data": "noisyctl.datasets",
    "inject-noise": "noisyctl.noise",
}
# what says where things lie, checks them, or stores them: no number depends on it
PLUMBING = (
    "noisyctl",
    "noisyctl.artifacts",
    "noisyctl.cli",
    "noisyctl.code",
    "noisyctl.compiling",
    "noisyctl.config",
    "noisyctl.errors",
    "noisyctl.layout",
    "noisyctl.params",
    "noisyctl.precision",
    "noisyctl.registry",
    "noisyctl.runs",
    "noisyctl.runs.cluster",
    "noisyctl.runs.fresh",
    "noisyctl.runs.needed",
    "noisyctl.runs.on_worker",
    "noisyctl.runs.record",
    "noisyctl.runs.workers",
    "noisyctl.session",
    "stages",
)


def code_digest(stage: str) -> str:
    """A sha256 that changes with the code that decides what the stage computes. Stages are named as in `files_of`."""
    text = "".join(f"{module} {digest}\n" for module, digest in digests_of(stage).items())
    return hashlib.sha256(text.encode()).hexdigest()


def digests_of(stage: str) -> dict[str, str]:
    """The sha256 of each of the stage's files, by module."""
    return {module: hashlib.sha256(path.read_bytes()).hexdigest() for module, path in files_of(stage).items()}


def files_of(stage: str) -> dict[str, Path]:
    """The stage's source files by module, in the order of their names.

    `stage` is a command, with the name of what it finds by name behind a hyphen: `mine-knn`, `pretrain-simclr`,
    `train-method-elr`, `prepare-data-digits`, `inject-noise-symmetric`.
    """
    found: dict[str, Path] = {}
    waiting = list(starts(stage))
    roots = {"noisyctl", "stages", *(module.split(".")[0] for module in waiting)}
    while waiting:
        module = waiting.pop()
        if module in found or module.split(".")[0] not in roots or _is_plumbing(module):
            continue
        path = source_of(module)
        if path is not None:
            found[module] = path
            waiting += _imports(module, path.name == "__init__.py", path.read_bytes(), tuple(sys.path))
    return dict(sorted(found.items()))


def starts(stage: str) -> tuple[str, ...]:
    """The stage's own module, and the one that it finds by name."""
    for command, package in BY_NAME.items():
        if stage.startswith(f"{command}-"):
            return f"stages.{command.replace('-', '_')}", _find(package, stage.removeprefix(f"{command}-"))
    return (f"stages.{stage.replace('-', '_')}",)


def stage_of(words: Sequence[str], module: str | None) -> str:
    """The name by which `files_of` knows a command: `mine-knn`, or with what it finds by name, `train-method-elr`.

    `words` are the command's, such as ("train-method", "elr"), and `module` the one whose params it takes.
    """
    if words[0] in BY_NAME:
        found = words[1] if len(words) > 1 else (module or "").rpartition(".")[2]
        return f"{words[0]}-{found}"
    return words[0]


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names whose values differ, or that only one of the two has."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _find(package: str, name: str) -> str:
    """A module of the package, or of another distribution that offers it under the package's name as entry point."""
    if source_of(f"{package}.{name}") is None:
        for point in importlib.metadata.entry_points(group=package):
            if point.name == name:
                return point.module
    return f"{package}.{name}"


def _is_plumbing(module: str) -> bool:
    return module in PLUMBING or module.startswith(("noisyctl.artifacts.", "noisyctl.cli."))


def source_of(module: str) -> Path | None:
    """Where a module's source lies, found without importing its package; None where there is no such module."""
    return _source_of(module, tuple(sys.path))


@functools.cache
def _source_of(module: str, places: tuple[str, ...]) -> Path | None:
    """`source_of`, remembered while Python looks for modules in the same `places`."""
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *below)
        for source in (path / "__init__.py", path.with_suffix(".py") if below else path):
            if source.is_file():
                return source
    if spec and not below and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    return None


def _is_package(module: str) -> bool:
    source = source_of(module)
    return source is not None and source.name == "__init__.py"


@functools.cache
def _imports(module: str, is_package: bool, source: bytes, places: tuple[str, ...]) -> tuple[str, ...]:
    """The modules that a module's source imports, remembered while Python looks for modules in the same `places`.

    Many stages share files: each is parsed once.
    """
    return tuple(name for name in _names(module, is_package, source) if _source_of(name, places) is not None)


def _names(module: str, is_package: bool, source: bytes) -> Iterator[str]:
    """The names that a module's source imports: modules, and names in them that may be modules."""
    package = module if is_package else module.rpartition(".")[0]
    for node in _statements(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *base.split(".")]).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from names
            if any(source_of(name) is None for name in names):  # a name of the module itself
                yield base
        elif isinstance(node, ast.Call) and (prefix := _named_package(node)):
            yield from (f"{prefix}.{m.name}" for m in pkgutil.iter_modules([str(source_of(prefix).parent)]))  # type: ignore[union-attr]


def _statements(source: bytes) -> tuple[ast.AST, ...]:
    """The statements and calls of a source that may import something."""
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))


def _named_package(call: ast.Call) -> str:
    """`a.b` of import_module(f"a.b.{name}"): any module of the package may be meant."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name != "import_module" or not call.args or not isinstance(call.args[0], ast.JoinedStr):
        return ""
    first = call.args[0].values[0]
    text = str(first.value) if isinstance(first, ast.Constant) else ""
    return text.removesuffix(".") if text.endswith(".") and _is_package(text.removesuffix(".")) else ""
