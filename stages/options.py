"""From a Stage's declaration to a Typer command: one signature, the same options everywhere."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from noisyctl import config, params
from noisyctl.cli.cures import Chosen, complete
from noisyctl.errors import NoisyctlError, ParamsError, suggest
from stages.common import Layout, Option, Session, Stage, block_of, holds_artifacts

COMMON = (
    ("dataset", "data set, or a block of `datasets:`", "name"),
    ("noise", "block of `noises:`, or `given` for labels as they are", "name"),
    ("pretrain", "whose features", "name"),
    ("seed", "of every random draw", "int"),
    ("device", "where to compute", "auto|cpu|cuda"),
    (
        "precision",
        "of training; auto: bfloat16 where GPU or processor has its units",
        "auto|float32|bfloat16",
    ),
    ("threads", "of the CPU; 0 leaves torch's choice", "int"),
    ("params_file", "[params.yaml]", "path"),
)
DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "pretrain": "simclr",
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "threads": 0,
}
BLOCKS = ("datasets", "noises", "warmups", "methods", "simclr", "moco", "scan", "knn")
TOP_LEVEL = (*DEFAULTS, "noise", *BLOCKS)


def command(stage: Stage) -> Any:
    """The Typer command of a stage."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    text = f"{stage.summary}\n\n\b\nExample:\n  {stage.example}"
    specs = _specs(stage)

    def call(**given: Any) -> None:
        execute(stage, given)

    own = {option.name for option in stage.options}
    parameters = [
        _argument(o)
        if o.argument
        else _parameter(o.name, o.help, multiple=o.multiple, required=o.required, metavar=o.metavar)
        for o in stage.options
    ]
    parameters += [_spec_parameter(spec) for name, spec in specs.items() if name not in own]
    taken = own | set(specs)
    parameters += [_parameter(name, text_, metavar=kind) for name, text_, kind in COMMON if name not in taken]
    parameters += [_parameter("set", "value of params.yaml, repeatable", multiple=True, metavar="key=value")]
    parameters += [_flag("dry_run", "print every value with its source, and what is read and written")]
    parameters += [_flag("json", "one line of JSON on stdout")]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(stage.name, help=text)(call)
    return typer.main.get_command(app)


def method_group() -> Any:
    """`train-method`: one subcommand a method file, listed without importing them."""
    from noisyctl import methods

    modules = methods.modules()

    class Methods(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(modules)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            name = methods.present_name(cmd_name)
            if name not in modules:
                if cmd_name.startswith("-"):
                    return None
                raise ParamsError(f"unknown method {cmd_name!r}; {suggest(cmd_name, sorted(modules))}")
            from stages.train_method import stage

            if name != cmd_name:
                _tell_renamed(cmd_name)
            return command(stage(name, modules[name], params.module_spec(modules[name]).summary))

    app = typer.Typer(
        cls=Methods, help="Train one method on noisy labels.", rich_markup_mode=None, add_completion=False
    )
    app.callback()(lambda: None)
    return typer.main.get_command(app)


def _specs(stage: Stage) -> dict[str, params.FieldSpec]:
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


def _metavar(annotation: str) -> str:
    """`int`, `a|b|c`: what an option's text must be."""
    kind = annotation.removesuffix(" | None")
    if kind.startswith("Literal["):
        return "|".join(map(str, ast.literal_eval(f"[{kind[8:-1]}]")))
    return "text" if kind == "str" else kind


def _parameter(
    name: str, text: str, multiple: bool = False, required: bool = False, metavar: str | None = None
) -> inspect.Parameter:
    kind: Any = list[str] if multiple else str
    default = typer.Option(
        ... if required else None, f"--{name.replace('_', '-')}", help=text, metavar=metavar
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _argument(option: Option) -> inspect.Parameter:
    given = typer.Argument(... if option.required else None, help=option.help, metavar=option.name.upper())
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=str)


def _spec_parameter(spec: params.FieldSpec) -> inspect.Parameter:
    default_text = "required" if spec.required else "none" if spec.default is None else spec.default
    text = f"{spec.meaning} [{default_text}] ({spec.source})"
    if spec.annotation == "bool":
        default = typer.Option(None, f"{spec.option}/{spec.off}", help=text)
        return inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=bool)
    return _parameter(spec.name, text, metavar=_metavar(spec.annotation))


