"""The commands as Python functions: `from noisyctl import mine_knn`, then `mine_knn(k=20)`.

A function has its command's options as keyword arguments, `-` written as `_`, and what a person types behind a command as
its positional arguments: `train_method("elr", epochs=50)`, `clean("photos")`. It reads the same params.yaml, writes the same
artifacts and returns what `--json` prints. Errors are raised as noisyctl.errors.NoisyctlError with the same message.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from noisyctl.cli.commands import COMMANDS, stage_named
from noisyctl.cli.execute import perform
from noisyctl.cli.options import click_command
from noisyctl.cli.stage import Stage
from noisyctl.errors import suggest

FUNCTIONS = tuple(
    name.replace("-", "_") for name in COMMANDS if name not in ("methods", "sweep", "doctor", "init")
)
"""The commands that are functions. `noisyctl.methods` and `noisyctl.sweep` are packages of the library."""


def function(name: str) -> Callable[..., dict[str, Any]]:
    """The command `name`, such as `mine_knn`, as a function. Raises AttributeError for none."""
    if name not in FUNCTIONS:
        raise AttributeError(f"noisyctl has no {name!r}")
    command = name.replace("_", "-")

    def call(*words: str | Path, quiet: bool = True, **options: Any) -> dict[str, Any]:
        stage, rest = _stage(command, [str(word) for word in words])
        return perform(stage, _given(stage, name, rest, options) | {"json": quiet})

    call.__name__ = call.__qualname__ = name
    call.__doc__ = (
        f"{COMMANDS[command][1]}\n\nAs `noisyctl {command}`, see `noisyctl {command} --help`; options are keyword arguments."
        "\n`quiet` leaves out the progress on stderr. Returns what `--json` prints. Raises NoisyctlError."
    )
    return call


def _stage(command: str, words: list[str]) -> tuple[Stage, list[str]]:
    """The declaration of the command, and the words that are left when a subcommand has been named."""
    if command != "train-method":
        return stage_named((command,)), words
    if not words:
        raise TypeError("train_method needs the name of a method first: train_method('elr')")
    return stage_named((command, words[0])), words[1:]


def _given(stage: Stage, name: str, words: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """What the command line would have understood. Raises TypeError for an argument that the command does not have."""
    command = click_command(stage)
    known = {parameter.name: parameter for parameter in command.params}
    line = list(words)
    for key, value in options.items():
        if key not in known or key in ("json", "dry_run"):
            raise TypeError(f"{name} has no argument {key!r}; {suggest(key, [k for k in known if k])}")
        if value is not None:
            line += _as_words(known[key], value)
    try:
        return dict(command.make_context(stage.name, line).params)
    except typer.BadParameter as error:
        raise TypeError(f"{name}: {error.format_message()}") from error


def _as_words(parameter: Any, value: Any) -> list[str]:
    """An argument as it would be typed."""
    if isinstance(value, bool) and getattr(parameter, "is_flag", False):
        if value:
            return [parameter.opts[0]]
        return [parameter.secondary_opts[0]] if parameter.secondary_opts else []
    values = value if parameter.multiple and isinstance(value, list | tuple) else [value]
    texts = [v if isinstance(v, str) else str(v) if isinstance(v, Path) else json.dumps(v) for v in values]
    if parameter.param_type_name == "argument":
        return texts
    return [word for text in texts for word in (parameter.opts[0], text)]
