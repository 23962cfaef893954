"""Plan the runs of a paper's tables, or of a grid of methods and seeds; or bring this folder's pipeline up to date.

With --why nothing is written: it tells which run stands behind a printed number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.cli.stage import Option, Stage
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from noisyctl.layout import Layout
from noisyctl.papers import pipeline, project
from noisyctl.papers.grid import Grid
from noisyctl.papers.plan import Plan
from noisyctl.session import Session
from stages.warmup import PROFILES


@dataclass(frozen=True)
class Inputs:
    """`out` is plans/NAME for a grid, or the cells.yaml of a folder with a dvc.yaml; a paper has its place in plans/.

    With `why`, a printed number or words that tell which, nothing is written and `out` is None.
    """

    file: ParamsFile
    layout: Layout
    out: Path | None
    paper: str | None = None
    tables: tuple[str, ...] = ()
    budget: str = "full"
    seeds: int | None = None
    why: str | None = None
    only: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan | Grid | None:
        """What is planned; None for the pipeline of params.yaml, whose dvc.yaml lies beside it."""
        if self.paper is not None:
            return project.plan_of(self.paper, self.tables, self.budget, self.seeds, self.only)
        if self.tables or self.only or self.budget != "full":
            raise ParamsError("--table, --only and --budget need a paper: noisyctl plan PAPER --table 1")
        if self.out is None:
            raise ParamsError("--why needs a paper: noisyctl plan PAPER --why TEXT")
        if self.out.suffix:
            return None
        if self.out.parent != project.PLANS:
            raise ParamsError(f"--out {self.out}: a grid is planned in {project.PLANS}/; write plans/NAME")
        return Grid(self.out.name, self.file, self.seeds or 1, PROFILES)


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the cells and, for a paper or a grid, the pipeline that runs them. Say what a paper costs.

    With `why` only tell which run stands behind a printed number.
    """
    plan = inputs.plan
    if inputs.why is not None:
        assert isinstance(plan, Plan)
        return _why(plan, inputs.why, session)
    if plan is None:
        assert inputs.out is not None
        first = inputs.layout.seed
        seeds = range(first, first + (inputs.seeds or 1))
        found = pipeline.write(inputs.file, inputs.layout, PROFILES, seeds, inputs.out)
        return {name: len(found[name]) for name in ("warmup_cells", "train_cells")} | {"out": str(inputs.out)}
    project.write(plan, PROFILES)
    counts = {name: len(group) for name, group in plan.cells.items()}
    if isinstance(plan, Plan):
        counts = project.counts(plan) | counts | _costs(plan, session, each=False)
    return counts | {"out": str(project.PLANS / plan.name), "run": f"noisyctl sweep {plan.name}"}


def show(inputs: Inputs, session: Session) -> None:
    """For `--dry-run`: every cell with what it costs; with --why, what that tells."""
    plan = inputs.plan
    if isinstance(plan, Plan) and inputs.why is not None:
        _why(plan, inputs.why, session)
    elif isinstance(plan, Plan):
        _costs(plan, session, each=True)


def _why(plan: Plan, text: str, session: Session) -> dict[str, Any]:
    """Print where the printed numbers that have the words of a text are planned, trained and compared."""
    from noisyctl.papers import why

    found = why.origins(plan, text)
    if not session.quiet:
        print("\n".join(why.lines(plan, found)))
    return {"found": len(found)} | ({"numbers": [one.to_json() for one in found]} if session.quiet else {})


def _costs(plan: Plan, session: Session, *, each: bool) -> dict[str, Any]:
    """Print what the cells of a paper cost, each or in sum, and give the sums."""
    from noisyctl.cli.tables import show as show_table
    from noisyctl.costs import Probe
    from noisyctl.papers import estimate

    table, total = estimate.table(list(estimate.Estimate(plan)), Probe(session.start()), each=each)
    if not session.quiet:
        show_table(table, f"{plan.paper.tables.get('paper')}, {plan.budget.name} budget, on this device")
    return {
        "hours": round(total.hours, 1),
        "hours_to_do": round(total.hours_to_do, 1),
        "disk_gb": round(total.disk / 1e9, 2),
        "memory_gb": round(total.memory / 1e9, 2),
        "cells_without_hours": total.without_hours,
    }


def _seeds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise ParamsError(f"--seeds is {text!r}; give a number of seeds from 1 on")
    return int(text)


def _writes(out: Path) -> files.Writes:
    """A file for the pipeline of params.yaml; of a grid the two files in its folder."""
    places = [out] if out.suffix else [out / "cells.yaml", out / "dvc.yaml"]
    return files.Writes(dict.fromkeys(places, project.FORM))


def _inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
    paper = given["paper"]
    out = project.PLANS / Path(paper).name if paper else given["out"]
    return Inputs(
        extra["file"],
        layout,
        out if given["why"] is None else None,
        paper,
        tuple(map(str, given["table"])),
        given["budget"],
        _seeds(given["seeds"]),
        given["why"],
        tuple(given["only"]),
    )


STAGE = Stage(
    name="plan",
    summary="Plan the runs of a paper's tables, or of a grid: the cells, which are one command each, and what they cost.",
    example="noisyctl plan scanmix --table 3 --budget smoke",
    run=run,
    show=show,
    inputs=_inputs,
    options=(
        Option(
            "paper",
            "a paper, of which a row says what answers a printed row; none: the pipeline of params.yaml",
            metavar="name",
            argument=True,
        ),
        Option("table", "printed tables of the paper [all]", multiple=True, metavar="name"),
        Option(
            "only",
            "of the tables only these rows, data sets or noises: row=NAME, dataset=NAME or noise=NAME, repeatable",
            multiple=True,
            metavar="name",
        ),
        Option("budget", "full, short or smoke", lambda layout: "full", metavar="name"),
        Option(
            "why",
            "only tell where a printed number is planned, trained and compared: its value, or words of its table",
            metavar="text",
        ),
        Option("seeds", "seeds per cell [the paper's, or the budget's; otherwise 1]", metavar="int"),
        Option(
            "out",
            "plans/NAME: plan a grid, all methods of --params-file; a file: cells of params.yaml",
            lambda layout: pipeline.CELLS,
            writes=_writes,
        ),
    ),
)
