"""Write cells.yaml: one cell a warm-up and a run, from params.yaml or a paper's tables, and what each method needs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from noisyctl.artifacts import files
from noisyctl.cli.stage import Option, Stage, one
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError, suggest
from noisyctl.layout import Layout
from noisyctl.session import Session
from stages import paper_cells, papers
from stages.warmup import PROFILES

HEAD = "# Made by `noisyctl plan` from params.yaml and the NEEDS of each method; a test keeps it in step.\n"
PAPER_HEAD = "# Made by `noisyctl plan {paper}` from papers/; do not edit it.\n"
CELLS = files.Text(("# Made by `noisyctl plan",))
HOME_OF_SHARED = papers.HOME / "shared" / "cells.yaml"


@dataclass(frozen=True)
class Inputs:
    file: ParamsFile
    layout: Layout
    out: Path
    paper: str | None = None
    tables: tuple[str, ...] = ()
    budget: str = "full"
    seeds: int | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the cells that dvc.yaml runs; for a paper also those of the shared work, and say what they cost."""
    if inputs.paper is not None:
        return _paper(inputs, session)
    if inputs.tables or inputs.budget != "full":
        raise ParamsError("--table and --budget need a paper: noisyctl plan PAPER --table 1")
    seeds = range(inputs.layout.seed, inputs.layout.seed + (inputs.seeds or 1))
    found = merge([cells(inputs.file, replace(inputs.layout, seed=seed)) for seed in seeds])
    _write(inputs.out, HEAD, found)
    return {name: len(group) for name, group in found.items()} | {"out": str(inputs.out)}


def _plan(inputs: Inputs) -> paper_cells.Plan:
    known = papers.budgets()
    if inputs.budget not in known:
        raise ParamsError(f"unknown budget {inputs.budget!r}; {suggest(inputs.budget, list(known))}")
    return paper_cells.Plan(
        papers.load(inputs.paper or ""), known[inputs.budget], inputs.tables, inputs.seeds
    )


def _paper(inputs: Inputs, session: Session) -> dict[str, Any]:
    made = _plan(inputs)
    shared = paper_cells.merge_shared([made, *paper_cells.planned(but=made.paper.name)])
    _write(inputs.out, PAPER_HEAD.format(paper=made.paper.name), {"about": made.about} | made.cells)
    _write(HOME_OF_SHARED, PAPER_HEAD.format(paper="PAPER"), shared)
    return _counts(made) | _costs(made, session, each=False) | {"out": f"{inputs.out} and {HOME_OF_SHARED}"}


def _counts(plan: paper_cells.Plan) -> dict[str, int]:
    missing = sum(number.missing is not None for number in plan.numbers)
    printed = sum(not number.beside for number in plan.numbers)
    counts = {"numbers": printed, "without_a_run": missing}
    return counts | {name: len(group) for name, group in plan.cells.items()}


def _costs(plan: paper_cells.Plan, session: Session, *, each: bool) -> dict[str, Any]:
    """Print what the cells cost, each or in sum, and give the sums."""
    from stages import costs
    from stages.table import print_table

    table, sums = costs.tell(costs.Costs(plan), costs.Probe(session.start()), each=each)
    print_table(
        table, session, f"{plan.paper.tables.get('paper')}, {plan.budget.name} budget, on this device"
    )
    return sums


def show(inputs: Inputs, session: Session) -> None:
    """For `--dry-run`: every cell with its cost."""
    if inputs.paper is not None:
        _costs(_plan(inputs), session, each=True)


def _write(path: Path, head: str, found: dict[str, Any]) -> None:
    with files.publish(path, CELLS) as partial:
        partial.write_text(head + yaml.safe_dump(found, sort_keys=True, width=10**6))


def cells(file: ParamsFile, layout: Layout) -> dict[str, dict[str, dict[str, Any]]]:
    """Cells of the warm-ups and of the runs, by name. A path that a cell has no use for repeats its labels."""
    from noisyctl.methods import spec_of

    warmups: dict[str, dict[str, Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    for noise in file.get("noises") or {}:
        at = replace(layout, noise=noise)
        about = {"noise": noise, "seed": layout.seed, "labels": str(at.labels)}
        for method, values in (file.get("methods") or {}).items():
            spec = spec_of(method)
            defaults = {field.name: field.default for field in spec.fields}
            needs = spec.needs.under(values or {})
            profile = (values or {}).get("warmup_profile", defaults["warmup_profile"])
            runs[f"{method}-{at.cell}"] = about | {
                "method": method,
                "warmup": str(at.warmup(profile) if needs.warmup else at.labels),
                "neighbors": str(at.neighbors if needs.neighbors else at.labels),
                "clusters": str(at.clusters if needs.clusters else at.labels),
            }
            if needs.warmup:
                start = _profile(file, profile).get("start", "random")
                places = {"encoder": at.encoder_file, "clusters": at.clusters}
                cell = about | {"profile": profile, "start": str(places.get(start, at.labels))}
                warmups[f"{profile}-{at.cell}"] = cell
    return {"warmup_cells": warmups, "train_cells": runs}


def merge(of_seeds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The cells of several seeds, group by group."""
    return {group: {k: v for found in of_seeds for k, v in found[group].items()} for group in of_seeds[0]}


def _profile(file: ParamsFile, name: str) -> dict[str, Any]:
    block = file.get(f"warmups.{name}")
    if block is None and name not in PROFILES:
        raise ParamsError(f"{file.path}: no block warmups.{name}, which a method starts from; write one")
    return PROFILES.get(name, {}) | (block or {})


def _seeds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise ParamsError(f"--seeds is {text!r}; give a number of seeds from 1 on")
    return int(text)


STAGE = Stage(
    name="plan",
    summary="Write cells.yaml, the list of warm-ups and runs that dvc.yaml makes, here or of a paper.",
    example="noisyctl plan scanmix --table 3 --budget smoke",
    run=run,
    show=show,
    inputs=lambda given, layout, extra: Inputs(
        extra["file"],
        layout,
        papers.HOME / Path(given["paper"]).name / "cells.yaml" if given["paper"] else given["out"],
        given["paper"],
        tuple(map(str, given["table"])),
        given["budget"],
        _seeds(given["seeds"]),
    ),
    options=(
        Option("paper", "a folder of papers/; none: the demonstration", metavar="name", argument=True),
        Option("table", "printed tables of the paper [all]", multiple=True, metavar="name"),
        Option("budget", "full, or a block of papers/budgets.yaml", lambda layout: "full", metavar="name"),
        Option("seeds", "seeds a cell [the paper's, or the budget's; of the demonstration 1]", metavar="int"),
        Option(
            "out",
            "file to write, for the demonstration",
            lambda layout: Path("cells.yaml"),
            writes=one(CELLS),
        ),
    ),
)
