"""From a printed number to its run: the cells that answer it, their params that are no defaults, and the comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.errors import ParamsError, suggest
from noisyctl.papers.cells import Cell
from noisyctl.papers.comparison import RULES
from noisyctl.papers.plan import Plan
from noisyctl.papers.printed import Number

MOST_TOLD = 3  # numbers that are told in full; of more each has one line


@dataclass(frozen=True)
class Origin:
    """What stands behind a printed number: its cells by group, for the first seed and in the order in which they run.

    `place` is the line of PAPER/params.yaml where its row begins. `metrics` is the file that holds the measured
    number, and `table` the file that has it beside the printed one.
    """

    number: Number
    place: str = ""
    cells: tuple[tuple[str, Cell], ...] = ()
    metrics: Path = Path()
    table: Path = Path()
    deviations: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The number by the words of its table: `Table 1, ScanMix, CIFAR-10, sym 0.9, best: 91`."""
        printed = self.number.printed
        rate = "" if printed.rate is None else f" {printed.rate:g}"
        words = (
            f"Table {printed.table}",
            printed.method,
            printed.dataset,
            f"{printed.noise}{rate}",
            printed.metric,
        )
        spread = "" if printed.std is None else f" ± {printed.std:g}"
        return f"{', '.join(words)}: {printed.value:g}{spread}"

    def to_json(self) -> dict[str, Any]:
        """For a script."""
        found: dict[str, Any] = {"printed": self.title, "value": self.number.printed.value}
        if self.number.missing is not None:
            return found | {"missing": self.number.missing}
        return found | {
            "row": self.number.row,
            "row_in": self.place,
            "metric": self.number.metric,
            "metrics": str(self.metrics),
            "table": str(self.table),
            "deviations": list(self.deviations),
            "cells": [
                {"group": group, "name": cell.name, "command": cell.command, "params": changed(cell)}
                for group, cell in self.cells
            ],
        }


def changed(cell: Cell) -> dict[str, dict[str, Any]]:
    """The params of a cell that differ from the defaults: value and default by name."""
    defaults = {field.name: field.default for field in cell.spec.fields} if cell.spec else {}
    return {
        name: {"value": value, "default": defaults[name]}
        for name, value in cell.params.items()
        if json.dumps(value) != json.dumps(defaults[name], default=str)
    }


def origins(plan: Plan, text: str) -> list[Origin]:
    """Every printed number of the plan's tables that has all words of a text.

    A word is a number, such as a printed value, a rate (0.9 or 90%) or the name of a table; or a part of the method, data
    set, noise, metric, row or cell. Raises ParamsError where none has them.
    """
    words = text.split()
    found = [number for number in plan.numbers if all(_has(number, word, plan) for word in words)]
    if not found:
        methods = dict.fromkeys(number.printed.method for number in plan.numbers)
        raise ParamsError(
            f"no printed number of {plan.name} has {text!r}; give a value, or words of its table (method, data set, noise, "
            f"rate, metric), or a row or a cell; of the methods, {suggest(text, methods)}"
        )
    return [_origin(plan, number) for number in found]


def _has(number: Number, word: str, plan: Plan) -> bool:
    printed = number.printed
    if word == printed.table or (value := _number(word)) is None:
        texts = [f"table {printed.table}", printed.method, printed.dataset, printed.noise, printed.metric]
        if number.missing is None:
            texts += [number.row, *(number.cell(seed) for seed in plan.seeds)]
        return word == printed.table or any(word.casefold() in one.casefold() for one in texts)
    share = value / 100 if word.endswith("%") else value
    return value in (printed.value, printed.std) or share == printed.rate


def _number(word: str) -> float | None:
    try:
        return float(word.removesuffix("%"))
    except ValueError:
        return None


def _origin(plan: Plan, number: Number) -> Origin:
    if number.missing is not None:
        return Origin(number)
    seed = plan.seeds[0]
    return Origin(
        number,
        plan.paper.params.where(f"rows.{number.row}"),
        tuple(plan.cells_of(number, seed)),
        plan.metrics(number.cell(seed)) / "metrics.json",
        plan.table_file(number.printed.table),
        tuple(text for text in (number.deviation, *plan.paper.row(number).deviations) if text),
    )


def lines(plan: Plan, found: list[Origin]) -> Iterator[str]:
    """What people read: a few numbers in full, of more a line each."""
    for origin in found:
        yield origin.title
        if len(found) <= MOST_TOLD:
            yield from _in_full(plan, origin)
        elif origin.number.missing is None:
            yield f"  {origin.cells[-1][1].name}"
        else:
            yield f"  no run: {origin.number.missing}"
    if len(found) > MOST_TOLD:
        yield f"{len(found)} printed numbers; give more words, a value or a cell to see where one is trained and compared."


def _in_full(plan: Plan, origin: Origin) -> Iterator[str]:
    number, tables = origin.number, plan.paper.tables.path
    if number.missing is not None:
        yield f"  no run: {number.missing} (the first rule that fits in {tables})"
        return
    yield f"  planned    row {number.row} in {origin.place}; which number is which row: {tables}"
    for group, cell in origin.cells:
        yield f"  {_DOES[group]:9}  cell {cell.name}, {group}"
        yield f"             {cell.command}"
        if cell.spec is not None:
            yield f"             params that differ from the defaults: {_differences(changed(cell))}"
    rule = RULES.get(number.metric, number.metric)
    yield f"  measured   {number.metric} ({rule}) in {origin.metrics}"
    yield f"  compared   in {origin.table}, made by `noisyctl table --paper {plan.name}`"
    if origin.deviations:
        yield f"  deviates   from the paper: {'; '.join(origin.deviations)}"
    if len(plan.seeds) > 1:
        yield f"  seeds      this is seed {plan.seeds[0]} of {len(plan.seeds)}; the others are planned alike"
    yield f"  run it     noisyctl sweep {plan.name}:evaluate@{origin.cells[-1][1].name}"


_DOES = {"warmup": "warmed up", "train": "trained", "evaluate": "judged"}


def _differences(found: Mapping[str, Mapping[str, Any]]) -> str:
    said = [f"{name} {of['value']} (default {of['default']})" for name, of in found.items()]
    return ", ".join(said) or "none"
