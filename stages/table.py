"""Put the metrics of many runs into one table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import store
from noisyctl.errors import ArtifactError
from stages.common import Option, Session, Stage


@dataclass(frozen=True)
class Inputs:
    metrics: tuple[Path, ...]
    out: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the table as Markdown, CSV and LaTeX beside each other, and print it."""
    from noisyctl.evaluation.tables import render
    from noisyctl.evaluation.tables import table as tabulate

    runs: dict[str, Any] = {}
    for path in inputs.metrics:
        try:
            runs |= json.loads(path.read_text())["runs"]
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path} is not a metrics.json ({error}); make it with `noisyctl evaluate`"
            ) from error
    table = tabulate(runs)
    for kind in ("md", "csv", "tex"):
        with store.publish(inputs.out.with_suffix(f".{kind}")) as partial:
            partial.write_text(render(table, kind))
    if not session.quiet:
        _print(table)
    return {"rows": len(table) - 1, "out": str(inputs.out.with_suffix(".md"))}


def _print(table: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    head, *rows = table
    for column in head:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(stderr=True)
    Console(stderr=True, width=max(console.width, 140)).print(shown)


STAGE = Stage(
    name="table",
    summary="Put the metrics of many runs into one table.",
    example="noisyctl table --metrics data/digits/results/metrics.json --out table.md",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        tuple(given["metrics"]) or (layout.home / "results" / "metrics.json",), given["out"]
    ),
    options=(
        Option("metrics", "metrics.json of evaluate [data/SET/results/metrics.json]", multiple=True),
        Option(
            "out", "table to write; .md, .csv and .tex", lambda layout: layout.home / "table.md", output=True
        ),
    ),
)
