"""Put the metrics of many runs into one table, or beside the numbers that a paper prints."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files, metrics
from noisyctl.cli.stage import Option, Stage
from noisyctl.errors import ArtifactError
from noisyctl.session import Session

STALE = "made with other params; run it again"
TABLES = files.Folder("tables of a paper")
FORMS = {  # what the first line of a table of ours begins with
    "md": files.Text(("<!-- written by noisyctl table",)),
    "csv": files.Text(("method,noise nominal,", "method,data set,")),
    "tex": files.Text(("% written by noisyctl table",)),
}


@dataclass(frozen=True)
class Inputs:
    metrics: tuple[Path, ...]
    out: Path | None
    paper: str | None = None
    tables: tuple[str, ...] = ()


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the table as Markdown, CSV and LaTeX beside each other, and print it."""
    from noisyctl.evaluation.tables import table as tabulate

    if inputs.paper is not None:
        return _paper(inputs, session)
    assert inputs.out is not None
    runs: dict[str, Any] = {}
    for path in inputs.metrics:
        found_here = metrics.read(path)["runs"]
        twice = sorted(runs.keys() & found_here.keys())
        if twice:
            raise ArtifactError(f"{path} and an earlier file both hold {twice[0]}; make a table for each")
        runs |= found_here
    found = tabulate(runs)
    _write(inputs.out, found)
    print_table(found, session)
    return {"rows": len(found) - 1, "out": str(inputs.out.with_suffix(".md"))}


def _paper(inputs: Inputs, session: Session) -> dict[str, Any]:
    """A folder with one table for each that the paper prints, of what its plan holds and has been evaluated."""
    from noisyctl.evaluation.tables import comparison
    from stages import paper_cells

    plan = paper_cells.read_plan(inputs.paper or "")
    wanted = plan.paper.of_tables(inputs.tables or plan.tables, readings=True)
    compared = [compare(plan, number) for number in wanted]
    out = inputs.out or Path(plan.about["out"])
    by_table: dict[str, list[Any]] = {}
    for one in compared:
        by_table.setdefault(str(one.printed["table"]).split(" ")[0], []).append(one)
    with files.publish(out, TABLES) as partial:
        partial.mkdir()
        for name, numbers in by_table.items():
            found = comparison(numbers)
            _write(partial / f"table-{re.sub(r'[^A-Za-z0-9]+', '-', name)}.md", found)
            print_table(
                found, session, f"{plan.paper.tables.get('paper')}, Table {name}, {plan.budget.name} budget"
            )
        TABLES.seal(partial)
    printed = [one for one, number in zip(compared, wanted, strict=True) if not number.beside]
    ran = sum(bool(one.values) for one in printed)
    return {"printed": len(printed), "measured": ran, "missing": len(printed) - ran, "out": str(out)}


def compare(plan: Any, number: Any) -> Any:
    """A printed number with the metrics of the seeds that have been evaluated for it."""
    from noisyctl.evaluation.tables import Compared

    if number.missing is not None:
        return Compared(number.printed, missing=number.missing)
    cells = list(dict.fromkeys(number.cell(seed) for seed in plan.seeds))
    runs = [_probed(plan, number) if number.label_free else _run(plan, cell) for cell in cells]
    made = tuple(run for run in runs if isinstance(run, dict))
    if STALE in runs and not made:
        return Compared(number.printed, number.metric, budget=plan.budget.name, missing=STALE)
    row = plan.paper.row(number)
    stale = runs.count(STALE)
    left_out = f"{stale} of {len(cells)} runs left out: {STALE}" if stale else ""
    deviations = [left_out, number.deviation, *row["deviations"]]
    return Compared(
        number.printed,
        number.metric,
        made,
        len(cells),
        plan.budget.name,
        plan.budget.dataset and plan.budget.dataset["kind"],
        tuple(text for text in deviations if text),
    )


def _run(plan: Any, cell: str) -> dict[str, Any] | str | None:
    """The metrics of a cell's run, if there is one that was made with the cell's params."""
    from stages.paper_cells import params_of

    place = plan.metrics(cell) / "metrics.json"
    files.recover(place.parent)
    if not place.exists():
        return None
    runs = metrics.read(place)["runs"]
    if len(runs) != 1:
        raise ArtifactError(
            f"{place} holds {len(runs)} runs, not the one of {cell}; run the plan's dvc.yaml again"
        )
    (run,) = runs.values()
    planned = plan.cells["train"][cell]
    wanted = params_of(planned, f"noisyctl.methods.{planned['method']}")
    kept = _made_with(wanted, run.get("params")) and _warmed_up_as_planned(plan, planned, run)
    return dict(run) if kept else STALE