def _flag(name: str, text: str) -> inspect.Parameter:
    default = typer.Option(False, f"--{name.replace('_', '-')}", help=text)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=bool)


def execute(stage: Stage, given: dict[str, Any]) -> None:
    """Resolve everything, then show it (`--dry-run`) or do it. Commands in messages are made exact."""
    try:
        _execute(stage, given)
    except NoisyctlError as error:
        error.args = (complete(str(error), _chosen(stage, given)),)
        raise


def _chosen(stage: Stage, given: dict[str, Any]) -> Chosen:
    """What the user chose, as far as it can be told from a call that failed."""
    try:
        file = config.read_params_file(Path(given["params_file"] or "params.yaml"))
        layout, _ = _settings(file, given, config.parse_set(given["set"] or []))
        usual, _ = _settings(file, {"json": False}, {})
    except NoisyctlError:
        return Chosen({})
    names = ("dataset", "noise", "pretrain", "seed")
    choices = {
        name: str(getattr(layout, name)) for name in names if getattr(layout, name) != getattr(usual, name)
    }
    if given["params_file"]:
        choices["params_file"] = given["params_file"]
    places = {
        o.name: Path(given[o.name])
        for o in stage.options
        if not o.multiple and not o.output and given.get(o.name)
    }
    kind = None if _is_data_set(layout.dataset, file) else _kind_of(layout.home)
    return Chosen(choices, places, layout.noise, layout.pretrain, kind, layout.home)


def _is_data_set(name: str, file: config.ParamsFile) -> bool:
    from noisyctl import datasets

    return name in datasets.available() or file.get(f"datasets.{name}") is not None


def _kind_of(home: Path) -> str:
    """The kind of data set that lies in a folder; `folder` where it cannot be told."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(
            json.loads((home / "images.zarr/zarr.json").read_text())["attributes"]["params"]["dataset"]
        )
    return "folder"


def _execute(stage: Stage, given: dict[str, Any]) -> None:
    place = given["params_file"]
    if place and not Path(place).is_file():
        wrong = "is a folder" if Path(place).is_dir() else "does not exist"
        raise ParamsError(f"{place} {wrong}; give a file to --params-file, or leave it out")
    file = config.read_params_file(Path(place or "params.yaml"))
    sets = config.parse_set(given["set"] or [])
    file, sets = _by_present_names(file, sets)
    _check_names(file, sets)
    layout, session = _settings(file, given, sets)
    paths = {o.name: _path(o, given.get(o.name), layout) for o in stage.options}
    block, module, extra = _target(stage, file, given, layout, paths)
    resolved: Any = None
    sources: dict[str, str] = {}
    if module:
        model = importlib.import_module(module).Params
        resolved, sources = _resolve(stage, model, file, block, given, sets)
    extra |= {"params": resolved, "file": file}
    inputs = stage.inputs(paths, layout, extra)
    _check_outputs(stage, inputs, resolved, file)
    if given["dry_run"]:
        _show(stage, inputs, resolved, sources, given["json"])
        if stage.show:
            stage.show(inputs, session)
        return
    result = stage.run(inputs, resolved, session)
    if given["json"]:
        print(json.dumps(result, sort_keys=True))
    else:
        print(
            "  ".join(f"{key} {value}" for key, value in result.items())
            if len(result) < 9
            else "\n".join(f"{k}: {v}" for k, v in result.items()),
            file=sys.stderr,
        )
    if isinstance(result, dict) and result.get("ok") is False:  # a check that found something
        raise SystemExit(1)


def _check_outputs(stage: Stage, inputs: Any, resolved: Any, file: config.ParamsFile) -> None:
    """Refuse what would harm something that is not noisyctl's, before any work is done."""
    from noisyctl.artifacts import files

    outputs = {option.name: option for option in stage.options if option.writes is not None}
    if not outputs:
        return
    held = {name: value for name, value in vars(inputs).items() if name not in outputs}
    read = [p for value in held.values() for p in (value if isinstance(value, tuple) else (value,))]
    read = [p for p in read if isinstance(p, Path)] + params.paths_of(resolved)
    read += [Path(file.path)] if Path(file.path).is_file() else []
    for name, option in outputs.items():
        place = getattr(inputs, name)
        if place is not None and option.writes is not None:
            flag = f"--{name.replace('_', '-')}"
            files.require_place(place, flag)
            files.check([option.writes(place)], read, holds_artifacts, flag)


