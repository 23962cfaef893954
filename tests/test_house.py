"""The rules of the house that no linter holds: private names, short functions, and what stands in stages/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisyctl.cli.commands import COMMANDS

ROOT = Path(__file__).parent.parent
FILES = sorted(p for room in ("noisyctl", "stages") for p in (ROOT / room).rglob("*.py"))
MOST_LINES = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Module and name of every import from our own modules; the name under which a module is used, with the module."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("noisyctl", "stages")
        ):
            for alias in node.names:
                yield node.module, alias.name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_private_name_is_used_outside_its_module() -> None:
    """A module whose name begins with an underscore is private to its folder."""
    wrong = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        folder = ".".join(path.relative_to(ROOT).parent.parts)
        modules = set()
        for module, name in imported(tree):
            whole = f"{module}.{name}"
            inside = whole.startswith(f"{folder}.") and (ROOT / Path(*folder.split("."))).is_dir()
            if any(is_private(part) for part in whole.split(".")) and not inside:
                wrong.append(f"{name_of(path)} imports {whole}")
            if (ROOT / Path(*whole.split("."))).with_suffix(".py").exists() or (
                ROOT / Path(*whole.split("."))
            ).is_dir():
                modules.add(name)
        used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        wrong += [
            f"{name_of(path)} uses {node.value.id}.{node.attr}"  # type: ignore[attr-defined]
            for node in used
            if is_private(node.attr) and node.value.id in modules  # type: ignore[attr-defined]
        ]
    assert wrong == []


@pytest.mark.parametrize("path", [p for p in FILES if "noisyctl/methods" not in name_of(p)], ids=name_of)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{node.name} has {size} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, functions) and (size := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
    ]
    assert long == []


def test_stages_holds_a_file_for_each_command_and_nothing_else() -> None:
    commands = {module.partition(":")[0].removeprefix("stages.") for module, _ in COMMANDS.values()}
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert files == commands


def test_the_frame_names_no_stage() -> None:
    """Each stage brings its own resolver; the frame knows commands in its table and in cures alone."""
    text = "".join(
        (ROOT / "noisyctl/cli" / name).read_text() for name in ("options.py", "stage.py", "progress.py")
    )
    quoted = {
        node.value
        for node in ast.walk(ast.parse(text.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert quoted & {command for command in COMMANDS if "-" in command} == set()
