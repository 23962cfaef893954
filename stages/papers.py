"""From a paper's printed tables to what must run for them: one cell a run, with its command.

    papers/printed.yaml            every number that the papers print
    papers/budgets.yaml            what a budget makes shorter or smaller
    papers/shared/params.yaml      data sets, label-free work and noises of all papers
    papers/PAPER/tables.yaml       which printed number is which row, data set, noise and metric here, or why none
    papers/PAPER/params.yaml       warm-ups, and the parameters of each row: what differs from the defaults, with sources

From these come papers/PAPER/cells.yaml and papers/shared/cells.yaml, which dvc.yaml runs. A cell holds strings: its whole
command, so that a changed value changes one cell's command, and the paths that it reads and writes.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from noisyctl import config, methods
from noisyctl.errors import ParamsError, suggest
from noisyctl.params import FieldSpec, ModuleSpec, module_spec

HOME = Path("papers")
DATA = Path("data")
FIELDS = (
    "table",
    "method",
    "dataset",
    "noise",
    "rate",
    "backbone",
    "metric",
    "note",
)  # what `where:` can ask for
GIVEN = "given"  # a noise: the labels as the data set has them
STANDIN_VERIFIED = 5  # a class, where a budget replaces the data set
SHARED = ("prepare", "prepare_given", "noise", "noise_given", "pretrain", "knn", "cluster")
Cells = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Number:
    """A number as printed, and what it is here: a cell's row, data set, noise and metric, or why there is none."""

    printed: Mapping[str, Any]
    missing: str | None = None
    row: str = ""
    dataset: str = ""
    noise: str = ""
    metric: str = ""
    deviation: str = ""

    def cell(self, seed: int) -> str:
        return f"{self.dataset}-{self.row}-{self.noise}-s{seed}"


@dataclass(frozen=True)
class Budget:
    """What makes a run shorter or smaller. `full` changes nothing.

    Parameters counted in epochs shrink together, to `epochs_factor` of the row's or so that `epochs` is at most
    `max_epochs`. `override` holds values for every parameter of that name, `at_most` limits; `dataset` is prepared in the
    place of every data set, `noises` replaces noises by kind.
    """

    name: str
    epochs_factor: float = 1.0
    max_epochs: int | None = None
    seeds: int | None = None
    override: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    dataset: Mapping[str, Any] | None = None
    size: Mapping[str, int] = field(default_factory=dict)  # of that data set
    noises: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return DATA if self.name == "full" else DATA / self.name

    def shorten(self, values: Mapping[str, Any], spec: ModuleSpec) -> dict[str, Any]:
        """The values of a run of this budget: those given, and those that it changes."""
        names = {f.name for f in spec.fields}
        full = {f.name: f.default for f in spec.fields} | dict(values)
        factor = self.epochs_factor
        if self.max_epochs is not None and full.get("epochs"):
            factor = min(factor, self.max_epochs / full["epochs"])
        found = dict(values) | {name: value for name, value in self.override.items() if name in names}
        for name, limit in self.at_most.items():
            if name in names and full[name] is not None and full[name] > limit:
                found[name] = limit
        if factor < 1:
            counted = {f.name: full[f.name] for f in spec.fields if counts_epochs(f)}
            found |= {name: _scaled(value, factor) for name, value in counted.items() if value}
        return found


def counts_epochs(spec: FieldSpec) -> bool:
    """Whether a parameter is a number of epochs, or an epoch, by its name."""
    words = spec.name.split("_")
    return words[-1] in ("epoch", "epochs", "period") or spec.name == "decay_start"


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return [_scaled(one, factor) for one in value]
    return max(1, round(value * factor))


def budgets() -> dict[str, Budget]:
    """The budgets by name."""
    file = _read(HOME / "budgets.yaml")
    return {"full": Budget("full")} | {name: Budget(name, **values) for name, values in file.values.items()}


