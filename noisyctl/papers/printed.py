"""The numbers that the papers print, and what each is here: a row, a data set, a noise and a metric, or why there is none.

    printed.yaml            every number that the papers print
    budgets.yaml            what a budget makes shorter or smaller
    shared/params.yaml      data sets, label-free work and noises of all papers
    PAPER/tables.yaml       which printed number is which row, data set, noise and metric here, or why none
    PAPER/params.yaml       warm-ups, and the parameters of each row: what differs from the defaults, with sources

They lie in noisyctl/papers/data, which a folder papers/ takes the place of (files.py). From these, cells.py makes the
commands that a plan runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl import config
from noisyctl.errors import ParamsError, suggest, wrong_key
from noisyctl.papers.files import PRINTED, home, read, read_fast, require

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


@dataclass(frozen=True)
class PrintedRow:
    """One row of printed.yaml: a number as the paper prints it, with the words of its table.

    `rate` is the nominal noise rate. `epochs` is the length of a training, where the paper states it of its own method.
    `value` is in percent, and None where the paper prints a dash.
    """

    paper: str
    table: str
    method: str
    dataset: str
    noise: str
    rate: float | None
    backbone: str | None
    epochs: int | None
    metric: str
    value: float | None
    std: float | None
    note: str | None

    @classmethod
    def from_yaml(cls, row: Mapping[str, Any], place: str) -> PrintedRow:
        """The row as it was read. Raises ParamsError that names `place` and a key that is unknown or missing."""
        if wrong := wrong_key(row, [field.name for field in dataclasses.fields(cls)]):
            raise ParamsError(f"{place}: {wrong}; write null where the paper prints none")
        return cls(**row)


@dataclass(frozen=True)
class Number:
    """A number as printed, and what it is here: a cell's row, data set, noise and metric, or why there is none.

    `beside` says that the row is another reading of the printed one, shown below it: see `Paper.numbers`.
    """

    printed: PrintedRow
    missing: str | None = None
    row: str = ""
    dataset: str = ""
    noise: str = ""
    metric: str = ""
    deviation: str = ""
    beside: bool = False
    label_free: bool = (
        False  # a row without a method, of the shared work alone: nothing of it depends on labels
    )

    def cell(self, seed: int) -> str:
        return f"{self.dataset}-{self.row}" + ("" if self.label_free else f"-{self.noise}-s{seed}")


@dataclass(frozen=True)
class Row:
    """What a row of a paper's params.yaml means for one printed number.

    `method` is empty where no run stands behind the row. `warmup` is a block of `warmups:`. `start_from` names the row and
    the data set of the run that the warm-up starts from. `verified` says that verified labels are used. `deviations` tell
    what differs from the paper.
    """

    name: str
    method: str
    params: Mapping[str, Any]
    warmup: str
    start_from: Mapping[str, str] | None
    verified: bool
    deviations: tuple[str, ...]


def names() -> list[str]:
    """The papers there are."""
    return sorted(path.parent.name for path in home().glob("*/tables.yaml"))


def load(name: str) -> Paper:
    """A paper by the name of its folder. Raises ParamsError naming those there are."""
    name = Path(name).name
    require(home() / PRINTED)
    if name not in names():
        raise ParamsError(f"unknown paper {name!r}; {suggest(name, names())}")
    return Paper(name)


def matches(wanted: Mapping[str, Any], printed: PrintedRow, place: str) -> bool:
    """Whether a printed number has these fields, each one value or one of several."""
    unknown = [key for key in wanted if key not in FIELDS]
    if unknown:
        raise ParamsError(f"{place}: where: asks for {unknown[0]!r}; {suggest(unknown[0], FIELDS)}")
    return all(
        getattr(printed, key) in (one if isinstance(one, list) else [one]) for key, one in wanted.items()
    )


@dataclass(frozen=True)
class Paper:
    """The folder of a paper: its printed numbers and what they are here."""

    name: str

    @property
    def folder(self) -> Path:
        return home() / self.name

    @cached_property
    def tables(self) -> config.ParamsFile:
        return read(self.folder / "tables.yaml")

    @cached_property
    def params(self) -> config.ParamsFile:
        return read(self.folder / "params.yaml")

    @cached_property
    def printed(self) -> list[PrintedRow]:
        title, place = self.tables.get("paper"), home() / PRINTED
        rows = enumerate(read_fast(place)["rows"], 1)
        return [
            PrintedRow.from_yaml(row, f"{place}: row {i}") for i, row in rows if row.get("paper") == title
        ]

    @cached_property
    def seeds(self) -> int:
        return int(self.tables.get("seeds"))

    def table_names(self) -> list[str]:
        return list(dict.fromkeys(row.table for row in self.printed))

    @cached_property
    def numbers(self) -> list[Number]:
        """Every printed number, in print order. Raises ParamsError where one is accounted for nowhere."""
        return [self._number(row) for row in self.printed if row.value is not None]

    @cached_property
    def readings(self) -> list[Number]:
        """The numbers, each followed by the other readings of its row that its rule names under `beside`."""
        found = []
        for number in self.numbers:
            found.append(number)
            for other in (self._rule(number.printed) or {}).get("beside", []):
                printed = dataclasses.replace(number.printed, method=other["method"])
                found.append(self._number(number.printed, other | {"where": {}}, printed, beside=True))
        return found

    def of_tables(self, tables: Iterable[str], *, readings: bool = False) -> list[Number]:
        """The numbers of these tables, all if none is named; with other readings of them if asked for.

        Raises ParamsError naming the tables there are.
        """
        wanted = [str(table) for table in tables]
        for table in wanted:
            if not [name for name in self.table_names() if _is_table(name, table)]:
                raise ParamsError(f"{self.name} has no table {table!r}; {suggest(table, self.table_names())}")
        return [
            n
            for n in (self.readings if readings else self.numbers)
            if not wanted or any(_is_table(n.printed.table, table) for table in wanted)
        ]

    def _rule(self, row: PrintedRow) -> Any:
        """The first rule that fits a printed number."""
        rules, where = self.tables.values["rules"], f"{self.tables.path}"
        return next((r for r in rules if matches(r["where"], row, where)), None)

    def _number(
        self,
        row: PrintedRow,
        rule: Any = None,
        printed: PrintedRow | None = None,
        beside: bool = False,
    ) -> Number:
        rule, where = rule or self._rule(row), self.tables.path
        if rule is None:
            raise ParamsError(
                f"{where}: no rule for table {row.table}, {row.method} on {row.dataset}; "
                "add one with row: or missing:"
            )
        if "missing" in rule:
            return Number(row, missing=rule["missing"])
        known = self.params.get("rows")
        if rule["row"] not in known:
            raise ParamsError(
                f"{self.params.path}: no block rows.{rule['row']}; {suggest(rule['row'], known)}"
            )
        metrics = [rule, *self.tables.values["metrics"]]
        metric = next((m["key"] for m in metrics if self._has_key(m, row)), None)
        if metric is None:
            raise ParamsError(f"{where}: no metric for {row.metric!r}; add one under metrics:")
        dataset = rule.get("dataset") or self._name(self.tables.values, "datasets", row.dataset)
        cases = [*(self.tables.get("noise_cases") or []), {"where": {}, "noises": self.tables.get("noises")}]
        case = next(case for case in cases if matches(case["where"], row, where))
        label_free = "method" not in known[rule["row"]]
        noise = GIVEN if label_free else self._name(case, f"noises.{row.dataset}", row.noise)
        rate = "" if noise == GIVEN or row.rate is None else f"-{round(100 * row.rate):02d}"
        return Number(
            printed or row,
            row=rule["row"],
            dataset=dataset,
            noise=f"{noise}{rate}",
            metric=metric,
            deviation=rule.get("deviation", ""),
            beside=beside,
            label_free=label_free,
        )

    def _name(self, known: Any, block: str, printed: str) -> str:
        for part in block.split(".", 1):
            known = known.get(part) or {}
        if printed not in known:
            raise ParamsError(f"{self.tables.path}: {block} has no {printed!r}; {suggest(printed, known)}")
        return str(known[printed])

    def _has_key(self, entry: Mapping[str, Any], row: PrintedRow) -> bool:
        wanted = {} if "row" in entry else entry["where"]  # of a rule that fits already
        return "key" in entry and matches(wanted, row, self.tables.path)

    def row(self, number: Number) -> Row:
        """The row of a number: what all rows have in common, its own block, and each case of these that fits, in order."""
        block = self.params.get(f"rows.{number.row}")
        found: dict[str, Any] = {}
        params: dict[str, Any] = {}
        deviations: list[str] = []
        for case in [
            *(self.params.get("common") or {}).values(),
            block,
            *(block.get("cases") or {}).values(),
        ]:
            if matches(case.get("where") or {}, number.printed, self.params.path):
                found |= case
                params |= case.get("params") or {}
                deviations += [case["deviation"]] if "deviation" in case else []
        return Row(
            number.row,
            found.get("method", ""),
            params,
            found.get("warmup", "default"),
            found.get("from"),
            bool(found.get("verified")),
            tuple(deviations),
        )


def _is_table(name: str, wanted: str) -> bool:
    """Whether a printed table is meant: `4` is `4`, `4 (ablation)` and `4 row 7`."""
    return name == wanted or name.split(" ")[0] == wanted
