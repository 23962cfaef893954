"""A grid: every method of a params file, for every noise in it and several seeds, planned as the table of a paper is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl import methods
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from noisyctl.papers.budgets import DATA
from noisyctl.papers.cells import NO_PARAMS, OWN, Cell, Cells
from noisyctl.papers.demonstration import Profiles, profile, profile_of
from noisyctl.papers.plan import WARMUP
from noisyctl.papers.printed import GIVEN
from noisyctl.papers.shared import SharedPaths, cluster_cell, knn_cell, pretrain_cell


@dataclass(frozen=True)
class Grid:
    """What a params file compares. `presets` are warm-up profiles that need no block.

    All that a grid makes lies in a folder of its own, data/grids/NAME: two grids that give the same data set other params
    do not meet.
    """

    name: str
    file: ParamsFile
    num_seeds: int
    presets: Profiles

    def __post_init__(self) -> None:
        if self.file.get("input") not in (None, "images"):
            raise ParamsError(
                f"{self.file.where('input')}: input is {self.file.get('input')}, and a plan's runs see images; "
                "leave it out, or call warmup and train-method with --input features (docs/embedding.md)"
            )

    @property
    def home(self) -> Path:
        """The folder that holds all data of this grid."""
        return DATA / "grids" / self.name

    @property
    def seeds(self) -> range:
        first = int(self.file.get("seed") or 0)
        return range(first, first + self.num_seeds)

    @property
    def noises(self) -> tuple[str, ...]:
        """The noises of the file; without any the labels that come with the data set."""
        return tuple(self.file.get("noises") or (GIVEN,))

    @property
    def command(self) -> str:
        """The command that makes this plan."""
        return (
            f"noisyctl plan --params-file {self.file.path} --out plans/{self.name} --seeds {self.num_seeds}"
        )

    @property
    def about(self) -> dict[str, Any]:
        """What the cells were made from, and what the template needs."""
        digest = hashlib.sha256(json.dumps(self.file.values, sort_keys=True).encode())
        metrics, out = self.home / "metrics", self.home / "tables"
        return {
            "grid": self.name,
            "params_file": self.file.path,
            "seeds": self.num_seeds,
            "state": digest.hexdigest()[:16],
            "metrics": str(metrics),
            "table": f"noisyctl table --metrics {metrics} --out {out / 'table.md'}",
            "sources": 3 * [str(Path("..", self.file.path))],
            "out": str(out),
        }

    def place(self, noise: str, seed: int) -> SharedPaths:
        """Where the shared work for a noise and a seed lies."""
        dataset, pretrain = (
            str(self.file.get("dataset") or "digits"),
            str(self.file.get("pretrain") or "simclr"),
        )
        return SharedPaths(dataset, pretrain, noise, seed, self.home)

    def _cell(self, name: str, words: str, out: Path, block: str = "", **more: Any) -> Cell:
        """A cell with the settings of the file that belong to no block."""
        about: dict[str, Any] = {"params_file": NO_PARAMS, "where": f"{self.file.path}: {block}"}
        return Cell(name, self._words(words), out, **(about | more))

    def _words(self, words: str) -> str:
        settings = {name: self.file.get(name) for name in ("precision", "compile", "threads")}
        if isinstance(settings["compile"], bool):  # YAML's on and off
            settings["compile"] = "on" if settings["compile"] else "off"
        return " ".join([words, *(f"--{k} {v}" for k, v in settings.items() if v is not None)])

    @cached_property
    def cells(self) -> Cells:
        """Warm-ups, runs and evaluations, by group and name."""
        found: Cells = {group: {} for group in OWN}
        for noise in self.noises:
            for seed in self.seeds:
                for method, values in (self.file.get("methods") or {}).items():
                    for group, cell in self._of_method(method, values or {}, self.place(noise, seed)):
                        found[group][cell.name] = cell
        if not found["train"]:
            raise ParamsError(
                f"{self.file.path}: no block methods, so there is nothing to compare; write one"
            )
        return found

    def _of_method(
        self, method: str, values: Mapping[str, Any], at: SharedPaths
    ) -> Iterator[tuple[str, Cell]]:
        """Group and cell of a method's warm-up, run and evaluation."""
        needs = methods.spec_of(method).needs.under(values)
        reads = {"images": at.images, "labels": at.labels}
        name = profile_of(method, values)
        if needs.warmup:
            yield "warmup", self._warmup(name, at)
        if needs.warmup:
            reads["warmup"] = at.warmup(name)
        reads |= {"neighbors": at.neighbors} if needs.neighbors else {}
        reads |= {"clusters": at.clusters} if needs.clusters else {}
        key = f"{method}-{at.cell}"
        yield (
            "train",
            self._cell(
                key,
                f"train-method {method}",
                at.run(method),
                f"methods.{method}",
                kind=method,
                module=methods.module_of(method),
                params=values,
                reads=reads,
                seed=at.seed,
            ),
        )
        judged = {"run": at.run(method), **self._truth(at)}
        out = self.home / "metrics" / key
        watched = {"truth": judged.get("truth", at.images)}
        yield "evaluate", self._cell(key, "evaluate", out, reads=judged, depends=watched)

    def _truth(self, at: SharedPaths) -> dict[str, Path]:
        """What tells the right labels. A folder of one's own has them only where the params name a second manifest."""
        kind, params = self._dataset(at.dataset)
        if kind == "folder" and not params.get("truth_manifest"):
            return {}
        return {"truth": at.truth} | ({} if at.noise == GIVEN else {"noise_facts": at.facts})

    def _dataset(self, name: str) -> tuple[str, dict[str, Any]]:
        """The kind of a data set, and its params."""
        block = dict(self.file.get(f"datasets.{name}") or {})
        return block.pop("kind", name), block

    def _warmup(self, name: str, at: SharedPaths) -> Cell:
        values = profile(self.file, name, self.presets)
        places = {"encoder": at.encoder_file, "clusters": at.clusters}
        start = values.get("start", "random")
        begins = {start: places[start]} if start in places else {}
        return self._cell(
            f"{name}-{at.cell}",
            "warmup",
            at.warmup(name),
            f"warmups.{name}",
            module=WARMUP,
            params=values,
            reads={"images": at.images, "labels": at.labels} | begins,
            depends=dict(zip(("start",), begins.values(), strict=False)),
            seed=at.seed,
        )

    def shared(self) -> Iterator[tuple[str, Cell]]:
        """Group and cell of the data set, the noises and the label-free work that the runs share."""
        at = self.place(self.noises[0], self.seeds[0])
        yield self._prepare(at)
        for noise in self.noises:
            if noise != GIVEN:
                for seed in self.seeds:
                    yield "noise", self._noise(noise, seed)
        used = {path for of in self.cells.values() for cell in of.values() for path in cell.reads.values()}
        if used & {at.encoder_file, at.neighbors, at.clusters}:
            more: dict[str, Any] = {"params_file": NO_PARAMS, "seed": self.seeds[0]}
            of = {name: self.file.get(name) or {} for name in (at.pretrain, "knn", "scan")}
            cells = [("pretrain", pretrain_cell(self.name, at, of[at.pretrain], **more))]
            cells += [("knn", knn_cell(self.name, at, of["knn"], **more))]
            cells += (
                [("cluster", cluster_cell(self.name, at, of["scan"], **more))] if at.clusters in used else []
            )
            for group, cell in cells:
                where = f"{self.file.path}: {cell.words}"
                yield group, replace(cell, words=self._words(cell.words), where=where)

    def _prepare(self, at: SharedPaths) -> tuple[str, Cell]:
        kind, params = self._dataset(at.dataset)
        has_truth, given = bool(self._truth(at)), self.noises == (GIVEN,)
        if not has_truth and not given:
            raise ParamsError(
                f"{self.file.path}: noises need clean labels, and this data set comes with none"
            )
        writes = {"images": at.images} | ({"truth": at.truth} if has_truth else {})
        writes |= {"labels": at.labels} if given else {}
        group = "prepare_own" if not has_truth else "prepare_given" if given else "prepare"
        return group, self._cell(
            self.name,
            f"prepare-data --dataset {kind}",
            at.home,
            f"datasets.{at.dataset}",
            kind=kind,
            module=f"noisyctl.datasets.{kind}",
            params=params,
            writes=writes,
        )

    def _noise(self, noise: str, seed: int) -> Cell:
        block = dict(self.file.get(f"noises.{noise}"))
        kind, at = block.pop("kind"), self.place(noise, seed)
        return self._cell(
            f"{self.name}-{at.cell}",
            f"inject-noise --kind {kind}",
            at.labels,
            f"noises.{noise}",
            kind=kind,
            module=f"noisyctl.noise.{kind}",
            params=block,
            reads={"truth": at.truth, "images": at.images},
            writes={"labels": at.labels, "facts": at.facts},
            seed=seed,
        )