def names() -> list[str]:
    """The papers there are."""
    return sorted(path.parent.name for path in HOME.glob("*/tables.yaml"))


def load(name: str) -> Paper:
    """A paper by the name of its folder. Raises ParamsError naming those there are."""
    name = Path(name).name
    if name not in names():
        raise ParamsError(f"unknown paper {name!r}; {suggest(name, names())}")
    return Paper(name)


def _read(path: Path) -> config.ParamsFile:
    """A file that people write, with the line of every key."""
    _require(path)
    return config.read_params_file(path)


def read_fast(path: Path) -> dict[str, Any]:
    """A large file; its keys have no lines."""
    _require(path)
    found: dict[str, Any] = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def _require(path: Path) -> None:
    if not path.exists():
        raise ParamsError(f"{path} is not there; run this in the project's folder, where papers/ lies")


def _matches(wanted: Mapping[str, Any], printed: Mapping[str, Any], place: str) -> bool:
    """Whether a printed number has these fields, each one value or one of several."""
    unknown = [key for key in wanted if key not in FIELDS]
    if unknown:
        raise ParamsError(f"{place}: where: asks for {unknown[0]!r}; {suggest(unknown[0], FIELDS)}")
    return all(printed.get(key) in (one if isinstance(one, list) else [one]) for key, one in wanted.items())


