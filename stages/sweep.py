"""Run the stale stages of a paper's plan or of any dvc.yaml several at a time, on this machine or on a SLURM cluster."""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from noisyctl.papers.project import Choice
from noisyctl.session import Session
from stages.warmup import PROFILES


@dataclass(frozen=True)
class Inputs:
    """`target` is a paper, a dvc.yaml, its folder or a stage; `choice` plans a paper's tables, budget and seeds."""

    target: str = ""
    jobs: int = 1
    slurm: bool = False
    slurm_set: tuple[str, ...] = ()
    gpus: str = ""
    dry_run: bool = False
    choice: Choice = field(default_factory=Choice)


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Plan what is a paper, and run what is stale. Raises NoisyctlError that lists the stages that failed."""
    from noisyctl.papers import project
    from noisyctl.sweep import engine

    target = project.prepare(inputs.target, inputs.choice, PROFILES)
    if inputs.dry_run:
        return _would_run(engine.would_run(target), session.quiet)
    options = engine.Options(inputs.jobs, inputs.slurm, inputs.slurm_set, inputs.gpus)
    return engine.run(target, options, session.scratch, session.quiet)


def _would_run(stale: dict[str, bool], quiet: bool) -> dict[str, Any]:
    if not quiet:
        for name, depends in stale.items():
            print(f"{name}{'  (if what it depends on changes)' if depends else ''}")
    return {"would_run": list(stale)}


def click_command() -> Any:
    """The Click command. It takes no params, for dvc.yaml names them all."""
    import typer

    text = "Run the stale stages of a paper's plan, or of a dvc.yaml, several at a time, here or on a SLURM cluster."
    example = "noisyctl sweep two_stage --table 3 --jobs 2"
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command("sweep", help=f"{text}\n\n\b\nExample:\n  {example}")
    def call(
        target: str = typer.Argument(
            "", help="a paper, or a dvc.yaml, its folder, or a stage, with all it depends on [.]"
        ),
        table: list[str] = typer.Option(
            [], metavar="name", help="printed table of the paper, repeatable [all]"
        ),
        only: list[str] = typer.Option(
            [],
            metavar="key=name",
            help="of the tables only these rows, data sets or noises: row=NAME, dataset=NAME or noise=NAME, repeatable",
        ),
        budget: str = typer.Option("", metavar="name", help="full, short or smoke [as planned, or full]"),
        seeds: int = typer.Option(
            0, min=0, show_default=False, help="seeds per cell [as planned, or the paper's or budget's]"
        ),
        jobs: int = typer.Option(0, min=0, show_default=False, help="most at a time [1, with --slurm 64]"),
        gpus: str = typer.Option("", metavar="0,1", help="GPUs that local jobs share in turn [all see all]"),
        slurm: bool = typer.Option(False, "--slurm", help="submit them to SLURM, through submitit"),
        slurm_set: list[str] = typer.Option(
            [], metavar="key=value", help="of sbatch: partition, time [minutes, 1440], gpus, ...; repeatable"
        ),
        dry_run: bool = typer.Option(False, "--dry-run", help="list what would run, in order"),
        as_json: bool = typer.Option(False, "--json", help="one line of JSON on stdout"),
    ) -> None:
        most = jobs or (64 if slurm else 1)
        choice = Choice(tuple(table), budget or None, seeds or None, tuple(only))
        inputs = Inputs(target, most, slurm, tuple(slurm_set), gpus, dry_run, choice)
        found = run(inputs, None, Session(quiet=as_json))
        if as_json:
            print(json.dumps(found, sort_keys=True))
        elif not dry_run:
            print("  ".join(f"{key} {value}" for key, value in found.items()), file=sys.stderr)

    return typer.main.get_command(app)
