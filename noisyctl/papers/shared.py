"""The work that the runs of the papers share: data sets, noises, pretraining, neighbors and clusters, each made once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisyctl import config
from noisyctl.errors import ParamsError, suggest
from noisyctl.layout import Layout
from noisyctl.papers.budgets import Budget
from noisyctl.papers.cells import Cell
from noisyctl.papers.printed import GIVEN, Number
from noisyctl.params import module_spec

STANDIN_VERIFIED = 5  # verified samples per class, where a budget replaces the data set
MINING = "noisyctl.runs.mine_knn"  # where the params of mine-knn are declared


@dataclass(frozen=True)
class SharedPaths(Layout):
    """Where the shared work for one data set, noise and seed lies. Unlike its base it never looks at the disk."""

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

    @property
    def features(self) -> Path:
        return self.encoder / "features.zarr"


@dataclass(frozen=True)
class SharedWork:
    """What the numbers of a paper stand on under a budget. `file` is the papers' shared/params.yaml."""

    file: config.ParamsFile
    budget: Budget

    def place(self, number: Number, seed: int) -> SharedPaths:
        """Where the shared work for a number lies. Raises ParamsError for an unknown data set."""
        block = self._block(number.dataset)
        way = "moco" if "moco" in block else "simclr"
        return SharedPaths(number.dataset, way, number.noise, seed, self.budget.data)

    def has_verified(self, number: Number) -> bool:
        """Whether the data set comes with labels that people verified, or with a stand-in for them."""
        return "verified" in self._block(number.dataset).get("given", [])

    def cells(self, number: Number, seed: int, used: set[Path]) -> Iterator[tuple[str, Cell]]:
        """Group and cell of what one number stands on: data set, noise, and the label-free work that is `used`."""
        at, block = self.place(number, seed), self._block(number.dataset)
        name = number.dataset if self.budget.name == "full" else f"{self.budget.name}-{number.dataset}"
        yield self._prepare(at, block, name)
        if not number.label_free and (number.noise != GIVEN or self.budget.dataset is not None):
            yield self._noise(number, at, name)
        if used & {at.encoder_file, at.neighbors, at.clusters}:
            yield from self._label_free(at, block, name, at.clusters in used)

    def _block(self, dataset: str) -> Mapping[str, Any]:
        datasets: Mapping[str, Mapping[str, Any]] = self.file.get("datasets")
        if dataset not in datasets:
            raise ParamsError(f"{self.file.path}: no block datasets.{dataset}; {suggest(dataset, datasets)}")
        return datasets[dataset]

    def _prepare(self, at: SharedPaths, block: Mapping[str, Any], name: str) -> tuple[str, Cell]:
        prepare = dict(self.budget.dataset or block["prepare"])
        kind = prepare.pop("kind")
        module = f"noisyctl.datasets.{kind}"
        given = replace(at, noise=GIVEN)
        written = block.get("given", []) if self.budget.dataset is None else []
        cell = Cell(
            name,
            f"prepare-data --dataset {kind}",
            at.home,
            kind,
            module,
            self.budget.shorten(prepare, module_spec(module)),
            writes={"images": at.images, "truth": at.truth}
            | {artifact: getattr(given, artifact) for artifact in written},
            where=f"{self.file.path}: datasets.{at.dataset}",
        )
        return ("prepare", "prepare_given", "prepare_verified")[len(written)], cell

    def _noise(self, number: Number, at: SharedPaths, name: str) -> tuple[str, Cell]:
        base = number.noise.rpartition("-")[0]
        block = {"kind": GIVEN} if number.noise == GIVEN else self.file.get(f"noises.{base}")
        if block is None:
            known = list(self.file.get("noises"))
            raise ParamsError(f"{self.file.path}: no block noises.{base}; {suggest(base, known)}")
        values = self.budget.noise(block)
        kind = values.pop("kind")
        module = f"noisyctl.noise.{kind}"
        spec = module_spec(module)
        if "rate" in {f.name for f in spec.fields}:
            values = {"rate": number.printed.rate} | values
        words = f"inject-noise --kind {kind}"
        writes = {"labels": at.labels, "facts": at.facts}
        if (
            number.noise == GIVEN
        ):  # in the place of the labels that come with the images, and of verified ones
            words += f" --verified-per-class {STANDIN_VERIFIED}"
            writes["verified"] = at.verified
        cell = Cell(
            f"{name}-{at.cell}",
            words,
            at.labels,
            kind,
            module,
            self.budget.shorten(values, spec),
            {"truth": at.truth, "images": at.images},
            writes,
            seed=at.seed,
            where=f"{self.file.path}: noises.{base}",
        )
        return "noise_given" if number.noise == GIVEN else "noise", cell

    def _label_free(
        self, at: SharedPaths, block: Mapping[str, Any], name: str, clusters: bool
    ) -> Iterator[tuple[str, Cell]]:
        where = f"{self.file.path}: datasets.{at.dataset}"
        pretraining = f"noisyctl.pretraining.{at.pretrain}"
        params = self.budget.shorten(block[at.pretrain], module_spec(pretraining))
        yield "pretrain", pretrain_cell(name, at, params, where=where)
        yield "knn", knn_cell(name, at, block["knn"], where=where)
        if clusters:
            scan = self.budget.shorten(block["scan"], module_spec("noisyctl.pretraining.scan"))
            yield "cluster", cluster_cell(name, at, scan, where=where)


def pretrain_cell(name: str, at: SharedPaths, params: Mapping[str, Any], **more: Any) -> Cell:
    """The pretraining of a data set. `more` are further fields of the cell."""
    return Cell(
        name,
        f"pretrain-{at.pretrain}",
        at.encoder,
        at.pretrain,
        f"noisyctl.pretraining.{at.pretrain}",
        params,
        {"images": at.images},
        {"encoder": at.encoder_file, "features": at.features},
        **({"seed": 0} | more),
    )


def knn_cell(name: str, at: SharedPaths, params: Mapping[str, Any], **more: Any) -> Cell:
    """The mining of a data set's neighbors. `more` are further fields of the cell."""
    reads = {"features": at.features}
    return Cell(name, "mine-knn", at.neighbors, "", MINING, params, reads, **more)


def cluster_cell(name: str, at: SharedPaths, params: Mapping[str, Any], **more: Any) -> Cell:
    """The clustering of a data set. `more` are further fields of the cell."""
    return Cell(
        name,
        "cluster-scan",
        at.encoder,
        "",
        "noisyctl.pretraining.scan",
        params,
        {"images": at.images, "encoder": at.encoder_file, "neighbors": at.neighbors},
        {"clusters": at.clusters},
        **({"seed": 0} | more),
    )
