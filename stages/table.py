"""Put the metrics of many runs into one table, or beside the numbers that a paper prints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files, metrics
from noisyctl.cli.stage import Option, Stage
from noisyctl.errors import ArtifactError
from noisyctl.session import Session

TABLES = files.Folder("tables of a paper")
FORMS = {  # what the first line of a table of ours begins with
    "md": files.Text(("<!-- written by noisyctl table",)),
    "csv": files.Text(("method,noise nominal,", "method,data set,", "method,seeds,")),
    "tex": files.Text(("% written by noisyctl table",)),
}


@dataclass(frozen=True)
class Inputs:
    """`metrics` are files, or folders that hold metrics.json in folders of their own."""

    metrics: tuple[Path, ...]
    out: Path | None
    paper: str | None = None
    tables: tuple[str, ...] = ()


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the table as Markdown, CSV and LaTeX beside each other, and print it."""
    from noisyctl.cli.tables import show
    from noisyctl.evaluation.tables import table

    if inputs.paper is not None:
        return _paper(inputs, session)
    assert inputs.out is not None
    found = table(_runs(inputs.metrics))
    _write(inputs.out, found)
    if not session.quiet:
        show(found, elsewhere=str(inputs.out.with_suffix(".csv")))
    return {"rows": len(found) - 1, "out": str(inputs.out.with_suffix(".md"))}


def _runs(places: tuple[Path, ...]) -> dict[str, Any]:
    """The metrics of every run by its name. Raises ArtifactError where two files have a run of the same name."""
    runs: dict[str, Any] = {}
    for place in places:
        below = sorted(place.glob("*/metrics.json")) if place.is_dir() else []
        for path in below or [place]:
            found = metrics.read(path)["runs"]
            if twice := sorted(runs.keys() & found.keys()):
                raise ArtifactError(f"{path} and an earlier file both hold {twice[0]}; make a table for each")
            runs |= found
    return runs


def _paper(inputs: Inputs, session: Session) -> dict[str, Any]:
    """A folder with one table for each that the paper prints, of what its plan holds and has been evaluated."""
    from noisyctl.cli.tables import show
    from noisyctl.papers import compare, project
    from noisyctl.papers.comparison import comparison

    plan = project.read_plan(inputs.paper or "")
    found = compare.by_table(plan, inputs.tables)
    out = inputs.out or Path(plan.about["out"])
    title = f"{plan.paper.tables.get('paper')}, Table {{}}, {plan.budget.name} budget"
    with files.publish(out, TABLES) as partial:
        partial.mkdir()
        for name, numbers in found.items():
            table, file = comparison([one for _, one in numbers]), plan.table_file(name).name
            _write(partial / file, table)
            if not session.quiet:
                show(table, title.format(name), str((out / file).with_suffix(".csv")))
        TABLES.seal(partial)
    printed = [one for numbers in found.values() for number, one in numbers if not number.beside]
    ran = sum(bool(one.values) for one in printed)
    return {"printed": len(printed), "measured": ran, "missing": len(printed) - ran, "out": str(out)}


def _write(path: Path, table: list[list[str]]) -> None:
    from noisyctl.evaluation.tables import render

    for kind in FORMS:
        with files.publish(path.with_suffix(f".{kind}"), FORMS[kind]) as partial:
            partial.write_text(render(table, kind))


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
        tuple(given["metrics"]) or (layout.trained / "results" / "metrics.json",),
        given["out"] or (None if given["paper"] else layout.home / "table.md"),
        given["paper"],
        tuple(map(str, given["table"])),
    ),
    options=(
        Option(
            "metrics",
            "metrics.json of evaluate, or a folder that holds several [data/SET/results/metrics.json]",
            multiple=True,
        ),
        Option("paper", "a paper: its printed tables, and what was measured", metavar="name"),
        Option("table", "printed tables of the paper [those planned]", multiple=True, metavar="name"),
        Option(
            "out",
            "table to write; .md, .csv and .tex [data/SET/table.md]; with --paper a folder of tables",
            writes=_writes,
        ),
    ),
)
