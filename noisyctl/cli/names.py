"""The names in params.yaml and of `--set`: an unknown one is refused, with those there are."""

from __future__ import annotations

import functools
import sys
from typing import Any

from noisyctl import config, params
from noisyctl.cli.stage import modules_in
from noisyctl.errors import ParamsError, suggest
from noisyctl.layout import Layout

DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "pretrain": "simclr",
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "compile": "off",
    "track": "",
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
TOP_LEVEL = (*DEFAULTS, "noise", "input", *BLOCKS)


@functools.cache
def tell_renamed(old: str) -> None:
    """Once a process, on stderr."""
    from noisyctl import methods

    print(
        f"note: {old} is called {methods.present_name(old)} now; the old name goes with the next version",
        file=sys.stderr,
    )


def by_present_names(
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


def check_names(file: config.ParamsFile, sets: dict[str, Any]) -> None:
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


def check_parameters(file: config.ParamsFile, sets: dict[str, Any], but: str) -> None:
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


def check_dataset(file: config.ParamsFile, layout: Layout) -> None:
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
