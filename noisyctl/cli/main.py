"""The command line: commands, each imported only when it is called, and how one ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from noisyctl.cli.commands import COMMANDS, stage_named

VERSIONS = ("noisyctl", "torch", "numpy", "zarr", "pydantic", "typer", "pillow", "faiss-cpu", "dvc")


class Commands(TyperGroup):
    """Imports a command's module when the command is asked for; the list needs none."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None
            from noisyctl import methods
            from noisyctl.errors import ParamsError, suggest

            if cmd_name.replace("-", "_") in methods.available():
                name = cmd_name.replace("-", "_")
                raise ParamsError(f"{cmd_name} is a method; train it with `noisyctl train-method {name}`")
            raise ParamsError(f"unknown command {cmd_name!r}; {suggest(cmd_name, COMMANDS)}")
        if ctx.resilient_parsing or set(sys.argv[1:2]) & {"--help"}:
            return _plain(cmd_name, COMMANDS[cmd_name][1])
        from noisyctl.cli.options import click_command

        module = importlib.import_module(COMMANDS[cmd_name][0].partition(":")[0])
        return (
            module.click_command()
            if hasattr(module, "click_command")
            else click_command(stage_named((cmd_name,)))
        )


def _plain(name: str, summary: str) -> Any:
    one = typer.Typer(add_completion=False)
    one.command(name, help=summary, short_help=summary)(lambda: None)
    return typer.main.get_command(one)


app = typer.Typer(
    cls=Commands,
    help="Train image classifiers on wrong labels.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"max_content_width": shutil.get_terminal_size().columns},
)


def _version(asked: bool) -> bool:
    if asked:
        from noisyctl import __version__

        print(__version__)
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train image classifiers on wrong labels: cached stages, robust methods, and a list of the labels to fix."""


class Stop(BaseException):
    """Ctrl-C or SIGTERM: no error, so nothing on the way takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: Any) -> None:
    raise Stop(number)


def main() -> None:
    """Run a command. Whatever ends it becomes one line and an exit code, with `--debug` a traceback too.

    What a user can act on says so and exits with its code. Any other exception is a defect of noisyctl: its traceback goes
    to a file that the line names. Ctrl-C and SIGTERM tell what was kept, and exit with 130 and 143.
    """
    from noisyctl.cli import progress
    from noisyctl.errors import NoisyctlError

    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    ended: BaseException | None = None
    try:
        with _stopping():
            app()
    except NoisyctlError as error:
        ended, code, said = error, error.exit_code, str(error)
    except Stop as stop:
        ended, code, said = stop, 128 + stop.number, progress.kept()
    except BrokenPipeError as error:
        # whoever read the output, such as `head`, has ended; Python would fail again when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        ended, code, said = error, 1, ""
    except Exception as error:
        ended, code, said = error, 1, "" if debug else _unforeseen(error)
    if ended is None:
        return
    progress.close()
    if debug:
        traceback.print_exception(ended)
    for line in said.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stop inside; a signal that the caller has this process ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unforeseen(error: Exception) -> str:
    """One line for what nobody foresaw, and a file with all that is needed to look into it."""
    name = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    if isinstance(error, MemoryError) or "out of memory" in str(error).casefold():
        cure = "this needs more memory than there is; use a smaller batch size or image size"
    elif isinstance(error, OSError):
        cure = "the system refused this; mend it and run the same command again"
    else:
        cure = "this is a defect of noisyctl; please report it with the file"
    return f"{name}; {cure} (details in {_write_report(error)})"


def _write_report(error: Exception) -> str:
    """Write traceback, command line and versions to the scratch folder, or where that cannot be to a temporary one."""
    import platform
    import shlex
    import tempfile
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    from noisyctl.artifacts import files
    from noisyctl.errors import NoisyctlError

    lines = [shlex.join(["noisyctl", *sys.argv[1:]]), "", "".join(traceback.format_exception(error))]
    lines += [f"Python {platform.python_version()}, {platform.platform()}"]
    for package in VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    scratch = Path(os.environ.get("NOISYCTL_SCRATCH", ".noisyctl"))
    for folder in (scratch / "scratch", Path(tempfile.gettempdir())):
        try:
            if folder.parent == scratch:
                files.require_scratch(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(".txt", "noisyctl-error-", folder)
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                file.write("\n".join(lines) + "\n")
            return path
        except (OSError, NoisyctlError):
            continue
    return "no file: none could be written; see --debug"
