"""The cells of a paper: its warm-ups, runs and evaluations, and what of the shared work they stand on.

papers/PAPER/cells.yaml holds a paper's, papers/shared/cells.yaml those that all papers share. A cell is its whole command,
so that a changed value changes one cell's command; the params that the command was made from; and the paths that it reads
and writes. A command is never read back: who asks for a cell's params takes `params_of`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from noisyctl import config, methods
from noisyctl.errors import ParamsError, suggest
from noisyctl.layout import Layout
from noisyctl.params import FieldSpec, ModuleSpec, module_spec
from stages.papers import GIVEN, HOME, Budget, Number, Paper, budgets, load, names, read, read_fast

STANDIN_VERIFIED = 5  # a class, where a budget replaces the data set
SHARED = (
    "prepare",
    "prepare_given",
    "prepare_verified",
    "noise",
    "noise_given",
    "pretrain",
    "knn",
    "cluster",
)
Cells = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """The cells of a paper for some tables and a budget, and the shared ones that they stand on."""

    paper: Paper
    budget: Budget
    tables: tuple[str, ...] = ()
    num_seeds: int | None = None

    @property
    def seeds(self) -> range:
        return range(self.num_seeds or self.budget.seeds or self.paper.seeds)

    @property
    def about(self) -> dict[str, Any]:
        """What the cells were made from; `state` changes with any file that decides them."""
        return {
            "paper": self.paper.name,
            "budget": self.budget.name,
            "tables": list(self.tables),
            "seeds": len(self.seeds),
            "state": state(self.paper.name),
            "metrics": str(self.home / "metrics"),
            "out": str(self.home / "tables"),
        }

    @cached_property
    def numbers(self) -> list[Number]:
        return self.paper.of_tables(self.tables, readings=True)

    @cached_property
    def cells_of(self) -> list[Number]:
        """The numbers, and those whose runs their warm-ups start from: `from: {row: ..., dataset: ...}` of a row."""
        found = list(self.numbers)
        found += [self._source(n) for n in self.numbers if n.missing is None and "from" in self.paper.row(n)]
        return found

    def _source(self, number: Number) -> Number:
        """A printed number of the row and data set whose run a row's warm-up starts from."""
        wanted = self.paper.row(number).get("from") or {}
        for other in self.paper.numbers:
            if other.missing is None and wanted == {"row": other.row, "dataset": other.dataset}:
                return other
        raise ParamsError(
            f"{self.paper.params.path}: rows.{number.row} starts from {wanted or 'no run'}, which is no printed number's; "
            "write from: {row: ..., dataset: ...} of one that is"
        )

    @property
    def home(self) -> Path:
        return self.budget.data / "papers" / self.paper.name

    @cached_property
    def shared_params(self) -> config.ParamsFile:
        return read(HOME / "shared" / "params.yaml")

    def place(self, number: Number, seed: int) -> SharedPaths:
        """Where what a number stands on lies."""
        datasets = self.shared_params.get("datasets")
        if number.dataset not in datasets:
            raise ParamsError(
                f"{self.shared_params.path}: no block datasets.{number.dataset}; {suggest(number.dataset, datasets)}"
            )
        way = "moco" if "moco" in datasets[number.dataset] else "simclr"
        return SharedPaths(number.dataset, way, number.noise, seed, self.budget.data)

    def has_verified(self, number: Number) -> bool:
        """Whether the data set comes with labels that were checked by hand, or with a stand-in for them."""
        return "verified" in self.shared_params.get(f"datasets.{number.dataset}").get("given", [])

    def metrics(self, key: str) -> Path:
        return self.home / "metrics" / key

    @cached_property
    def cells(self) -> dict[str, Cells]:
        """Warm-ups, runs and evaluations by name."""
        found: dict[str, Cells] = {"warmup": {}, "train": {}, "evaluate": {}}
        for number in self.cells_of:
            if number.missing is None:
                for seed in self.seeds:
                    if number.label_free:
                        self._add_probe(found["evaluate"], number, seed)
                    else:
                        self._add(found, number, seed)
        return found

    def _add_probe(self, found: Cells, number: Number, seed: int) -> None:
        """The evaluation of the shared encoder and its clusters: no run stands behind it."""
        at = self.place(number, seed)
        key, where = number.cell(seed), f"{self.paper.params.path}: rows.{number.row}"
        parts = {"encoder": at.encoder, "images": at.images, "truth": at.truth}
        found[key] = {
            "cmd": command("evaluate", parts, {}, None, where, None, self.metrics(key)),
            "run": str(at.clusters),
            "truth": str(at.truth),
            "noise": str(at.truth),
            "verified": str(at.truth),
            "out": str(self.metrics(key)),
        }

    def _add(self, found: dict[str, Cells], number: Number, seed: int) -> None:
        at = self.place(number, seed)
        row = self.paper.row(number)
        key = number.cell(seed)
        where = f"{self.paper.params.path}: rows.{number.row}"
        spec = methods.spec_of(row["method"])
        params = self.budget.shorten(row["params"], spec)
        needs = spec.needs.under(params)
        parts = {"images": at.images, "labels": at.labels}
        unused = str(at.labels)
        warmup = unused
        if needs.warmup:
            profile = row.get("warmup", "default")
            warmup = str(self.home / "warmup" / number.dataset / profile / at.cell)
            parts["warmup"] = Path(warmup)
            self._add_warmup(found["warmup"], number, profile, at, warmup)
        if needs.neighbors:
            parts["neighbors"] = at.neighbors
        if needs.clusters:
            parts["clusters"] = at.clusters
        if row.get("verified"):
            parts["verified"] = at.verified
        out = self._run(number, at)
        cell = {
            "cmd": command(f"train-method {row['method']}", parts, params, spec, where, seed, out),
            "method": row["method"],
            "params": params,
            "labels": str(at.labels),
            "images": str(at.images),
            "warmup": warmup,
            "neighbors": str(parts.get("neighbors", unused)),
            "clusters": str(parts.get("clusters", unused)),
            "verified": str(parts.get("verified", unused)),
            "out": str(out),
        }
        if found["train"].setdefault(key, cell) != cell:
            raise ParamsError(
                f"{where}: two printed numbers want this row on {number.dataset}, {number.noise} with different "
                "parameters; give one of them a row of its own"
            )
        facts = {"run": out, "truth": at.truth} | ({} if number.noise == GIVEN else {"noise_facts": at.facts})
        if self.has_verified(number):
            facts["verified"] = at.verified
        found["evaluate"][key] = {
            "cmd": command("evaluate", facts, {}, None, where, None, self.metrics(key)),
            "run": str(out),
            "truth": str(at.truth),
            "noise": str(facts.get("noise_facts", at.truth)),
            "verified": str(facts.get("verified", at.truth)),
            "out": str(self.metrics(key)),
        }

    def _run(self, number: Number, at: SharedPaths) -> Path:
        """Where the run of a number lies."""
        return self.home / "runs" / number.dataset / number.row / at.cell

    def _add_warmup(self, found: Cells, number: Number, profile: str, at: SharedPaths, out: str) -> None:
        where = f"{self.paper.params.path}: warmups.{profile}"
        values = self.paper.params.get(f"warmups.{profile}")
        if values is None:
            known = list(self.paper.params.get("warmups") or {})
            raise ParamsError(
                f"{self.paper.params.path}: no block warmups.{profile}; {suggest(profile, known)}"
            )
        spec = module_spec("noisyctl.training.warmup")
        values = self.budget.shorten(values, spec)
        parts = {"images": at.images, "labels": at.labels}
        places = {"encoder": at.encoder_file, "clusters": at.clusters}
        start = values.get("start", "random")
        if start == "run":
            places["run"] = self._run(self._source(number), at)
        if start in places:
            parts[start] = places[start]
        found[f"{number.dataset}-{profile}-{at.cell}"] = {
            "cmd": command("warmup", parts, values, spec, where, at.seed, Path(out)),
            "params": values,
            "labels": str(at.labels),
            "images": str(at.images),
            "start": str(places.get(start, at.labels)),
            "out": out,
        }

    def shared(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Group, name and cell of everything label-free, every data set and every noise that the cells stand on."""
        cells = [cell for group in self.cells.values() for cell in group.values()]
        used = {path for cell in cells for path in cell.values() if isinstance(path, str)}
        for number in self.cells_of:
            if number.missing is None:
                for seed in self.seeds:
                    yield from shared_cells(
                        self.shared_params, self.budget, number, self.place(number, seed), used
                    )


@dataclass(frozen=True)
class SharedPaths(Layout):
    """The layout of a data set of the papers. A plan does not depend on what lies there: features are an encoder's."""

    @property
    def encoder(self) -> Path:
        return self.home / self.pretrain

    @property
    def images(self) -> Path:
        return self.home / "images.zarr"

    @property
    def truth(self) -> Path:
        return self.home / "truth.zarr"

    @property
    def verified(self) -> Path:
        return self.home / "verified.zarr"

    @property
    def facts(self) -> Path:
        return self.labels.with_name("noise.zarr")


def shared_cells(
    file: config.ParamsFile, budget: Budget, number: Number, at: SharedPaths, used: set[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What one number stands on: its data set, its noise, and what of the label-free work is `used`."""
    block = file.get(f"datasets.{number.dataset}")
    name = number.dataset if budget.name == "full" else f"{budget.name}-{number.dataset}"
    where = f"{file.path}: datasets.{number.dataset}"
    prepare = dict(budget.dataset or block["prepare"])
    kind = prepare.pop("kind")
    spec = module_spec(f"noisyctl.datasets.{kind}")
    words = f"prepare-data --dataset {kind}"
    cell = {
        "cmd": command(words, {}, budget.shorten(prepare, spec), spec, where, None, at.home),
        "kind": kind,
        "images": str(at.images),
        "truth": str(at.truth),
    }
    given = replace(at, noise=GIVEN)
    written = block.get("given", []) if budget.dataset is None else []
    cell |= {kind: str(getattr(given, kind)) for kind in written}
    yield {0: "prepare", 1: "prepare_given", 2: "prepare_verified"}[len(written)], name, cell
    if not number.label_free and (number.noise != GIVEN or budget.dataset is not None):
        yield _noise(file, budget, number, at, name)
    if {str(at.encoder_file), str(at.neighbors), str(at.clusters)} & used:
        yield from _label_free(budget, block, at, name, where, str(at.clusters) in used)


def _noise(
    file: config.ParamsFile, budget: Budget, number: Number, at: SharedPaths, name: str
) -> tuple[str, str, dict[str, Any]]:
    base = number.noise.rpartition("-")[0]
    block = {"kind": GIVEN} if number.noise == GIVEN else file.get(f"noises.{base}")
    if block is None:
        raise ParamsError(f"{file.path}: no block noises.{base}; {suggest(base, list(file.get('noises')))}")
    values = dict(block) | budget.noises.get(block["kind"], {})
    kind = values.pop("kind")
    spec = module_spec(f"noisyctl.noise.{kind}")
    if "rate" in {f.name for f in spec.fields}:
        values = {"rate": number.printed["rate"]} | values
    words = f"inject-noise --kind {kind}"
    cell = {"kind": kind, "truth": str(at.truth), "images": str(at.images)}
    cell |= {"labels": str(at.labels), "facts": str(at.facts)}
    if number.noise == GIVEN:  # in the place of labels given with the images, and of labels checked by hand
        words += f" --verified-per-class {STANDIN_VERIFIED}"
        cell["verified"] = str(at.verified)
    parts = {"truth": at.truth, "images": at.images}
    values = budget.shorten(values, spec)
    cell["cmd"] = command(words, parts, values, spec, f"{file.path}: noises.{base}", at.seed, at.labels)
    return "noise_given" if number.noise == GIVEN else "noise", f"{name}-{at.cell}", cell


def _label_free(
    budget: Budget, block: Mapping[str, Any], at: SharedPaths, name: str, where: str, clusters: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    features = at.encoder / "features.zarr"
    spec = module_spec(f"noisyctl.pretraining.{at.pretrain}")
    pretrain = budget.shorten(block[at.pretrain], spec)
    yield (
        "pretrain",
        name,
        {
            "cmd": command(
                f"pretrain-{at.pretrain}",
                {"images": at.images},
                pretrain,
                spec,
                where,
                0,
                at.encoder,
            ),
            "params": pretrain,
            "way": at.pretrain,
            "images": str(at.images),
            "encoder": str(at.encoder_file),
            "features": str(features),
        },
    )
    spec = module_spec("noisyctl.runs.mine_knn")
    yield (
        "knn",
        name,
        {
            "cmd": command("mine-knn", {"features": features}, block["knn"], spec, where, None, at.neighbors),
            "features": str(features),
            "out": str(at.neighbors),
        },
    )
    if clusters:
        spec = module_spec("noisyctl.pretraining.scan")
        scan = budget.shorten(block["scan"], spec)
        parts = {"images": at.images, "encoder": at.encoder_file, "neighbors": at.neighbors}
        yield (
            "cluster",
            name,
            {
                "cmd": command("cluster-scan", parts, scan, spec, where, 0, at.encoder),
                "params": scan,
                "images": str(at.images),
                "encoder": str(at.encoder_file),
                "neighbors": str(at.neighbors),
                "out": str(at.clusters),
            },
        )


def command(
    words: str,
    paths: Mapping[str, Path],
    values: Mapping[str, Any],
    spec: ModuleSpec | None,
    where: str,
    seed: int | None,
    out: Path,
) -> str:
    """One line for a shell: `noisyctl`, words, paths, options in the order of their declaration, seed and --out.

    No value comes from a params.yaml that happens to lie there.
    """
    known = {f.name: f for f in spec.fields} if spec else {}
    for name in values:
        if name not in known:
            raise ParamsError(f"{where}.{name} is not a parameter of {words}; {suggest(name, list(known))}")
    line = ["noisyctl", *words.split()]
    for name, path in paths.items():
        line += [f"--{name.replace('_', '-')}", str(path)]
    for name, one in known.items():
        if name in values:
            line += _option(one, values[name])
    line += [] if seed is None else ["--seed", str(seed)]
    line += ["--params-file", str(HOME / "defaults.yaml")]  # not the demonstration's
    return shlex.join([*line, "--out", str(out)])


def params_of(cell: Mapping[str, Any], module: str) -> dict[str, Any]:
    """All params of a cell: what its row or block says, and the defaults of the rest."""
    return {f.name: f.default for f in module_spec(module).fields} | cell["params"]


def _option(spec: FieldSpec, value: Any) -> list[str]:
    if spec.annotation == "bool":
        return [spec.option if value else spec.off]
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return [spec.option, text.removesuffix("\n").removesuffix("\n...")]


def state(paper: str) -> str:
    """A digest of every file that decides a paper's cells."""
    files = (
        "printed.yaml",
        "budgets.yaml",
        "shared/params.yaml",
        f"{paper}/tables.yaml",
        f"{paper}/params.yaml",
    )
    digest = hashlib.sha256()
    for name in files:
        values = read_fast(HOME / name)  # comments do not matter
        digest.update(json.dumps(values, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _plan_of(name: str) -> tuple[Plan, dict[str, Any]]:
    """What a paper's cells.yaml says it was made by, and the file."""
    paper, known = load(name), budgets()
    path = paper.folder / "cells.yaml"
    values = read_fast(path)
    about = values.get("about") or {}
    if about.get("paper") != paper.name or about.get("budget") not in known:
        raise ParamsError(
            f"{path} does not say what it was made from; make it anew with `noisyctl plan {paper.name}`"
        )
    return Plan(paper, known[about["budget"]], tuple(about["tables"]), about["seeds"]), values


def read_plan(name: str) -> Plan:
    """The plan that a paper's cells.yaml was made by. Raises ParamsError where the file is stale or was edited."""
    found, values = _plan_of(name)
    if values != {"about": found.about} | found.cells:
        stale = values["about"] != found.about
        why = "was made from other files than those there now" if stale else "was edited by hand"
        raise ParamsError(
            f"{found.paper.folder / 'cells.yaml'} {why}; make it anew with "
            f"`noisyctl plan {found.paper.name} --budget {found.budget.name}"
            f"{''.join(f' --table {table}' for table in found.tables)} --seeds {len(found.seeds)}`"
        )
    return found


def planned(but: str | None = None) -> list[Plan]:
    """The plans of all papers that have one, stale ones made anew, `but` that of one."""
    return [_plan_of(name)[0] for name in names() if name != but and (HOME / name / "cells.yaml").exists()]


def merge_shared(plans: Iterable[Plan]) -> dict[str, Cells]:
    """The shared cells of several plans, by group and name."""
    found: dict[str, Cells] = {group: {} for group in SHARED}
    for plan in plans:
        for group, name, cell in plan.shared():
            found[group][name] = cell
    return found
