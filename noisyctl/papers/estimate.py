"""What a plan costs on this device: a cost for each of its cells, and the table that `noisyctl plan` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from noisyctl import costs
from noisyctl.errors import ParamsError
from noisyctl.papers.cells import Cell, Cells, merge
from noisyctl.papers.files import PACKAGED, read_fast
from noisyctl.papers.plan import Plan

COUNTED = PACKAGED / "costs.yaml"  # images forward and backward of each method, measured by counting
HEAD = ["cell", "images forward", "backward", "hours", "disk GB", "memory GB", "made"]
TOTAL = "total"


@dataclass(frozen=True)
class Estimate:
    """The costs of the cells of a plan, those of the shared work first."""

    plan: Plan

    @cached_property
    def counted(self) -> Mapping[str, Mapping[str, float]]:
        found: dict[str, dict[str, float]] = read_fast(COUNTED)
        return found

    @cached_property
    def shared(self) -> Cells:
        return merge(self.plan.shared())

    def size(self, images: Path) -> costs.Size:
        """The size of the data set that lies at `images`."""
        if self.plan.budget.dataset is not None:
            return self.plan.budget.size
        size: costs.Size = self.plan.work.file.get("datasets")[images.parent.name]["size"]
        return size

    def __iter__(self) -> Iterator[costs.Cost]:
        """Raises ParamsError for a method whose images were not counted."""
        for group in ("prepare", "prepare_given", "prepare_verified"):
            for name, cell in self.shared[group].items():
                images = cell.writes["images"]
                yield costs.of_data_set(f"prepare {name}", self.size(images), images.exists())
        yield from self._label_free()
        networks = {}
        for name, cell in self.plan.cells["warmup"].items():
            size = self.size(cell.reads["images"])
            networks[cell.out] = costs.network_of(cell.resolved, size)
            yield costs.of_warmup(f"warmup {name}", cell.resolved, size, cell.out.exists())
        for name, cell in self.plan.cells["train"].items():
            yield self._run(name, cell, networks.get(cell.reads.get("warmup", Path())))

    def _label_free(self) -> Iterator[costs.Cost]:
        for name, cell in self.shared["pretrain"].items():
            size, made = self.size(cell.reads["images"]), cell.writes["encoder"].exists()
            yield costs.of_pretraining(f"pretrain {name}", cell.kind, cell.resolved, size, made)
        for name, cell in self.shared["cluster"].items():
            size, made = self.size(cell.reads["images"]), cell.writes["clusters"].exists()
            network = costs.network_of(self.shared["pretrain"][name].resolved, size)
            yield costs.of_clustering(f"cluster {name}", cell.resolved, network, size, made)

    def _run(self, name: str, cell: Cell, network: costs.Network | None) -> costs.Cost:
        if cell.kind not in self.counted:
            raise ParamsError(f"{COUNTED} has no {cell.kind}; run `python benchmarks/costs.py`")
        per_image, size = self.counted[cell.kind], self.size(cell.reads["images"])
        return costs.of_run(f"train {name}", cell.resolved, per_image, network, size, cell.out.exists())


def table(found: list[costs.Cost], probe: costs.Probe, *, each: bool) -> tuple[list[list[str]], costs.Total]:
    """The table of costs with the total in its first row, and the total.

    With `each` there is one row per cell below it, and the total again at the end.
    """
    sums = costs.total(found, probe)
    total = [TOTAL, *_numbers(sums.forward, sums.backward, _hours(sums.hours), sums.disk, sums.memory), ""]
    rows = [_row(cost, probe) for cost in found] if each else []
    return [HEAD, total, *rows, *([total] if each else [])], sums


def _row(cost: costs.Cost, probe: costs.Probe) -> list[str]:
    hours = _hours(probe.seconds(cost) / 3600)
    numbers = _numbers(cost.forward, cost.backward, hours, cost.disk, cost.memory)
    return [cost.cell, *numbers, "yes" if cost.made else "no"]


def _numbers(
    forward: int | float, backward: int | float, hours: str, disk: int | float, memory: int | float
) -> list[str]:
    return [f"{forward:.3g}", f"{backward:.3g}", hours, f"{disk / 1e9:.2g}", f"{memory / 1e9:.2g}"]


def _hours(hours: int | float) -> str:
    """Hours as people read them: `55,200`, `12`, `0.3`, `under 0.1`."""
    if math.isnan(hours):
        return "needs timm"
    if hours >= 1000:
        return f"{float(f'{hours:.2g}'):,.0f}"
    if hours >= 10:
        return f"{hours:.0f}"
    return f"{hours:.1f}" if hours >= 0.1 or hours == 0 else "under 0.1"
