"""The declaration that a command is made from: its options, its params, and the function that does the work."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl import params
from noisyctl.artifacts.files import MANIFEST, Folder, Form, Networks, Writes
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from noisyctl.layout import Layout
from noisyctl.registry import Registry
from noisyctl.session import Session


@dataclass(frozen=True)
class Option:
    """An option of a command that is no param. `default` is by layout.

    Its value is a path, or of another `type`: `str`, or one of noisyctl/cli/types.py. `metavar` is what help shows.

    An `argument` is given by its place instead of its name, a `flag` has no value. An output `writes` places of certain
    forms, from which the frame knows what it may replace.
    """

    name: str
    help: str
    default: Callable[[Layout], Any] | None = None
    multiple: bool = False
    writes: Callable[[Path], Writes] | None = None
    required: bool = False
    type: Any = None
    argument: bool = False
    flag: bool = False
    metavar: str = ""

    @property
    def kind(self) -> Any:
        """The type of the value: Path where nothing else is said."""
        return self.type or (str if self.metavar else Path)

    @property
    def shown(self) -> str | None:
        """What help shows for a path or a text."""
        return self.metavar or {Path: "path", str: "name"}.get(self.kind)

    @property
    def output(self) -> bool:
        return self.writes is not None


def one(form: Form | str) -> Callable[[Path], Writes]:
    """For an option that names the one place that is written: of a form, or an artifact such as `neighbors.zarr`."""
    return lambda path: Writes({path: _form(form) if isinstance(form, str) else form})


def inside(*artifacts: str, **others: Form) -> Callable[[Path], Writes]:
    """For an option that names a folder in which these artifacts are put, and CSV files with a form of their own."""
    return lambda folder: Writes(
        {folder / name: _form(name) for name in artifacts}
        | {folder / f"{name}.csv": form for name, form in others.items()},
        inside=folder,
    )


CLUSTER = Option(  # of a command whose work is in blocks that any process can make; its Session has it
    "cluster",
    "make blocks on several workers at once, with the same bytes: local:N on this machine, the address of a Dask scheduler, "
    "or a file that names a cluster; each takes the memory of one command (docs/scale.md)",
    type=str,
    metavar="local:N|tcp://HOST:PORT|FILE.yaml",
)
RUN = inside("networks.safetensors", "trace.zarr")  # what a run or a warm-up is


def _form(artifact: str) -> Form:
    """`images.zarr` is an artifact of the kind images, `encoder.safetensors` networks of the kind encoder."""
    from noisyctl.artifacts import kinds, store

    kind, suffix = artifact.split(".")
    return Networks(kind) if suffix == "safetensors" else store.Form(kinds.BY_NAME[kind])


@dataclass(frozen=True)
class Stage:
    """One command: options, the params it takes and the block they lie in, and the function that does the work."""

    name: str
    summary: str
    example: str
    run: Callable[[Any, Any, Session], Any]
    inputs: Callable[[Mapping[str, Any], Layout, Any], Any]
    options: tuple[Option, ...] = ()
    params: Callable[[ParamsFile, Layout, Mapping[str, Any]], tuple[str, str]] | None = None
    by_kind: bool = False  # the block names the module as its `kind`, which is no param
    answers: bool = False  # the result is what a person asked for: it goes to stdout
    fields: tuple[str, ...] = ()  # modules whose Params give the options
    group: str = ""  # the command that this one is a subcommand of
    show: Callable[[Any, Session], None] | None = None  # what `--dry-run` tells beside params and paths
    text: Callable[[Any], str] | None = None  # the result for people; else its keys and values
    presets: Callable[[Layout], Mapping[str, Mapping[str, Any]]] | None = (
        None  # values of a block without being written
    )

    @property
    def words(self) -> tuple[str, ...]:
        """What a person types behind `noisyctl`: ("mine-knn",) or ("train-method", "elr")."""
        return (self.group, self.name) if self.group else (self.name,)


def specs_of(stage: Stage) -> dict[str, params.FieldSpec]:
    """The params by name; of several modules with one name, such as data sets, the help names those that have it."""
    found: dict[str, list[tuple[str, params.FieldSpec]]] = {}
    for module in stage.fields:
        for spec in params.module_spec(module).fields:
            found.setdefault(spec.name, []).append((module.rsplit(".", 1)[-1], spec))
    if len(stage.fields) == 1:
        return {name: spec for name, ((_, spec),) in found.items()}
    return {name: _shared(owned) for name, owned in found.items()}


def _shared(owned: list[tuple[str, params.FieldSpec]]) -> params.FieldSpec:
    """One option for the fields of several modules; where their defaults differ, each has its own."""
    _, last = owned[-1]
    meaning = f"({', '.join(name for name, _ in owned)}) {last.meaning}"
    if len({(spec.required, str(spec.default)) for _, spec in owned}) == 1:
        return dataclasses.replace(last, meaning=meaning)
    return dataclasses.replace(last, meaning=meaning, required=False, default="each its own")


LAYOUT_FOLDERS = (
    "noise",
    "warmup",
    "runs",
    "results",
    "simclr",
    "moco",
    "efficientnet_lite0",
)  # of a data set's folder


def holds_artifacts(folder: Path) -> bool:
    """Whether a folder holds an artifact of noisyctl, itself or in the folders that a data set's folder has."""
    held = list(folder.iterdir())
    below = [p for p in held if p.is_dir() and not p.is_symlink() and p.name in LAYOUT_FOLDERS]
    return any(map(_is_artifact, held)) or any(map(_any_below, below)) or any(map(_is_sealed, below))


def _is_sealed(folder: Path) -> bool:
    """Whether a command filled this folder as a whole: a clone of a project may hold the metrics that git keeps alone."""
    try:
        kind = json.loads((folder / MANIFEST).read_text())["kind"]
    except (KeyError, OSError, ValueError, TypeError):
        return False
    return Folder(kind).foreign(folder) is None


def _any_below(folder: Path) -> bool:
    return any(_is_artifact(p) for p in folder.rglob("*") if p.suffix in (".zarr", ".safetensors"))


def _is_artifact(path: Path) -> bool:
    from noisyctl.artifacts import kinds, store

    if path.suffix == ".safetensors":
        return any(Networks(k).foreign(path) is None for k in ("encoder", "clusters", "networks"))
    return path.suffix == ".zarr" and any(store.Form(k).foreign(path) is None for k in kinds.KINDS)


def modules_in(package: str) -> tuple[str, ...]:
    """The public modules of a package, found without importing it: what `--help` lists options from."""
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    names = sorted(m.name for m in pkgutil.iter_modules(places) if not m.name.startswith("_"))
    return tuple(f"{package}.{name}" for name in names)


def block_of(file: ParamsFile, group: str, name: str, presets: Iterable[str] = ()) -> str:
    """`group.name`, checked to be in the file or one of the `presets`, which need no block."""
    from noisyctl.errors import suggest

    known = {*(file.get(group) or {}), *presets}
    if name not in known:
        raise ParamsError(f"{file.path}: no block {group}.{name}; {suggest(name, sorted(known))}")
    return f"{group}.{name}"


def known_kind(registry: Registry, kind: Any, file: ParamsFile, block: str) -> str:
    """The module of a kind that a block of params.yaml or an option names. Raises ParamsError where there is none."""
    if not isinstance(kind, str):
        raise ParamsError(
            f"{file.where(f'{block}.kind')}: {block}.kind is {kind!r}; write the name of one kind"
        )
    registry.load(kind)
    return registry.module_of(kind)
