"""The plan of a paper: the warm-ups, runs and evaluations of some of its tables under a budget, and what they stand on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl import methods
from noisyctl.errors import ParamsError, suggest
from noisyctl.papers.budgets import Budget
from noisyctl.papers.cells import OWN, Cell, Cells
from noisyctl.papers.files import PRINTED, home, linked, read, read_fast
from noisyctl.papers.printed import GIVEN, Number, Paper, Row
from noisyctl.papers.shared import SharedPaths, SharedWork
from noisyctl.params import module_spec

NARROWED = ("row", "dataset", "noise")  # what a plan may be narrowed down by
WARMUP = "noisyctl.training.warmup"  # where the params of a warm-up are declared


@dataclass(frozen=True)
class Plan:
    """The cells of a paper for some tables and a budget. No tables mean all; without `num_seeds` paper or budget says.

    `only` narrows them down to some rows, data sets or noises, such as `("dataset=cifar10", "row=jo_src", "row=standard")`:
    of values with the same key one must fit.
    """

    paper: Paper
    budget: Budget
    tables: tuple[str, ...] = ()
    num_seeds: int | None = None
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.paper.name

    @property
    def seeds(self) -> range:
        return range(self.num_seeds or self.budget.seeds or self.paper.seeds)

    @property
    def home(self) -> Path:
        """The folder that holds what belongs to this paper alone."""
        return self.budget.data / "papers" / self.paper.name

    @property
    def command(self) -> str:
        """The command that makes this plan."""
        tables = "".join(f" --table {table}" for table in self.tables)
        only = "".join(f" --only {words}" for words in self.only)
        return (
            f"noisyctl plan {self.name} --budget {self.budget.name}{tables} --seeds {len(self.seeds)}{only}"
        )

    @property
    def about(self) -> dict[str, Any]:
        """What the cells were made from. `state` changes with every file that decides them; the rest is for the template."""
        sources = (PRINTED, f"{self.name}/tables.yaml", f"{self.name}/params.yaml")
        return {
            "paper": self.name,
            "budget": self.budget.name,
            "tables": list(self.tables),
            "seeds": len(self.seeds),
            "state": state(self.name),
            "metrics": str(self.home / "metrics"),
            "table": f"noisyctl table --paper {self.name}",
            "sources": [str(linked(name)) for name in sources],
            "out": str(self.home / "tables"),
        } | ({"only": list(self.only)} if self.only else {})

    @cached_property
    def numbers(self) -> list[Number]:
        """The printed numbers of the tables, with other readings of them; with `only`, those that it names."""
        found = self.paper.of_tables(self.tables, readings=True)
        for key, wanted in self._narrowed().items():
            known = {str(getattr(number, key)) for number in found if number.missing is None}
            if unknown := [value for value in wanted if value not in known]:
                raise ParamsError(
                    f"no number that is left has the {key} {unknown[0]!r}; {suggest(unknown[0], sorted(known))}"
                )
            found = [number for number in found if getattr(number, key) in wanted]
        return found

    def _narrowed(self) -> dict[str, list[str]]:
        """The values that `only` names, by key. Raises ParamsError for another key."""
        found: dict[str, list[str]] = {}
        for words in self.only:
            key, equals, value = words.partition("=")
            if key not in NARROWED or not equals:
                raise ParamsError(
                    f"--only {words}: write one of {', '.join(f'{name}=NAME' for name in NARROWED)}"
                )
            found.setdefault(key, []).append(value)
        return found

    @cached_property
    def with_cells(self) -> list[Number]:
        """The numbers that can be run, and those whose runs their warm-ups start from."""
        found = [number for number in self.numbers if number.missing is None]
        return found + [self._source(n, row) for n in found if (row := self.paper.row(n)).start_from]

    def _source(self, number: Number, row: Row) -> Number:
        """A printed number of the row and data set whose run the warm-up of a row starts from."""
        for other in self.paper.numbers:
            if other.missing is None and row.start_from == {"row": other.row, "dataset": other.dataset}:
                return other
        raise ParamsError(
            f"{self.paper.params.path}: rows.{number.row} starts from {row.start_from or 'no run'}, which is no printed "
            "number's; write from: {row: ..., dataset: ...} of one that is"
        )

    @cached_property
    def work(self) -> SharedWork:
        return SharedWork(read(home() / "shared" / "params.yaml"), self.budget)

    def place(self, number: Number, seed: int) -> SharedPaths:
        """Where what a number stands on lies."""
        return self.work.place(number, seed)

    def metrics(self, key: str) -> Path:
        """The folder of a cell's evaluation."""
        return self.home / "metrics" / key

    def table_file(self, table: str) -> Path:
        """The file in which `noisyctl table --paper` compares the numbers of a printed table."""
        return self.home / "tables" / f"table-{re.sub(r'[^A-Za-z0-9]+', '-', table.split(' ')[0])}.md"

    @cached_property
    def cells(self) -> Cells:
        """Warm-ups, runs and evaluations, by group and name."""
        found: Cells = {group: {} for group in OWN}
        for number in self.with_cells:
            for seed in self.seeds:
                for group, cell in self.cells_of(number, seed):
                    if found[group].setdefault(cell.name, cell) != cell:
                        raise ParamsError(
                            f"{cell.where}: two printed numbers want this row on {number.dataset}, {number.noise} with "
                            "different parameters; give one of them a row of its own"
                        )
        return found

    def cells_of(self, number: Number, seed: int) -> Iterator[tuple[str, Cell]]:
        """Group and cell of everything that is made for one number alone."""
        at, row = self.place(number, seed), self.paper.row(number)
        if number.label_free:
            yield "evaluate", self._probe(number, seed, at)
            return
        needs = methods.spec_of(row.method).needs.under(row.params)
        if needs.warmup:
            yield "warmup", self._warmup(number, row, at)
        yield "train", self._train(number, row, at)
        yield "evaluate", self._evaluate(number, at)

    def _where(self, block: str) -> str:
        return f"{self.paper.params.path}: {block}"

    def _run(self, number: Number, at: SharedPaths) -> Path:
        return self.home / "runs" / number.dataset / number.row / at.cell

    def _warmed_up(self, number: Number, row: Row, at: SharedPaths) -> Path:
        return self.home / "warmup" / number.dataset / row.warmup / at.cell

    def _probe(self, number: Number, seed: int, at: SharedPaths) -> Cell:
        """The evaluation of the shared encoder and its clusters. No run stands behind it."""
        key = number.cell(seed)
        reads = {"encoder": at.encoder, "images": at.images, "truth": at.truth}
        return Cell(key, "evaluate", self.metrics(key), reads=reads, depends={"run": at.clusters})

    def _warmup(self, number: Number, row: Row, at: SharedPaths) -> Cell:
        values = self.paper.params.get(f"warmups.{row.warmup}")
        if values is None:
            known = list(self.paper.params.get("warmups") or {})
            raise ParamsError(
                f"{self._where(f'no block warmups.{row.warmup}')}; {suggest(row.warmup, known)}"
            )
        values = self.budget.shorten(values, module_spec(WARMUP))
        reads = {"images": at.images, "labels": at.labels}
        start = values.get("start", "random")
        places = {"encoder": at.encoder_file, "clusters": at.clusters}
        if start == "run":
            places["run"] = self._run(self._source(number, row), at)
        begins = {start: places[start]} if start in places else {}
        return Cell(
            f"{number.dataset}-{row.warmup}-{at.cell}",
            "warmup",
            self._warmed_up(number, row, at),
            module=WARMUP,
            params=values,
            reads=reads | begins,
            depends=dict(zip(("start",), begins.values(), strict=False)),
            seed=at.seed,
            where=self._where(f"warmups.{row.warmup}"),
        )

    def _train(self, number: Number, row: Row, at: SharedPaths) -> Cell:
        spec = methods.spec_of(row.method)
        params = self.budget.shorten(row.params, spec)
        needs = spec.needs.under(params)
        reads = {"images": at.images, "labels": at.labels}
        reads |= {"warmup": self._warmed_up(number, row, at)} if needs.warmup else {}
        reads |= {"neighbors": at.neighbors} if needs.neighbors else {}
        reads |= {"clusters": at.clusters} if needs.clusters else {}
        reads |= {"verified": at.verified} if row.verified else {}
        return Cell(
            number.cell(at.seed),
            f"train-method {row.method}",
            self._run(number, at),
            row.method,
            methods.module_of(row.method),
            params,
            reads,
            seed=at.seed,
            where=self._where(f"rows.{number.row}"),
        )

    def _evaluate(self, number: Number, at: SharedPaths) -> Cell:
        key = number.cell(at.seed)
        reads = {"run": self._run(number, at), "truth": at.truth}
        reads |= {} if number.noise == GIVEN else {"noise_facts": at.facts}
        reads |= {"verified": at.verified} if self.work.has_verified(number) else {}
        return Cell(key, "evaluate", self.metrics(key), reads=reads)

    def shared(self) -> Iterator[tuple[str, Cell]]:
        """Group and cell of the work that the runs share: everything label-free, every data set and every noise."""
        cells = [cell for group in self.cells.values() for cell in group.values()]
        used = {path for cell in cells for path in (*cell.reads.values(), *cell.depends.values())}
        for number in self.with_cells:
            for seed in self.seeds:
                yield from self.work.cells(number, seed, used)


def state(paper: str) -> str:
    """A digest of every file that decides the cells of a paper. Comments do not count."""
    digest = hashlib.sha256()
    own = (f"{paper}/tables.yaml", f"{paper}/params.yaml")
    for name in (PRINTED, "budgets.yaml", "shared/params.yaml", *own):
        digest.update(json.dumps(read_fast(home() / name), sort_keys=True).encode())
    return digest.hexdigest()[:16]
