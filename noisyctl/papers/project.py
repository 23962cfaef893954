"""plans/: a DVC project inside the project's folder that holds what was planned, one pipeline per paper or grid.

    plans/.dvc/config          made from the project's own: the same cache and remotes, and no git
    plans/data, noisyctl, ...  links to the folders of the project: DVC refuses outputs outside of its project
    plans/shared/              data sets, noises and label-free work: dvc.yaml and cells.yaml
    plans/NAME/                warm-ups, runs, evaluations and the table of a paper or a grid

Git ignores plans/, and the project's own DVC does not look into it. It can be removed at any time: what was computed lies
in data/ and in the cache, and the command that planned a paper makes its folder again.
"""

from __future__ import annotations

import configparser
import importlib.resources
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import noisyctl
from noisyctl.artifacts import files
from noisyctl.config import read_params_file
from noisyctl.errors import NoisyctlError, ParamsError, suggest
from noisyctl.papers import cells
from noisyctl.papers.budgets import budgets
from noisyctl.papers.demonstration import Profiles
from noisyctl.papers.files import OWN, home, read_fast
from noisyctl.papers.grid import Grid
from noisyctl.papers.plan import Plan
from noisyctl.papers.printed import load, names

PLANS = Path("plans")
SHARED = PLANS / "shared"
MADE = "# Made by `noisyctl plan"
FORM = files.Text((MADE,))
IGNORED = f"{MADE}`\n__pycache__\n*.pyc\n.noisyctl\n"
EMPTY = f"{MADE}`. Empty, so that the commands of a plan read no params.yaml that lies beside them.\n"
RELATIVE = ("url", "dir", "keyfile", "credentialpath", "configpath", "cert_path", "key_path", "ssl_verify")
Planned = Plan | Grid


def path_of(name: str) -> Path:
    """The cells.yaml of a paper or a grid."""
    return PLANS / name / "cells.yaml"


def plan_of(
    paper: str,
    tables: tuple[str, ...] = (),
    budget: str = "full",
    num_seeds: int | None = None,
    only: tuple[str, ...] = (),
) -> Plan:
    """The plan for a paper. Raises ParamsError for names that do not exist, with those that do."""
    known = budgets()
    if budget not in known:
        raise ParamsError(f"unknown budget {budget!r}; {suggest(budget, list(known))}")
    return Plan(load(paper), known[budget], tables, num_seeds, only)


def counts(plan: Plan) -> dict[str, int]:
    """How many numbers the planned tables print, and how many of these have no run here."""
    printed = sum(not number.beside for number in plan.numbers)
    return {"numbers": printed, "without_a_run": sum(n.missing is not None for n in plan.numbers)}


@dataclass(frozen=True)
class Choice:
    """What a person chose of a paper. None and () stand for what is planned already, or else for all of it."""

    tables: tuple[str, ...] = ()
    budget: str | None = None
    num_seeds: int | None = None
    only: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        return bool(self.tables or self.budget or self.num_seeds or self.only)


def prepare(target: str, choice: Choice, presets: Profiles) -> str:
    """Bring the plan that a target names up to date, and give the target as DVC takes it.

    A target is a paper or a grid, such as `scanmix`, `plans/scanmix` or `scanmix:train@cifar10-dividemix-sym-incl-50-s0`. A
    paper that is not planned yet is planned; one that is keeps its tables, budget and seeds, unless others are chosen. Any
    other target, such as `dvc.yaml` or a stage, is given back as it is; then nothing may be chosen.
    """
    where, colon, stage = target.partition(":")
    name = _name_of(where)
    if name in names():
        found = again(name, presets)
        if choice.is_made or found is None:
            found = plan_of(name, choice.tables, choice.budget or "full", choice.num_seeds, choice.only)
    else:
        if choice.is_made:
            raise ParamsError(
                "--table, --only, --budget and --seeds choose what of a paper is run, and "
                f"{target or 'dvc.yaml'!r} is none; {suggest(name, names())}"
            )
        found = again(name, presets)
    if found is None:
        return target
    write(found, presets)
    return f"{PLANS / found.name / 'dvc.yaml'}{colon}{stage}"


def _name_of(where: str) -> str:
    """The paper or grid that a name or a path may stand for: `scanmix`, `papers/scanmix`, `plans/scanmix/dvc.yaml`."""
    path = Path(where)
    path = path.parent if path.name == "dvc.yaml" else path
    return path.name if len(path.parts) == 1 or path.parent in (home(), OWN, PLANS) else ""


