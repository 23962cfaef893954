"""From a Stage's declaration to a Typer command: one signature, the same options everywhere."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from noisyctl import config, params
from noisyctl.cli import progress
from noisyctl.cli.cures import Chosen, complete
from noisyctl.cli.progress import Terminal
from noisyctl.cli.stage import Option, Stage, holds_artifacts, modules_in
from noisyctl.cli.types import OneOf, ValueType, WholeNumber
from noisyctl.errors import NoisyctlError, ParamsError, suggest
from noisyctl.layout import Layout
from noisyctl.session import Session

COMMON: tuple[tuple[str, str, Any], ...] = (  # name, help, type
    ("dataset", "data set, or a block of `datasets:` in params.yaml", str),
    ("noise", "block of `noises:` in params.yaml, or `given` for labels as they are", str),
    ("pretrain", "the encoder whose features, neighbors and clusters are meant", str),
    ("input", "what networks see: images, or the features of --pretrain", OneOf(("images", "features"))),
    ("seed", "seed of every random draw", WholeNumber()),
    ("device", "where to compute", OneOf(("auto", "cpu", "cuda"))),
    (
        "precision",
        "of training; auto: bfloat16 where GPU or processor has its units",
        OneOf(("auto", "float32", "bfloat16")),
    ),
    ("threads", "threads of the CPU; 0 leaves torch's choice", WholeNumber()),
    ("params_file", "file with the parameters [params.yaml]", Path),
)
DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "pretrain": "simclr",
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "threads": 0,
}
BLOCKS = ("datasets", "noises", "warmups", "methods", "simclr", "moco", "scan", "knn", "embed")
GROUPS = ("datasets", "noises", "warmups", "methods")  # blocks of blocks
ONE_MODULE = {
    "warmups": "noisyctl.training.warmup",
    "simclr": "noisyctl.pretraining.simclr",
    "moco": "noisyctl.pretraining.moco",
    "scan": "noisyctl.pretraining.scan",
    "knn": "noisyctl.runs.mine_knn",
    "embed": "noisyctl.runs.embedding",
}
NUMBERS = ("seed", "threads")
TOP_LEVEL = (*DEFAULTS, "noise", "input", *BLOCKS)


def command(stage: Stage) -> Any:
    """The Typer command of a stage."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    text = f"{stage.summary}\n\n\b\nExample:\n  {stage.example}"
    specs = specs_of(stage)

    def call(**given: Any) -> None:
        execute(stage, given)

    own = {option.name for option in stage.options}
    parameters = [
        _argument(o)
        if o.argument
        else _flag(o.name, o.help)
        if o.flag
        else _parameter(
            o.name, o.help, multiple=o.multiple, required=o.required, metavar=o.shown, kind=o.kind
        )
        for o in stage.options
    ]
    parameters += [_spec_parameter(spec) for name, spec in specs.items() if name not in own]
    taken = own | set(specs)
    parameters += [
        _parameter(name, about, metavar={Path: "path", str: "name"}.get(kind), kind=kind)
        for name, about, kind in COMMON
        if name not in taken
    ]
    parameters += [_parameter("set", "value of params.yaml, repeatable", multiple=True, metavar="key=value")]
    parameters += [_flag("dry_run", "print every value with its source, and what is read and written")]
    parameters += [_flag("json", "one line of JSON on stdout")]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(stage.name, help=text, short_help=stage.summary, context_settings=page())(call)
    return typer.main.get_command(app)


def group(name: str, summary: str, names: Sequence[str], found: Callable[[str], Stage]) -> Any:
    """A command with subcommands: `names` are listed, and the declaration of one is `found` when it is called."""

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(names)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name.startswith("-"):
                return None
            return command(found(cmd_name))

    app = typer.Typer(
        name=name,
        cls=Group,
        help=summary,
        rich_markup_mode=None,
        add_completion=False,
        context_settings=page(),
    )
    app.callback()(lambda: None)
    return typer.main.get_command(app)


def page() -> dict[str, Any]:
    """Help is as wide as the terminal."""
    return {"max_content_width": shutil.get_terminal_size().columns}


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


def _metavar(annotation: str) -> str:
    """`int`, `a|b|c`: what an option's text must be."""
    kind = annotation.removesuffix(" | None")
    if kind.startswith("Literal["):
        return "|".join(map(str, ast.literal_eval(f"[{kind[8:-1]}]")))
    return "text" if kind == "str" else kind