@dataclass(frozen=True)
class Paper:
    """A folder of papers/: its printed numbers and what they are here."""

    name: str

    @property
    def folder(self) -> Path:
        return HOME / self.name

    @cached_property
    def tables(self) -> config.ParamsFile:
        return _read(self.folder / "tables.yaml")

    @cached_property
    def params(self) -> config.ParamsFile:
        return _read(self.folder / "params.yaml")

    @cached_property
    def printed(self) -> list[dict[str, Any]]:
        title = self.tables.get("paper")
        return [row for row in read_fast(HOME / "printed.yaml")["rows"] if row["paper"] == title]

    @cached_property
    def seeds(self) -> int:
        return int(self.tables.get("seeds"))

    def table_names(self) -> list[str]:
        return list(dict.fromkeys(str(row["table"]) for row in self.printed))

    @cached_property
    def numbers(self) -> list[Number]:
        """Every printed number, in print order. Raises ParamsError where one is accounted for nowhere."""
        return [self._number(row) for row in self.printed if row["value"] is not None]

    def of_tables(self, tables: Iterable[str]) -> list[Number]:
        """The numbers of these tables, all if none is named. Raises ParamsError naming the tables there are."""
        wanted = [str(table) for table in tables]
        for table in wanted:
            if not [name for name in self.table_names() if _is_table(name, table)]:
                raise ParamsError(f"{self.name} has no table {table!r}; {suggest(table, self.table_names())}")
        return [
            n
            for n in self.numbers
            if not wanted or any(_is_table(str(n.printed["table"]), table) for table in wanted)
        ]

    def _number(self, row: Mapping[str, Any]) -> Number:
        where = f"{self.tables.path}"
        rule = next((r for r in self.tables.values["rules"] if _matches(r["where"], row, where)), None)
        if rule is None:
            raise ParamsError(
                f"{where}: no rule for table {row['table']}, {row['method']} on {row['dataset']}; "
                "add one with row: or missing:"
            )
        if "missing" in rule:
            return Number(row, missing=rule["missing"])
        known = self.params.get("rows")
        if rule["row"] not in known:
            raise ParamsError(
                f"{self.params.path}: no block rows.{rule['row']}; {suggest(rule['row'], known)}"
            )
        metric = next(m["key"] for m in [rule, *self.tables.values["metrics"]] if self._has_key(m, row))
        noise = self.tables.values["noises"][row["dataset"]][row["noise"]]
        rate = "" if noise == GIVEN or row["rate"] is None else f"-{round(100 * row['rate']):02d}"
        return Number(
            row,
            row=rule["row"],
            dataset=self.tables.values["datasets"][row["dataset"]],
            noise=f"{noise}{rate}",
            metric=metric,
            deviation=rule.get("deviation", ""),
        )

    def _has_key(self, entry: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
        wanted = {} if "row" in entry else entry["where"]  # of a rule that fits already
        return "key" in entry and _matches(wanted, row, self.tables.path)

    def row(self, number: Number) -> dict[str, Any]:
        """Method, parameters, warm-up and deviations of a number's row: its block, then each case that fits, in order."""
        block = self.params.get(f"rows.{number.row}")
        found: dict[str, Any] = {"params": {}, "deviations": []}
        cases = [
            *(self.params.get("common") or {}).values(),
            block,
            *(block.get("cases") or {}).values(),
        ]
        for case in cases:
            if not _matches(case.get("where") or {}, number.printed, self.params.path):
                continue
            found["params"] |= case.get("params") or {}
            found |= {key: case[key] for key in ("method", "warmup", "verified", "clusters") if key in case}
            found["deviations"] += [case["deviation"]] if "deviation" in case else []
        return found


def _is_table(name: str, wanted: str) -> bool:
    """Whether a printed table is meant: `4` is `4`, `4 (ablation)` and `4 row 7`."""
    return name == wanted or name.split(" ")[0] == wanted


# ---------------------------------------------------------------------------------------------------------------- cells


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
        return self.paper.of_tables(self.tables)

    @property
    def home(self) -> Path:
        return self.budget.data / "papers" / self.paper.name

    def metrics(self, key: str) -> Path:
        return self.home / "metrics" / key

    @cached_property
    def cells(self) -> dict[str, Cells]:
        """Warm-ups, runs and evaluations by name."""
        found: dict[str, Cells] = {"warmup": {}, "train": {}, "evaluate": {}}
        for number in self.numbers:
            if number.missing is None:
                for seed in self.seeds:
                    self._add(found, number, seed)
        return found

    def _add(self, found: dict[str, Cells], number: Number, seed: int) -> None:
        at = SharedPaths(self.budget.data / number.dataset, number.noise, seed)
        row = self.paper.row(number)
        key = number.cell(seed)
        where = f"{self.paper.params.path}: rows.{number.row}"
        spec = methods.spec_of(row["method"])
        params = self.budget.shorten(row["params"], spec)
        parts = {"images": at.images, "labels": at.labels}
        unused = str(at.labels)
        warmup = unused
        if spec.needs.warmup:
            profile = row.get("warmup", "default")
            warmup = str(self.home / "warmup" / number.dataset / profile / at.cell)
            parts["warmup"] = Path(warmup)
            self._add_warmup(found["warmup"], number, profile, at, warmup)
        if spec.needs.neighbors:
            parts["neighbors"] = at.neighbors
        if spec.needs.clusters:
            parts["clusters"] = at.clusters
        if row.get("verified"):
            parts["verified"] = at.verified
        out = self.home / "runs" / number.dataset / number.row / at.cell
        cell = {
            "cmd": command(f"train-method {row['method']}", parts, params, spec, where, seed, out),
            "method": row["method"],
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
        found["evaluate"][key] = {
            "cmd": command("evaluate", facts, {}, None, where, None, self.metrics(key)),
            "run": str(out),
            "truth": str(at.truth),
            "noise": str(facts.get("noise_facts", at.truth)),
            "out": str(self.metrics(key)),
        }

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
        places = {"encoder": at.encoder, "clusters": at.clusters}
        start = values.get("start", "random")
        if start in places:
            parts[start] = places[start]
        found[f"{number.dataset}-{profile}-{at.cell}"] = {
            "cmd": command("warmup", parts, values, spec, where, at.seed, Path(out)),
            "labels": str(at.labels),
            "images": str(at.images),
            "start": str(places.get(start, at.labels)),
            "out": out,
        }

    def shared(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Group, name and cell of everything label-free, every data set and every noise that the cells stand on."""
        file = _read(HOME / "shared" / "params.yaml")
        used = {path for group in self.cells.values() for cell in group.values() for path in cell.values()}
        for number in self.numbers:
            if number.missing is None:
                for seed in self.seeds:
                    yield from shared_cells(file, self.budget, number, seed, used)


@dataclass(frozen=True)
class SharedPaths:
    """Where the label-free work, the labels and the truth of a data set lie."""

    home: Path
    noise: str
    seed: int

    @property
    def cell(self) -> str:
        return f"{self.noise}-s{self.seed}"

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
    def labels(self) -> Path:
        return (
            self.home / "labels.zarr"
            if self.noise == GIVEN
            else self.home / "noise" / self.cell / "labels.zarr"
        )

    @property
    def facts(self) -> Path:
        return self.labels.with_name("noise.zarr")

    @property
    def pretraining(self) -> Path:
        return self.home / "pretraining"

    @property
    def encoder(self) -> Path:
        return self.pretraining / "encoder.safetensors"

    @property
    def neighbors(self) -> Path:
        return self.pretraining / "neighbors.zarr"

    @property
    def clusters(self) -> Path:
        return self.pretraining / "clusters.safetensors"


def shared_cells(
    file: config.ParamsFile, budget: Budget, number: Number, seed: int, used: set[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What one number stands on: its data set, its noise, and what of the label-free work is `used`."""
    at = SharedPaths(budget.data / number.dataset, number.noise, seed)
    block = file.get(f"datasets.{number.dataset}")
    if block is None:
        known = list(file.get("datasets"))
        raise ParamsError(
            f"{file.path}: no block datasets.{number.dataset}; {suggest(number.dataset, known)}"
        )
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
    given = SharedPaths(at.home, GIVEN, seed)
    if budget.dataset is None and "given" in block:  # its files hold given labels, and labels checked by hand
        cell |= {"labels": str(given.labels), "verified": str(given.verified)}
    yield "prepare_given" if "labels" in cell else "prepare", name, cell
    if number.noise != GIVEN or budget.dataset is not None:
        yield _noise(file, budget, number, at, name)
    if {str(at.encoder), str(at.neighbors), str(at.clusters)} & used:
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
    features = at.pretraining / "features.zarr"
    (way,) = set(block) & {"simclr", "moco"}
    spec = module_spec(f"noisyctl.pretraining.{way}")
    yield (
        "pretrain",
        name,
        {
            "cmd": command(
                f"pretrain-{way}",
                {"images": at.images},
                budget.shorten(block[way], spec),
                spec,
                where,
                0,
                at.pretraining,
            ),
            "way": way,
            "images": str(at.images),
            "encoder": str(at.encoder),
            "features": str(features),
        },
    )
    spec = module_spec("stages.mine_knn")
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
        parts = {"images": at.images, "encoder": at.encoder, "neighbors": at.neighbors}
        yield (
            "cluster",
            name,
            {
                "cmd": command(
                    "cluster-scan", parts, budget.shorten(block["scan"], spec), spec, where, 0, at.pretraining
                ),
                "images": str(at.images),
                "encoder": str(at.encoder),
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
    """One line for a shell: `noisyctl`, words, paths, options in the order of their declaration, seed and --out."""
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
    return shlex.join([*line, "--out", str(out)])


def _option(spec: FieldSpec, value: Any) -> list[str]:
    if spec.annotation == "bool":
        off = (
            spec.option.replace("--include", "--exclude")
            if "include" in spec.option
            else f"--no-{spec.option[2:]}"
        )
        return [spec.option if value else off]
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return [spec.option, text.removesuffix("\n").removesuffix("\n...")]


# ---------------------------------------------------------------------------------------------------------- cells.yaml


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
            f"`noisyctl plan {found.paper.name} --budget {found.budget.name}`"
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