def write(plan: Planned, presets: Profiles) -> None:
    """Write the pipeline of a plan, and that of the work which all plans share."""
    others = [one for one in planned(presets) if one.name != plan.name]
    shared = cells.as_yaml(cells.merge(cell for one in (plan, *others) for cell in one.shared()))
    own = {"about": plan.about} | cells.as_yaml(plan.cells)
    _make_project()
    _write(PLANS / plan.name, "own.yaml", own, f"{MADE} {plan.name}`. Do not edit it.\n")
    _write(SHARED, "shared.yaml", shared, f"{MADE} NAME`. Do not edit it.\n")


def _write(folder: Path, template: str, found: dict[str, Any], head: str) -> None:
    text = importlib.resources.files("noisyctl.papers").joinpath("template", template).read_text()
    publish(folder / "cells.yaml", head + yaml.safe_dump(found, sort_keys=True, width=10**6))
    publish(folder / "dvc.yaml", head + text)


def publish(path: Path, text: str) -> None:
    """Write a file, unless it has this text already: its time stamp stays, so DVC need not read it again."""
    if path.exists() and path.read_text() == text:
        return
    with files.publish(path, FORM) as partial:
        partial.write_text(text)


def _make_project() -> None:
    """The DVC project itself. Nothing in it is ever edited by hand, so that it follows the project's settings."""
    (PLANS / ".dvc").mkdir(parents=True, exist_ok=True)
    for name in ("config", "config.local"):
        source, target = Path(".dvc", name), PLANS / ".dvc" / name
        if source.exists() or name == "config":
            _write_config(source, target)
        elif target.exists():
            target.unlink()
    publish(PLANS / ".dvcignore", IGNORED)
    publish(cells.NO_PARAMS, EMPTY)
    Path("data").mkdir(exist_ok=True)
    package = Path(noisyctl.__file__).parent
    own = [OWN] if home() == OWN else []
    for folder in (Path("data"), *own, package, package.parent / "stages"):
        _link(PLANS / folder.name, Path(os.path.relpath(folder, PLANS)))


def _write_config(source: Path, target: Path) -> None:
    """The project's settings, with paths as they are from plans/.dvc; no git, and the project's cache."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(source)
    for section in settings.values():
        for key, value in section.items():
            if key in RELATIVE and _is_relative(value):
                section[key] = str(Path("..", "..", ".dvc", value))
    if target.name == "config":
        for name, key, value in (("core", "no_scm", "true"), ("cache", "dir", "../../.dvc/cache")):
            if not settings.has_section(name):
                settings.add_section(name)
            if key not in settings[name]:
                settings[name][key] = value
    target.touch(0o600)  # it may hold a password
    with target.open("w") as file:
        settings.write(file)


def _is_relative(value: str) -> bool:
    """Whether a setting is a path from the folder of its file, as in `../storage`, and no address or yes and no."""
    return "://" not in value and not Path(value).is_absolute() and value not in ("true", "false")


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    try:
        with files.publish(link, files.Link()) as partial:
            partial.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise NoisyctlError(
            f"{link} could not be made as a symbolic link to {target} ({error.strerror}); plans need a file system and a "
            "user that may make such links (on Windows: developer mode)"
        ) from error


def planned(presets: Profiles) -> Iterator[Planned]:
    """The plans that have been written, made anew from the files there are now. Those whose paper is gone are left out."""
    for path in sorted(PLANS.glob("*/cells.yaml")):
        if path.parent != SHARED:
            found = again(path.parent.name, presets)
            if found is not None:
                yield found


def again(name: str, presets: Profiles) -> Planned | None:
    """The plan of this name with the choices that it was written with; None where there is none that tells them."""
    path = path_of(name)
    about = (read_fast(path).get("about") or {}) if path.exists() else {}
    if about.get("grid") == name:
        return Grid(name, read_params_file(Path(about["params_file"])), about["seeds"], presets)
    if about.get("paper") == name:
        only = tuple(about.get("only", ()))
        return plan_of(name, tuple(about["tables"]), about["budget"], about["seeds"], only)
    return None


def read_plan(name: str, presets: Profiles | None = None) -> Plan:
    """The plan of a paper as it was written.

    Raises ParamsError where the paper is not planned, where the paper's files have changed since, or where cells.yaml was
    edited by hand.
    """
    paper = load(name)
    path = path_of(paper.name)
    if not path.exists():
        raise ParamsError(f"{paper.name} is not planned yet; plan it with `noisyctl plan {paper.name}`")
    found = again(paper.name, presets or {})
    if not isinstance(found, Plan):
        raise ParamsError(
            f"{path} does not say what it was made from; make it anew with `noisyctl plan {paper.name}`"
        )
    values = read_fast(path)
    if values != {"about": found.about} | cells.as_yaml(found.cells):
        stale = values["about"] != found.about
        why = "was made from other files than those there now" if stale else "was edited by hand"
        raise ParamsError(f"{path} {why}; make it anew with `{found.command}`")
    return found