def _parameter(
    name: str,
    text: str,
    multiple: bool = False,
    required: bool = False,
    metavar: str | None = None,
    kind: Any = str,
) -> inspect.Parameter:
    """`kind` is Path or str, both of which are given as text, or a ValueType."""
    flag = f"--{name.rstrip('_').replace('_', '-')}"
    typed: dict[str, Any] = {"metavar": metavar}
    if isinstance(kind, ValueType):
        typed = {"metavar": kind.shown, "parser": functools.partial(kind.read, flag=flag)}
    default = typer.Option(... if required else None, flag, help=text, **typed)
    annotation: Any = list[str] if multiple else str
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _argument(option: Option) -> inspect.Parameter:
    given = typer.Argument(... if option.required else None, help=option.help, metavar=option.name.upper())
    kind: Any = list[str] if option.multiple else str
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=kind)


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
    names = ("dataset", "noise", "pretrain", "input", "seed")
    choices = {
        name: str(getattr(layout, name)) for name in names if getattr(layout, name) != getattr(usual, name)
    }
    if given["params_file"]:
        choices["params_file"] = given["params_file"]
    places = {
        o.name: Path(given[o.name])
        for o in stage.options
        if o.kind is Path and not (o.multiple or o.output or o.flag) and given.get(o.name)
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


@dataclasses.dataclass(frozen=True)
class Call:
    """A command with everything resolved: what is read and written, the params with the source of each, and who computes."""

    stage: Stage
    inputs: Any
    params: Any
    sources: dict[str, str]
    session: Session
    file: config.ParamsFile
    module: str | None


def _execute(stage: Stage, given: dict[str, Any]) -> None:
    call = resolve(stage, given)
    _check_outputs(stage, call.inputs, call.params, call.file)
    if given["dry_run"]:
        _show(stage, call.inputs, call.params, call.sources, given["json"])
        if stage.show:
            stage.show(call.inputs, call.session)
        return
    from noisyctl.cli import made

    result = stage.run(call.inputs, call.params, call.session)
    progress.close()
    made.note(call, given)
    if given["json"]:
        print(json.dumps(result, sort_keys=True))
    elif stage.text is not None:
        print(stage.text(result), file=sys.stdout if stage.answers else sys.stderr)
    else:
        print(_in_words(result, stage.answers), file=sys.stdout if stage.answers else sys.stderr)
    if isinstance(result, dict) and result.get("ok") is False:  # a check that found something
        raise SystemExit(1)


def _in_words(result: Mapping[str, Any], answers: bool) -> str:
    """A result for people, numbers to four digits: a line for each fact where it `answers` a question or is long.

    On a terminal a line that is too long goes on below, indented, and no word is cut.
    """
    told = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in result.items()}
    if not answers and len(told) < 9:
        return "  ".join(f"{key} {value}" for key, value in told.items())
    lines = [f"{key}: {value}" for key, value in told.items()]
    if answers and sys.stdout.isatty():
        wrapper = textwrap.TextWrapper(shutil.get_terminal_size().columns, subsequent_indent="    ")
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        lines = [wrapper.fill(line) for line in lines]
    return "\n".join(lines)


def resolve(stage: Stage, given: dict[str, Any]) -> Call:
    """What a command would do with the options `given` and the present params.yaml; nothing is written.

    Raises NoisyctlError.
    """
    place = given["params_file"]
    if place and not Path(place).is_file():
        wrong = "is a folder" if Path(place).is_dir() else "does not exist"
        raise ParamsError(f"{place} {wrong}; give a file to --params-file, or leave it out")
    file = config.read_params_file(Path(place or "params.yaml"))
    sets = config.parse_set(given["set"] or [])
    file, sets = _by_present_names(file, sets)
    _check_names(file, sets)
    layout, session = _settings(file, given, sets)
    _check_dataset(file, layout)
    paths = {o.name: _path(o, given.get(o.name), layout) for o in stage.options}
    block, module = stage.params(file, layout, paths) if stage.params else ("", "")
    resolved: Any = None
    sources: dict[str, str] = {}
    if module:
        model = importlib.import_module(module).Params
        resolved, sources = _resolve(stage, model, file, block, layout, given, sets)
    _check_parameters(file, sets, block)
    extra = {"params": resolved, "file": file, "kind": module.rpartition(".")[2]}
    return Call(stage, stage.inputs(paths, layout, extra), resolved, sources, session, file, module)


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
def tell_renamed(old: str) -> None:
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
            tell_renamed(old)
        file, sets = moved, named
    return file, sets


