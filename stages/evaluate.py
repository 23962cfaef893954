"""Judge runs: metrics, curves, figures, and samples.csv, the list of labels to look at.

What metrics.json and plots/ hold is told in docs/metrics.md. A key is there where the trace and the truth allow it.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyctl.artifacts import files
from noisyctl.cli.stage import Option, Stage, one
from noisyctl.cli.types import WholeNumber
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.runs.question import Question as Inputs
from noisyctl.session import Session

if TYPE_CHECKING:
    from noisyctl.runs.evaluate import Listed

RESULTS = files.Folder("results of evaluate")
MOST_POINTS = 2000
MOST_RUNS_SHOWN = 3  # of more runs the paths and counts are printed, and no rows
SHOWN = ("rank", "id", "given", "suggested", "clean_probability", "verdict")


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write metrics.json, scores.json, plots, figures and samples/*.csv for every run found below the given folders."""
    from noisyctl.runs.evaluate import evaluate

    metrics, listed = evaluate(inputs, RESULTS, session)
    if not session.quiet:
        for line in itertools.chain.from_iterable(_in_words(listed)):
            print(line, file=sys.stderr)
    probed = {k: v for k, v in metrics.get("knn_probe", {}).items() if isinstance(v, float)}
    summary = {"runs": len(metrics["runs"]), "out": str(inputs.out), **probed}
    lists = {name: of_run.about for name, of_run in listed.items()}
    return summary | ({"lists": lists} if session.quiet else {})  # for --json


def _in_words(listed: Mapping[str, "Listed"]) -> Iterator[list[str]]:
    """Of each run: where its list lies, how many labels look wrong, whether to trust it, and its first rows."""
    from noisyctl.cli.tables import printable

    for name, run in listed.items():
        about = run.about
        yield [
            f"{name}: {about['called_wrong']} of {about['samples']} labels look wrong; the list, by rank: {about['path']}"
        ]
        if about["warning"] is not None:
            yield [f"  WARNING: this list is untrustworthy: {about['warning']}."]
        if len(listed) <= MOST_RUNS_SHOWN:
            has_paths = any(row["path"] for row in run.first)
            shown = ["path" if column == "id" and has_paths else column for column in SHOWN]
            rows = [shown, *([printable(str(row[column])) for column in shown] for row in run.first)]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            yield [
                f"  {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}".rstrip()
                for row in rows
            ]


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    def there(path: Path) -> Path | None:
        return path if path.exists() else None

    noise = tuple(given["noise_facts"]) or tuple(
        sorted([*layout.home.glob("noise/*/noise.zarr"), *layout.home.glob("noise.zarr")])
    )
    probed = given["encoder"] or (None if given["run"] else there(layout.encoder))
    if given["encoder"] and not (given["encoder"] / "encoder.safetensors").exists():
        raise ArtifactError(
            f"--encoder {given['encoder']} holds no encoder.safetensors; give the folder that "
            "`noisyctl pretrain-simclr` wrote"
        )
    runs = tuple(given["run"]) or (() if given["encoder"] else (layout.trained / "runs",))
    home = _home_of((*runs, given["out"])[0])
    return Inputs(
        runs,
        given["out"],
        given["truth"] or there(layout.home / "truth.zarr"),
        noise,
        probed if probed and (probed / "encoder.safetensors").exists() else None,
        given["images"] or there(layout.home / "images.zarr"),
        _numbers("loss-epochs", given["loss_epochs"]),
        given["tsne"] or 0,
        given["verified"] or there(layout.home / "verified.zarr"),
        given["paths"] or (home and there(home / "paths.zarr")),
        tuple(given["labels"]) or (_labels_of(home) if home else ()),
        bool(given["labels"]),
    )


def _labels_of(home: Path) -> tuple[Path, ...]:
    """The given labels of a data set, and those with noise."""
    return tuple(sorted([*home.glob("labels.zarr"), *home.glob("noise/*/labels.zarr")]))


def _home_of(run: Path) -> Path | None:
    """The data set's folder that a run lies in; None where it lies in none."""
    return next((folder for folder in run.absolute().parents if (folder / "images.zarr").exists()), None)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() for word in words):
        raise ParamsError(f"--{option} is {text!r}; write whole numbers from 0 on, such as 0,10")
    return tuple(map(int, words))


STAGE = Stage(
    name="evaluate",
    summary="Judge runs: metrics, curves, figures, and the list of labels to look at.",
    example="noisyctl evaluate --run data/digits/runs",
    run=run,
    inputs=_inputs,
    options=(
        Option("run", "folder of a run, or of several [data/SET/runs]", multiple=True),
        Option("truth", "truth.zarr [data/SET/truth.zarr where it exists]"),
        Option("verified", "verified.zarr: label accuracy on these where truth has no clean labels"),
        Option("noise_facts", "noise.zarr [those of the data set]", multiple=True),
        Option(
            "encoder",
            "folder of a pretraining, probed with k-NN; without --run it alone is judged [without both: data/SET/PRETRAIN]",
        ),
        Option(
            "labels",
            "labels.zarr that the runs must have been trained on [those of the data set that the run lies in]",
            multiple=True,
        ),
        Option("paths", "paths.zarr, for the lists of samples [beside the images, where the run lies below]"),
        Option("images", "images.zarr, for --tsne and the probe [data/SET/images.zarr where it exists]"),
        Option(
            "loss_epochs",
            "epochs whose losses are drawn beside the last one's, from 0",
            type=str,
            metavar="0,10",
        ),
        Option(
            "tsne",
            f"draw the features of so many samples, at most {MOST_POINTS}",
            type=WholeNumber(4, MOST_POINTS),
        ),
        Option("out", "folder to write", lambda layout: layout.trained / "results", writes=one(RESULTS)),
    ),
)
