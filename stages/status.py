"""Tell which artifacts exist, which are stale, and the one command that comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisyctl.cli.cures import Chosen, complete
from noisyctl.cli.made import params_now
from noisyctl.cli.stage import Stage
from noisyctl.layout import Layout
from noisyctl.session import Session

if TYPE_CHECKING:  # numpy, which it imports, would make --help slow
    from noisyctl.runs import fresh


@dataclass(frozen=True)
class Inputs:
    layout: Layout


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Each artifact of the default layout: missing, damaged, stale or there; and what to run next."""
    from noisyctl.runs import fresh

    layout = inputs.layout
    headers = fresh.Headers(outdated=lambda place, digest: _outdated(session, place, digest))
    found: dict[str, Any] = {}
    command = ""
    artifacts = _made(layout)
    for each in artifacts:
        wrong = fresh.findings(each, headers)
        found[str(each.path)] = _in_words(each, wrong) or "there"
        if wrong and not command and each.command:
            command = wrong[0].made.command
    has_runs = any(each.name == "trace" and "train-method" in each.command for each in artifacts)
    judged = (layout.trained / "results" / "metrics.json").exists()
    after = "noisyctl table" if judged else "noisyctl evaluate" if has_runs else "noisyctl train-method NAME"
    found["next"] = complete(f"`{command or after}`", _chosen(layout)).strip("`")
    return found


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


def _in_words(made: fresh.Made, wrong: list[fresh.Finding]) -> str:
    if not wrong:
        return ""
    last = wrong[-1]
    if last.state == "missing":
        return "missing"
    return f"{last.state}: {last.why}"


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
)
