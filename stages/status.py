"""Tell which artifacts exist, which are stale, and the one command that comes next."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyctl.cli.cures import Chosen, complete
from noisyctl.cli.made import params_now
from noisyctl.cli.stage import Stage
from noisyctl.errors import ArtifactError
from noisyctl.layout import Layout
from noisyctl.session import Session

if TYPE_CHECKING:  # numpy, which it imports, would make --help slow
    from noisyctl.runs import fresh

THERE, MISSING = "there", "missing"
CALLED = {  # what people call the artifacts, by the names of their files
    "images": "images",
    "paths": "paths of the photos",
    "truth": "clean labels",
    "features": "features",
    "neighbors": "neighbors",
    "clusters": "clusters",
    "encoder": "encoder",
    "networks": "warm-up",
}


@dataclass(frozen=True)
class Inputs:
    layout: Layout


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Each artifact of the default layout by its path: missing, damaged, stale or there; and what to run `next`.

    `next` is empty where every run is judged and in the table.
    """
    from noisyctl.runs import fresh

    layout = inputs.layout
    headers = fresh.Headers(outdated=lambda place, digest: _outdated(session, place, digest))
    found: dict[str, Any] = {}
    command = ""
    artifacts = _made(layout)
    for each in artifacts:
        wrong = fresh.findings(each, headers)
        found[str(each.path)] = _in_words(wrong)
        if wrong and not command and each.command:
            command = wrong[0].made.command
    runs = [each for each in artifacts if each.name == "trace" and "train-method" in each.command]
    command = command or _after(layout, runs, headers)
    found["next"] = complete(f"`{command}`", _chosen(layout)).strip("`")
    return found


def _after(layout: Layout, runs: Sequence[fresh.Made], headers: fresh.Headers) -> str:
    """The command that comes when all that lies there is fresh: train, judge, or make the table; "" where all is done."""
    from noisyctl.artifacts import metrics
    from noisyctl.evaluation.tables import render, table

    if not runs:
        return "noisyctl train-method NAME"
    try:
        judged = metrics.read(layout.trained / "results" / "metrics.json")["runs"]
    except ArtifactError:
        return "noisyctl evaluate"
    for run in runs:
        about = headers.of(run) or {}
        of_run = judged.get(f"{about.get('method')}/{run.path.parent.name}") or {}
        if any(of_run.get(key) != about.get(key) for key in ("inputs", "params")):
            return "noisyctl evaluate"
    place = layout.home / "table.md"
    in_table = place.is_file() and place.read_text(encoding="utf-8") == render(table(judged), "md")
    return "" if in_table else "noisyctl table"


def _outdated(session: Session, place: Path, digest: str) -> tuple[str, str] | None:
    """Why the command that made an artifact would make another one today, and that command; see noisyctl/runs/record.py."""
    from noisyctl.runs import record

    found = record.read(session.scratch, place, digest)
    if found is None:
        return None
    why = record.changes(found, params_now(found))
    return (why, found.shown) if why else None


def _made(layout: Layout) -> list[fresh.Made]:
    """What the default layout holds, in the order of making."""
    from noisyctl.runs import fresh

    if (layout.home / "features.zarr").exists():
        return _made_of_features(layout)
    images = layout.home / "images.zarr"
    given = fresh.Made("images", images, "noisyctl prepare-data")
    made = [given]
    if (layout.home / "paths.zarr").exists():
        made.append(fresh.Made("paths", layout.home / "paths.zarr", given.command, (given,)))
    made.append(fresh.Made("truth", layout.home / "truth.zarr", "", (given,)))
    labels = fresh.labeled(images, layout.labels)
    label_free = fresh.label_free(images, layout.encoder)
    made += [labels, label_free["features"], label_free["neighbors"]]
    if layout.clusters.exists():
        made.append(label_free["clusters"])
    runs = sorted((layout.trained / "runs").rglob("trace.zarr"))
    for path in runs:
        made.append(_run(layout, path))
    if not runs:  # of methods that need none, or whose warm-ups have other names
        made.append(fresh.trained(labels, layout.warmup("default"), "noisyctl warmup"))
    return made