@functools.cache
def _tell_renamed(old: str) -> None:
    """Once a process, on stderr."""
    from noisyctl import methods

    print(
        f"note: {old} is called {methods.present_name(old)} now; the old name goes with the next version",
        file=sys.stderr,
    )


def _by_present_names(
    file: config.ParamsFile, sets: dict[str, Any]
) -> tuple[config.ParamsFile, dict[str, Any]]:
    """params.yaml and `--set` with every method by the name it has now."""
    from noisyctl import methods

    for old, new in methods.RENAMED.items():
        moved = file.renamed("methods", old, new)
        prefix = f"methods.{old}."
        named = {
            f"methods.{new}.{k[len(prefix) :]}" if k.startswith(prefix) else k: v for k, v in sets.items()
        }
        if moved is not file or named != sets:
            _tell_renamed(old)
        file, sets = moved, named
    return file, sets


def _check_names(file: config.ParamsFile, sets: dict[str, Any]) -> None:
    """Blocks of params.yaml and of `--set` must be known ones: nothing that a user wrote is passed over."""
    from noisyctl import methods

    named = {key: file.where(key) for key in file.values} | {key.split(".")[0]: "--set" for key in sets}
    problems = [
        f"{place}: {key} is not a parameter; {suggest(key, TOP_LEVEL)}"
        for key, place in named.items()
        if key not in TOP_LEVEL
    ]
    for key in BLOCKS:
        file.block(key)
    used = {name: file.where(f"methods.{name}") for name in file.block("methods").values}
    used |= {key.split(".")[1]: "--set" for key in sets if key.startswith("methods.") and key.count(".") > 1}
    known = methods.modules() if used else {}
    problems += [
        f"{place}: methods.{name}: unknown method {name!r}; {suggest(name, sorted(known))}"
        for name, place in used.items()
        if name not in known
    ]
    if problems:
        raise ParamsError("\n".join(problems))


def _settings(file: config.ParamsFile, given: dict[str, Any], sets: dict[str, Any]) -> tuple[Layout, Session]:
    values: dict[str, Any] = (
        DEFAULTS | {k: v for k, v in file.values.items() if k in DEFAULTS or k == "noise"} | sets
    )
    values |= {k: config.read_scalar(given[k]) for k in (*DEFAULTS, "noise") if isinstance(given.get(k), str)}
    for key in ("seed", "threads"):
        if not isinstance(values[key], int) or values[key] < 0:
            raise ParamsError(f"{key} is {values[key]!r}; give a whole number from 0 on")
    noises = list(file.get("noises") or {})
    noise = values.get("noise") or (
        noises[0] if len(noises) == 1 and values["dataset"] == file.values.get("dataset") else "given"
    )
    layout = Layout(str(values["dataset"]), str(values["pretrain"]), str(noise), values["seed"])
    return layout, Session(
        device=str(values["device"]),
        precision=str(values["precision"]),
        threads=values["threads"],
        seed=values["seed"],
        quiet=bool(given["json"]),
    )