def _check_names(file: config.ParamsFile, sets: dict[str, Any]) -> None:
    """Blocks of params.yaml and of `--set` must be known ones: nothing that a user wrote is passed over."""
    named = {key: file.where(key) for key in file.values} | {key.split(".")[0]: "--set" for key in sets}
    problems = [
        f"{place}: {key} is not a parameter; {suggest(key, TOP_LEVEL)}"
        for key, place in named.items()
        if key not in TOP_LEVEL
    ]
    for key in BLOCKS:
        for name, value in file.block(key).values.items():
            if key in GROUPS and value is not None:
                file.block(f"{key}.{name}")
    if problems:
        raise ParamsError("\n".join(problems))


def _check_parameters(file: config.ParamsFile, sets: dict[str, Any], but: str) -> None:
    """The names in every block but the one that has been resolved, and in `--set`, must be known ones too."""
    written = _written(file) | dict.fromkeys(sets, "--set")
    own = f"{but}."
    problems = [
        f"{place}: {said}"
        for key, place in written.items()
        if not (but and key.startswith(own)) and (said := _unknown(key, file))
    ]
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))


def _written(file: config.ParamsFile) -> dict[str, str]:
    """Every parameter and every method that params.yaml names, and its place."""
    found: dict[str, str] = {}
    for group in BLOCKS:
        if group not in GROUPS:
            found |= {f"{group}.{name}": file.where(f"{group}.{name}") for name in file.block(group).values}
            continue
        for name in file.block(group).values:
            block = f"{group}.{name}"
            values = file.block(block).values
            found |= {f"{block}.{key}": file.where(f"{block}.{key}") for key in values}
            if group == "methods" and not values:
                found[f"{block}."] = file.where(block)
    return found


def _unknown(key: str, file: config.ParamsFile) -> str:
    """What is wrong with the name `block.parameter`, wherever it was written; "" where it is one."""
    group, _, rest = key.partition(".")
    if group in TOP_LEVEL and group not in BLOCKS:
        return f"{group} is a value, not a block; write {group}" if rest else ""
    if group not in BLOCKS:
        return ""  # told before
    name, _, parameter = ("", "", rest) if group not in GROUPS else rest.rpartition(".")
    if not parameter and not (group == "methods" and name):
        inside = f"{group}.NAME.PARAMETER" if group in GROUPS else f"{group}.PARAMETER"
        return f"{key.rstrip('.')} is a block; name one of its values: {inside}"
    if group in GROUPS and not name:
        return f"{key} is a block; name one of its values: {key}.PARAMETER"
    block = f"{group}.{name}" if name else group
    module = _module_of(group, name, file)
    if isinstance(module, str):
        return f"{block}: {module}"
    known = [spec.name for one in module for spec in params.module_spec(one).fields]
    if not parameter or not module or parameter in known:
        return ""
    if group in ("datasets", "noises") and parameter == "kind":
        return ""
    return f"{block}.{parameter} is not a parameter; {suggest(parameter, known)}"


def _module_of(group: str, name: str, file: config.ParamsFile) -> list[str] | str:
    """The module whose Params a block gives; none where its own command tells what is wrong; or why there is none."""
    from noisyctl import methods

    if group in ONE_MODULE:
        return [ONE_MODULE[group]]
    if group == "methods":
        known = methods.modules()
        return [known[name]] if name in known else f"unknown method {name!r}; {suggest(name, sorted(known))}"
    block = file.block(f"{group}.{name}").values
    if group == "datasets":
        return _existing("noisyctl.datasets", block.get("kind", name))
    if name not in file.block(group).values:
        return f"no such block in {file.path}; {suggest(name, file.block(group).values)}"
    return _existing("noisyctl.noise", block.get("kind"))


def _existing(package: str, kind: Any) -> list[str]:
    module = f"{package}.{kind}"
    return [module] if module in modules_in(package) else []


def _check_dataset(file: config.ParamsFile, layout: Layout) -> None:
    """A data set is one that noisyctl knows, a block of params.yaml, or a folder of data/. Raises ParamsError."""
    kinds = [module.rpartition(".")[2] for module in modules_in("noisyctl.datasets")]
    blocks = list(file.block("datasets").values)
    if layout.dataset in (*kinds, *blocks):
        return
    made = sorted(p.name for p in layout.root.iterdir() if p.is_dir()) if layout.root.is_dir() else []
    if layout.dataset not in made:
        raise ParamsError(
            f"no data set {layout.dataset!r}; {suggest(layout.dataset, [*kinds, *blocks, *made])} (images of your own: "
            f"noisyctl prepare-data --dataset folder --root FOLDER --out {layout.home})"
        )