def _made_of_features(layout: Layout) -> list[fresh.Made]:
    """Of your own embeddings, which have no images."""
    from noisyctl.runs import fresh

    made = fresh.label_free(None, layout.home)
    labels = fresh.Made("labels", layout.labels, "noisyctl prepare-data")
    runs = [_run(layout, path) for path in sorted((layout.home / "runs").rglob("trace.zarr"))]
    return [made["features"], labels, made["neighbors"], *runs]


def _run(layout: Layout, trace: Any) -> fresh.Made:
    """A run, by its place: its method, its noise and its seed."""
    from noisyctl.runs import fresh

    method, cell = trace.parent.parent.name, trace.parent.name
    noise, _, seed = cell.rpartition("-s")
    at = replace(layout, noise=noise or "given", seed=int(seed) if seed.isdecimal() else 0)
    options = f" --noise {at.noise} --seed {at.seed}" if noise else ""
    images = layout.home / "images.zarr"
    labels = fresh.labeled(images if images.exists() else None, at.labels)
    return fresh.trained(labels, trace.parent, f"noisyctl train-method {method}{options}")


def _in_words(wrong: list[fresh.Finding]) -> str:
    if not wrong:
        return THERE
    last = wrong[-1]
    return MISSING if last.state == "missing" else f"{last.state}: {last.why}"


def _text(found: Mapping[str, str]) -> str:
    """The result for people: first what is wrong and how, then what is as it should be, and at the end what to run next."""
    states = {Path(place): state for place, state in found.items() if place != "next"}
    names = {place: _called(place) for place in states}
    width = max(map(len, names.values()), default=0)
    wrong = {p: s for p, s in states.items() if s != THERE and not _may_lack(p, states)}
    lines = [f"{len(wrong)} of {len(states)} artifacts are not as they should be:"] if wrong else []
    for place, state in wrong.items():
        lines += _wrapped(f"  {names[place]:{width}}  {state}", indent=width + 4)
        lines.append(f"{'':{width + 4}}{place}")
    if there := [place for place in states if place not in wrong]:
        lines.append("Up to date:" if wrong else "Everything is up to date:")
    for place in there:
        said = place if states[place] == THERE else "none, so nobody knows how many labels are wrong"
        lines.append(f"  {names[place]:{width}}  {said}")
    done = "All done: every run is judged (metrics.json) and in the table (table.md)."
    return "\n".join([*lines, f"Next: {found['next']}" if found["next"] else done])


def _called(place: Path) -> str:
    """What people call an artifact: a run by its method and its cell, such as `run of elr, sym60-s0`."""
    cell, above = place.parent.name, place.parent.parent
    if place.stem == "labels":
        return f"noisy labels, {cell}" if above.name == "noise" else "given labels"
    if place.stem != "trace":
        return CALLED.get(place.stem, place.stem)
    return f"{'warm-up' if above.parent.name == 'warmup' else 'run of'} {above.name}, {cell}"


def _may_lack(place: Path, states: Mapping[Path, str]) -> bool:
    """Whether an artifact is missing and need not be there: photos of one's own have no clean labels."""
    lacks_truth = place.stem == "truth" and states[place] == MISSING
    return lacks_truth and states.get(place.with_name("images.zarr")) == THERE


def _wrapped(line: str, indent: int) -> list[str]:
    """The line, on a terminal in several that fit it; a word is never cut."""
    if not sys.stdout.isatty():
        return [line]
    wrapper = textwrap.TextWrapper(shutil.get_terminal_size().columns, subsequent_indent=indent * " ")
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(line)


def _chosen(layout: Layout) -> Chosen:
    usual = Layout()
    names = ("dataset", "noise", "pretrain", "input", "seed")
    choices = {
        name: str(getattr(layout, name)) for name in names if getattr(layout, name) != getattr(usual, name)
    }
    return Chosen(choices, noise=layout.noise, pretrain=layout.pretrain, home=layout.home)


STAGE = Stage(
    "status",
    "Tell which artifacts exist, which are stale, and the one command that comes next.",
    "noisyctl status",
    run,
    lambda given, layout, extra: Inputs(layout),
    answers=True,
    text=_text,
)
