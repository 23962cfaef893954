"""Execute a command, or show what it would do (`--dry-run`); and tell the result, or what went wrong with the exact cure."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from noisyctl import config, params
from noisyctl.cli import progress, tracking
from noisyctl.cli.cures import Chosen, complete
from noisyctl.cli.resolve import Call, resolve, settings
from noisyctl.cli.stage import Stage, holds_artifacts
from noisyctl.errors import NoisyctlError
from noisyctl.session import Session


def execute(stage: Stage, given: dict[str, Any]) -> None:
    """Resolve everything, then show it (`--dry-run`) or do it and tell the result."""
    if given["dry_run"]:
        with _exact_cures(stage, given):
            call = _resolved(stage, given)
            _show(stage, call.inputs, call.params, call.sources, given["json"])
            if stage.show:
                stage.show(call.inputs, call.session)
        return
    result = perform(stage, given)
    if given["json"]:
        print(json.dumps(result, sort_keys=True))
    elif stage.text is not None:
        print(stage.text(result), file=sys.stdout if stage.answers else sys.stderr)
    else:
        print(_in_words(result, stage.answers), file=sys.stdout if stage.answers else sys.stderr)
    if isinstance(result, dict) and result.get("ok") is False:  # a check that found something
        raise SystemExit(1)
    if isinstance(result, dict) and result.get(
        "exit_code"
    ):  # the work is done, and its result is one to stop at
        raise SystemExit(result["exit_code"])


def perform(stage: Stage, given: dict[str, Any]) -> Any:
    """Do what a command does with the options `given`, and return its result: for every caller, a person or a program.

    Raises NoisyctlError, in whose message commands are made exact.
    """
    from noisyctl.cli import made

    with _exact_cures(stage, given):
        call = _resolved(stage, given)
        result = stage.run(call.inputs, call.params, _tracked(call))
        progress.close()
        made.note(call, given)
    return result


def _tracked(call: Call) -> Session:
    """The session, which also logs the epochs of trainings where that was asked for."""
    session = call.session
    if not session.track:
        return session
    tracking.require(session.track)
    out = getattr(call.inputs, "out", None)
    about = str(out) if isinstance(out, Path) else call.stage.name
    params = {} if call.params is None else call.params.model_dump()
    shows = tracking.Tracked(session.shows, session.track, about, params | {"seed": session.seed})
    return replace(session, shows=shows)


@contextlib.contextmanager
def _exact_cures(stage: Stage, given: dict[str, Any]) -> Iterator[None]:
    """Inside, commands in the messages of errors are made those for the user's own data set, noise and paths."""
    try:
        yield
    except NoisyctlError as error:
        error.args = (complete(str(error), _chosen(stage, given)),)
        raise


def _resolved(stage: Stage, given: dict[str, Any]) -> Call:
    call = resolve(stage, given)
    _check_outputs(stage, call.inputs, call.params, call.file)
    return call


def _chosen(stage: Stage, given: dict[str, Any]) -> Chosen:
    """What the user chose, as far as it can be told from a call that failed."""
    try:
        file = config.read_params_file(Path(given["params_file"] or "params.yaml"))
        layout, _ = settings(file, given, config.parse_set(given["set"] or []))
        usual, _ = settings(file, {"json": False}, {})
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
            print(f"would {'write' if name in outputs else 'read '} {name}: {path}", file=sys.stderr)


def _paths(inputs: Any) -> dict[str, list[str]]:
    """What a stage reads and writes, by the name of the option."""
    held = vars(inputs) if inputs is not None else {}
    lists = {name: value if isinstance(value, tuple) else (value,) for name, value in held.items()}
    found = {name: [str(path) for path in paths if isinstance(path, Path)] for name, paths in lists.items()}
    return {name: paths for name, paths in found.items() if paths}
