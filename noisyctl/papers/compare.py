"""Each printed number beside the metrics of the runs that answer it, left out where they were made with other params."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files, metrics, store, tensor_files
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ArtifactError
from noisyctl.papers.cells import Cell, merge
from noisyctl.papers.comparison import Compared
from noisyctl.papers.plan import Plan
from noisyctl.papers.printed import Number

STALE = "made with other params; run it again"


@dataclass(frozen=True)
class Measured:
    """The metrics of one cell. `stale` says that they are of other params than the cell's, so that they do not count."""

    metrics: Mapping[str, Any]
    stale: bool = False


def compare(plan: Plan, number: Number) -> Compared:
    """A printed number with the metrics of those seeds that have been evaluated for it."""
    if number.missing is not None:
        return Compared(number.printed, missing=number.missing)
    cells = list(dict.fromkeys(number.cell(seed) for seed in plan.seeds))
    found = [_probed(plan, number) if number.label_free else _run(plan, cell) for cell in cells]
    runs = tuple(one.metrics for one in found if one is not None and not one.stale)
    stale = sum(one is not None and one.stale for one in found)
    if stale and not runs:
        return Compared(number.printed, number.metric, budget=plan.budget.name, missing=STALE)
    left_out = f"{stale} of {len(cells)} runs left out: {STALE}" if stale else ""
    deviations = [left_out, number.deviation, *plan.paper.row(number).deviations]
    return Compared(
        number.printed,
        number.metric,
        runs,
        len(cells),
        plan.budget.name,
        plan.budget.dataset["kind"] if plan.budget.dataset else None,
        tuple(text for text in deviations if text),
    )


def by_table(plan: Plan, tables: tuple[str, ...] = ()) -> dict[str, list[tuple[Number, Compared]]]:
    """Every printed number of these tables (without any: of those planned), compared, by the name of its table."""
    found: dict[str, list[tuple[Number, Compared]]] = {}
    for number in plan.paper.of_tables(tables or plan.tables, readings=True):
        name = number.printed.table.split(" ")[0]
        found.setdefault(name, []).append((number, compare(plan, number)))
    return found


def _run(plan: Plan, cell: str) -> Measured | None:
    """The metrics of the run of a cell, if it has been evaluated."""
    place = plan.metrics(cell) / "metrics.json"
    files.recover(place.parent)
    if not place.exists():
        return None
    runs = metrics.read(place)["runs"]
    if len(runs) != 1:
        raise ArtifactError(
            f"{place} holds {len(runs)} runs, not the one of {cell}; make it anew with `noisyctl sweep {plan.name}`"
        )
    (run,) = runs.values()
    planned = plan.cells["train"][cell]
    kept = _made_with(planned.resolved, run.get("params")) and _warmed_up_as_planned(plan, planned, run)
    return Measured(run, stale=not kept)


def _warmed_up_as_planned(plan: Plan, planned: Cell, run: Mapping[str, Any]) -> bool:
    """Whether the run started from the warm-up that lies in its place, and that has the params of its cell.

    A warm-up that has been removed cannot be asked, and counts as the planned one.
    """
    place = planned.reads.get("warmup")
    cell = next((one for one in plan.cells["warmup"].values() if one.out == place), None)
    digest = tensor_files.digest_of(place / "networks.safetensors") if place else None
    if place is None or cell is None or digest is None:
        return True
    wanted = cell.resolved
    wanted["weights"] = wanted["weights"] and Path(wanted["weights"]).name  # as the warm-up records it
    made = store.read(place / "trace.zarr", TRACE).attributes["params"]
    return _made_with(wanted, made) and digest == run.get("inputs", {}).get("warmup")


def _probed(plan: Plan, number: Number) -> Measured | None:
    """What was measured of the shared encoder and its clusters."""
    place = plan.metrics(number.cell(0)) / "metrics.json"
    if not place.exists():
        return None
    probe = metrics.read(place).get("knn_probe") or {}
    shared, images = merge(plan.shared()), plan.place(number, 0).images
    (pretrain,) = (cell for cell in shared["pretrain"].values() if cell.reads["images"] == images)
    (cluster,) = (cell for cell in shared["cluster"].values() if cell.reads["images"] == images)
    wanted = cluster.resolved
    if wanted["num_clusters"] is None:  # as many as there are classes, which cluster-scan records
        del wanted["num_clusters"]
    kept = _made_with(pretrain.resolved, probe.get("encoder_params"))
    kept = kept and _made_with(wanted, probe.get("clusters_params"))
    return Measured({"knn_probe": probe}, stale=not kept)


def _made_with(wanted: Mapping[str, Any], made: Any) -> bool:
    """Whether something was made with these params. What else it records of itself, such as the seed, does not count."""
    recorded = {name: (made or {}).get(name) for name in wanted}
    return json.dumps(recorded, sort_keys=True) == json.dumps(wanted, sort_keys=True)