def _warmed_up_as_planned(plan: Any, planned: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether the run started from the warm-up that lies in its cell's place, and that has the cell's params.

    A warm-up that is not there any more cannot be asked.
    """
    from noisyctl.artifacts import networks, store
    from noisyctl.artifacts.kinds import TRACE
    from stages.paper_cells import params_of

    place = Path(planned["warmup"])
    cell = next((one for one in plan.cells["warmup"].values() if one["out"] == str(place)), None)
    digest = networks.digest_of(place / "networks.safetensors")
    if cell is None or digest is None:
        return True
    wanted = params_of(cell, "noisyctl.training.warmup")
    wanted["weights"] = wanted["weights"] and Path(wanted["weights"]).name  # as the warm-up records it
    made = store.read(place / "trace.zarr", TRACE).attributes["params"]
    return _made_with(wanted, made) and digest == run.get("inputs", {}).get("warmup")


def _probed(plan: Any, number: Any) -> dict[str, Any] | str | None:
    """What was measured of the shared encoder and clusters, if they were made with the params of their cells."""
    from stages.paper_cells import merge_shared, params_of

    place = plan.metrics(number.cell(0)) / "metrics.json"
    if not place.exists():
        return None
    probe = metrics.read(place).get("knn_probe") or {}
    shared, images = merge_shared([plan]), str(plan.place(number, 0).images)
    (pretrain,) = (cell for cell in shared["pretrain"].values() if cell["images"] == images)
    (cluster,) = (cell for cell in shared["cluster"].values() if cell["images"] == images)
    kept = _made_with(
        params_of(pretrain, f"noisyctl.pretraining.{pretrain['way']}"), probe.get("encoder_params")
    )
    wanted = params_of(cluster, "noisyctl.pretraining.scan")
    if wanted["num_clusters"] is None:  # as many as there are classes, which cluster-scan records
        del wanted["num_clusters"]
    kept = kept and _made_with(wanted, probe.get("clusters_params"))
    return {"knn_probe": probe} if kept else STALE


def _made_with(wanted: dict[str, Any], made: Any) -> bool:
    """Whether these are the params that something was made with; what else was recorded, such as the seed, is its own."""
    recorded = {name: (made or {}).get(name) for name in wanted}
    return json.dumps(recorded, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _write(path: Path, table: list[list[str]]) -> None:
    from noisyctl.evaluation.tables import render

    for kind in FORMS:
        with files.publish(path.with_suffix(f".{kind}"), FORMS[kind]) as partial:
            partial.write_text(render(table, kind))


def print_table(table: list[list[str]], session: Session, title: str | None = None) -> None:
    """On stderr, with a head."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if session.quiet:
        return
    shown = Table(title=title)
    head, *rows = table
    for column in head:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(stderr=True)
    Console(stderr=True, width=max(console.width, 140)).print(shown)


def _writes(out: Path) -> files.Writes:
    """Three files beside each other; with --paper, which names no file, a folder."""
    if out.suffix or not out.is_dir():
        return files.Writes({out.with_suffix(f".{kind}"): form for kind, form in FORMS.items()})
    return files.Writes({out: TABLES})


STAGE = Stage(
    name="table",
    summary="Put the metrics of many runs into one table, or beside the numbers that a paper prints.",
    example="noisyctl table --metrics data/digits/results/metrics.json --out table.md",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        tuple(given["metrics"]) or (layout.home / "results" / "metrics.json",),
        given["out"] or (None if given["paper"] else layout.home / "table.md"),
        given["paper"],
        tuple(map(str, given["table"])),
    ),
    options=(
        Option("metrics", "metrics.json of evaluate [data/SET/results/metrics.json]", multiple=True),
        Option("paper", "a folder of papers/: its printed tables, and what was measured", metavar="name"),
        Option("table", "printed tables of the paper [those planned]", multiple=True, metavar="name"),
        Option(
            "out",
            "table to write; .md, .csv and .tex [data/SET/table.md]; with --paper a folder of tables",
            writes=_writes,
        ),
    ),
)
