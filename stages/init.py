"""Make a project of one's own in the current folder: params.yaml, the pipeline that `dvc repro` runs, git and DVC."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.errors import ParamsError
from noisyctl.session import Session
from stages.warmup import PROFILES


@dataclass(frozen=True)
class Inputs:
    """One of `photos`, `manifest` (with `photos`, if they lie elsewhere), `dataset` and `paper`."""

    photos: Path | None = None
    manifest: Path | None = None
    dataset: str | None = None
    paper: str | None = None
    git: bool = True


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Make the project, and tell what was made. Raises NoisyctlError."""
    from noisyctl.papers.begin import About, begin

    of_photos = inputs.photos is not None or inputs.manifest is not None
    if sum([of_photos, inputs.dataset is not None, inputs.paper is not None]) != 1:
        raise ParamsError("give one of --photos DIR, --manifest FILE, --dataset NAME and --paper NAME")
    about = About(inputs.photos, inputs.manifest, inputs.dataset, inputs.paper)
    begun = begin(about, PROFILES, git=inputs.git)
    if not session.quiet:
        print(
            "\n".join(["made", *(f"  {line}" for line in begun.made), "next", f"  {begun.next}"]),
            file=sys.stderr,
        )
    return {"made": list(begun.made), "next": begun.next.partition("  ")[0]}


def click_command() -> Any:
    """The Click command. It takes no params, for it writes the file that holds them."""
    import typer

    text = "Make a project of your own in this folder: params.yaml, and the pipeline from your data to a table and a list."
    example = "noisyctl init --photos photos"
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command("init", help=f"{text}\n\n\b\nExample:\n  {example}")
    def call(
        photos: Path = typer.Option(None, metavar="path", help="folder with a folder for each class"),
        manifest: Path = typer.Option(
            None,
            metavar="path",
            help="table of the photos, below --photos or its own folder: columns path, label [, split]",
        ),
        dataset: str = typer.Option(
            None,
            metavar="name",
            help="a data set with clean labels, such as cifar10, of which some are made wrong",
        ),
        paper: str = typer.Option(
            None, metavar="name", help="a paper: a copy of its rows in papers/, for you to edit"
        ),
        no_git: bool = typer.Option(
            False, "--no-git", help="make no git repository, and have DVC do without"
        ),
        as_json: bool = typer.Option(False, "--json", help="one line of JSON on stdout"),
    ) -> None:
        found = run(Inputs(photos, manifest, dataset, paper, not no_git), None, Session(quiet=as_json))
        if as_json:
            print(json.dumps(found, sort_keys=True))

    return typer.main.get_command(app)