def _path(option: Option, value: Any, layout: Layout) -> Any:
    if option.multiple:
        return [Path(v) for v in value or []]
    if value is None:
        return option.default(layout) if option.default else None
    return Path(value) if option.metavar == "path" else value


def _target(
    stage: Stage, file: config.ParamsFile, given: dict[str, Any], layout: Layout, paths: dict[str, Any]
) -> tuple[str, str, dict[str, Any]]:
    """The block of params.yaml and the module of the Params. Data sets and noises are chosen by their `kind`."""
    if stage.name == "prepare-data":
        block = f"datasets.{layout.dataset}"
        kind = (file.get(block) or {}).get("kind", layout.dataset)
        return block, f"noisyctl.datasets.{_known('datasets', kind)}", {"kind": kind}
    if stage.name == "inject-noise":
        if given["kind"]:
            return "", f"noisyctl.noise.{_known('noise', given['kind'])}", {"kind": given["kind"]}
        if layout.noise == "given":
            raise ParamsError(
                "which noise? give --kind symmetric --rate 0.4 --exclude-true-class, or --noise with a block of `noises:`"
            )
        block = block_of(file, "noises", layout.noise)
        kind = file.get(block).get("kind")
        if kind is None:
            raise ParamsError(f"{file.where(block)}: {block}.kind is missing; write kind: symmetric")
        return block, f"noisyctl.noise.{_known('noise', kind)}", {"kind": kind}
    if stage.params is None:
        return "", "", {}
    block, module = stage.params(file, layout, paths)
    return block, module, {}


def _known(group: str, kind: str) -> str:
    package = importlib.import_module(f"noisyctl.{group}")
    package.load(kind)
    return kind


def _resolve(
    stage: Stage, model: Any, file: config.ParamsFile, block: str, given: dict[str, Any], sets: dict[str, Any]
) -> tuple[Any, dict[str, str]]:
    layer = file.block(block) if block else config.Layer({}, "params")
    if stage.name in ("prepare-data", "inject-noise"):
        layer = config.Layer({k: v for k, v in layer.values.items() if k != "kind"}, layer.place, layer.lines)
    own = {o.name for o in stage.options}
    options = {k: v for k, v in given.items() if k in _specs(stage) and k not in own and v is not None}
    prefix = f"{block}."
    overrides = {k[len(prefix) :]: v for k, v in sets.items() if block and k.startswith(prefix)}
    preset = config.Layer(stage.presets.get(block, {}), f"what {block} is without a block in params.yaml")
    layers = [preset, layer, config.Layer(overrides, "--set")]
    layers += [
        config.Layer({k: config.read_scalar(v) if isinstance(v, str) else v}, f"--{k.replace('_', '-')}")
        for k, v in options.items()
    ]
    return config.resolve(model, layers, block)


def _show(stage: Stage, inputs: Any, resolved: Any, sources: dict[str, str], as_json: bool) -> None:
    values = resolved.model_dump() if resolved is not None else {}
    paths = _paths(inputs)
    if as_json:
        print(
            json.dumps(
                {
                    "params": {k: {"value": v, "source": sources[k]} for k, v in values.items()},
                    "paths": paths,
                },
                sort_keys=True,
            )
        )
        return
    for name, value in values.items():
        print(f"{name} = {value}   ({sources[name]})", file=sys.stderr)
    outputs = {o.name for o in stage.options if o.output}
    for name, found in paths.items():
        for path in found:
            print(f"{'writes' if name in outputs else 'reads '} {name}: {path}", file=sys.stderr)


def _paths(inputs: Any) -> dict[str, list[str]]:
    """What a stage reads and writes, by the name of the option."""
    held = vars(inputs) if inputs is not None else {}
    lists = {name: value if isinstance(value, tuple) else (value,) for name, value in held.items()}
    found = {name: [str(path) for path in paths if isinstance(path, Path)] for name, paths in lists.items()}
    return {name: paths for name, paths in found.items() if paths}
