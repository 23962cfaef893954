"""From a Stage's declaration to a Click command: one signature, the same options everywhere."""

from __future__ import annotations

import ast
import functools
import inspect
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from noisyctl import params
from noisyctl.cli.common import COMMON
from noisyctl.cli.execute import execute
from noisyctl.cli.stage import Option, Stage, specs_of
from noisyctl.cli.types import ValueType


def click_command(stage: Stage) -> Any:
    """The Click command of a stage."""
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
            return click_command(found(cmd_name))

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