def _settings(file: config.ParamsFile, given: dict[str, Any], sets: dict[str, Any]) -> tuple[Layout, Session]:
    values: dict[str, Any] = (
        DEFAULTS | {k: v for k, v in file.values.items() if k in (*DEFAULTS, "noise", "input")} | sets
    )
    place = {k: f"{file.where(k)}: {k}" for k in file.values} | {k: f"--set: {k}" for k in sets}
    for key in (*DEFAULTS, "noise", "input"):
        if given.get(key) is not None:
            values[key], place[key] = given[key], f"--{key}"
    for key in NUMBERS:
        if isinstance(values[key], bool) or not isinstance(values[key], int) or values[key] < 0:
            raise ParamsError(f"{place[key]} is {values[key]!r}; give a whole number from 0 on")
    for key in ("dataset", "pretrain", "noise", "input", "device", "precision"):
        if key in DEFAULTS or values.get(key) is not None:
            values[key] = _name(values[key], place.get(key, key))
    noises = list(file.block("noises").values)
    noise = values.get("noise") or (
        noises[0] if len(noises) == 1 and values["dataset"] == file.values.get("dataset") else "given"
    )
    layout = Layout(values["dataset"], values["pretrain"], noise, values["seed"])
    layout = _with_input(layout, values.get("input"), place.get("input", ""), given.get("features"))
    return layout, Session(
        device=values["device"],
        precision=values["precision"],
        threads=values["threads"],
        seed=values["seed"],
        quiet=bool(given["json"]),
        shows=Terminal(quiet=bool(given["json"])),
    )


def _with_input(layout: Layout, chosen: str | None, place: str, features: str | None) -> Layout:
    """The layout for what networks see: what was `chosen`, or features where these were named or there are no images."""
    if chosen not in (None, "images", "features"):
        raise ParamsError(f"{place} is {chosen!r}; write images or features")
    if features and chosen == "images" and place.startswith("--"):
        raise ParamsError("--features names vectors, and --input says images; leave out one of them")
    beside = Path(features).parent if features else None
    usual = "features" if features or not layout.has_images else "images"
    return dataclasses.replace(layout, input=chosen or usual, beside=beside)


def _name(value: Any, place: str) -> str:
    """A name, which is also that of a folder."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ParamsError(f"{place} is {value!r}; give one name, in quotes if it looks like something else")
    text = str(value)
    if text in ("", ".", "..") or "/" in text or not text.isprintable():
        raise ParamsError(f"{place} is {text!r}; give a name that can be that of a folder")
    return text


def _path(option: Option, value: Any, layout: Layout) -> Any:
    if option.flag:
        return bool(value)
    if option.multiple:
        return [Path(v) for v in value or []]
    if value is None:
        return option.default(layout) if option.default else None
    return Path(value) if option.kind is Path else value


def _resolve(
    stage: Stage,
    model: Any,
    file: config.ParamsFile,
    block: str,
    layout: Layout,
    given: dict[str, Any],
    sets: dict[str, Any],
) -> tuple[Any, dict[str, str]]:
    layer = file.block(block) if block else config.Layer({}, "params")
    if stage.by_kind:
        layer = config.Layer({k: v for k, v in layer.values.items() if k != "kind"}, layer.place, layer.lines)
    own = {o.name for o in stage.options}
    options = {k: v for k, v in given.items() if k in specs_of(stage) and k not in own and v is not None}
    prefix = f"{block}."
    overrides = {k[len(prefix) :]: v for k, v in sets.items() if block and k.startswith(prefix)}
    presets = stage.presets(layout).get(block, {}) if stage.presets else {}
    preset = config.Layer(presets, f"what {block} is without a block in params.yaml")
    layers = [preset, layer, config.Layer(overrides, "--set")]
    layers += [
        config.Layer({k: _read_option(model, k, v)}, f"--{k.replace('_', '-')}") for k, v in options.items()
    ]
    return config.resolve(model, layers, block)


def _read_option(model: Any, name: str, value: Any) -> Any:
    """An option's text as its field reads it. What the model does not have is refused later, with its name."""
    field = model.model_fields.get(name)
    return config.read_option(value, field.annotation) if field and isinstance(value, str) else value


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
