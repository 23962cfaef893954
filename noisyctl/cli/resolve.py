"""From what a command was given to what it works on: layout, session, and the params with the source of each."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

from noisyctl import config
from noisyctl.cli import tracking
from noisyctl.cli.names import DEFAULTS, by_present_names, check_dataset, check_names, check_parameters
from noisyctl.cli.progress import Terminal
from noisyctl.cli.stage import Option, Stage, specs_of
from noisyctl.errors import ParamsError, suggest
from noisyctl.layout import Layout
from noisyctl.session import Session

NUMBERS = ("seed", "threads")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a command is asked for, before the module is imported that says which params there are.

    `layers` are where its params come from, the later ones before the earlier ones, and `options` those of the command line.
    """

    layout: Layout
    session: Session
    file: config.ParamsFile
    paths: dict[str, Any]
    block: str
    module: str | None
    layers: tuple[config.Layer, ...]
    options: dict[str, Any]
    sets: dict[str, Any]

    @property
    def values(self) -> list[Any]:
        """All that decides the params, beside the code, as JSON holds it: the params are the same where this is the same."""
        given = [self.module, [dict(layer.values) for layer in self.layers], self.options, self.session.seed]
        return list(json.loads(json.dumps(given, sort_keys=True, default=str)))


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
    asked: list[Any]


def resolve(stage: Stage, given: dict[str, Any]) -> Call:
    """What a command would do with the options `given` and the present params.yaml; nothing is written.

    Raises NoisyctlError.
    """
    found = asked(stage, given)
    resolved: Any = None
    sources: dict[str, str] = {}
    if found.module:
        model = importlib.import_module(found.module).Params
        read = [
            config.Layer({k: _read_option(model, k, v)}, f"--{k.replace('_', '-')}")
            for k, v in found.options.items()
        ]
        resolved, sources = config.resolve(model, [*found.layers, *read], found.block)
    check_parameters(found.file, found.sets, found.block)
    extra = {"params": resolved, "file": found.file, "kind": (found.module or "").rpartition(".")[2]}
    inputs = stage.inputs(found.paths, found.layout, extra)
    return Call(stage, inputs, resolved, sources, found.session, found.file, found.module, found.values)


def asked(stage: Stage, given: dict[str, Any]) -> Asked:
    """What the options `given` and the present params.yaml ask for. Raises NoisyctlError."""
    place = given["params_file"]
    if place and not Path(place).is_file():
        wrong = "is a folder" if Path(place).is_dir() else "does not exist"
        raise ParamsError(f"{place} {wrong}; give a file to --params-file, or leave it out")
    file = config.read_params_file(Path(place or "params.yaml"))
    sets = config.parse_set(given["set"] or [])
    file, sets = by_present_names(file, sets)
    check_names(file, sets)
    layout, session = settings(file, given, sets)
    check_dataset(file, layout)
    paths = {o.name: _path(o, given.get(o.name), layout) for o in stage.options}
    block, module = stage.params(file, layout, paths) if stage.params else ("", "")
    layers = _layers(stage, file, block, layout, sets) if module else ()
    own = {o.name for o in stage.options}
    options = {k: v for k, v in given.items() if k in specs_of(stage) and k not in own and v is not None}
    return Asked(layout, session, file, paths, block, module, layers, options if module else {}, sets)


def settings(file: config.ParamsFile, given: dict[str, Any], sets: dict[str, Any]) -> tuple[Layout, Session]:
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
    if isinstance(values["compile"], bool):  # YAML's on and off
        values["compile"] = "on" if values["compile"] else "off"
    if values["track"] not in ("", *tracking.PACKAGES):
        raise ParamsError(
            f"{place['track']} is {values['track']!r}; {suggest(str(values['track']), list(tracking.PACKAGES))}"
        )
    for key in ("dataset", "pretrain", "noise", "input", "device", "precision", "compile"):
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
        compile=values["compile"],
        threads=values["threads"],
        seed=values["seed"],
        quiet=bool(given["json"]),
        cluster=given.get("cluster") or "",
        track=values["track"],
        shows=Terminal(quiet=bool(given["json"])),
    )


def _with_input(layout: Layout, chosen: str | None, place: str, features: str | None) -> Layout:
    """The layout for what networks see: what was `chosen`, or features where these were named or there are no images."""
    if chosen not in (None, "images", "features"):
        raise ParamsError(f"{place} is {chosen!r}; write images or features")
    if features and chosen == "images" and place.startswith("--"):
        raise ParamsError("--features names vectors, and --input says images; leave out one of them")
    named = Path(features) if features else None
    usual = "features" if features or not layout.has_images else "images"
    return dataclasses.replace(layout, input=chosen or usual, named=named)


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
        return [Path(v) if option.kind is Path else v for v in value or []]
    if value is None:
        return option.default(layout) if option.default else None
    return Path(value) if option.kind is Path else value


def _layers(
    stage: Stage, file: config.ParamsFile, block: str, layout: Layout, sets: dict[str, Any]
) -> tuple[config.Layer, ...]:
    """Where the params of a command come from, but for its options: presets, the block of params.yaml, and --set."""
    layer = file.block(block) if block else config.Layer({}, "params")
    if stage.by_kind:
        layer = config.Layer({k: v for k, v in layer.values.items() if k != "kind"}, layer.place, layer.lines)
    prefix = f"{block}."
    overrides = {k[len(prefix) :]: v for k, v in sets.items() if block and k.startswith(prefix)}
    presets = stage.presets(layout).get(block, {}) if stage.presets else {}
    preset = config.Layer(presets, f"what {block} is without a block in params.yaml")
    return preset, layer, config.Layer(overrides, "--set")


def _read_option(model: Any, name: str, value: Any) -> Any:
    """An option's text as its field reads it. What the model does not have is refused later, with its name."""
    field = model.model_fields.get(name)
    return config.read_option(value, field.annotation) if field and isinstance(value, str) else value
