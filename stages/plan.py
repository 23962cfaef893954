"""Write cells.yaml: one cell a warm-up and a run, from params.yaml and what each method needs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from noisyctl.artifacts import store
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from stages.common import Layout, Option, Session, Stage

HEAD = "# Made by `noisyctl plan` from params.yaml and the NEEDS of each method; a test keeps it in step.\n"


@dataclass(frozen=True)
class Inputs:
    file: ParamsFile
    layout: Layout
    out: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write the cells that dvc.yaml runs."""
    found = cells(inputs.file, inputs.layout)
    with store.publish(inputs.out) as partial:
        partial.write_text(HEAD + yaml.safe_dump(found, sort_keys=True, width=200))
    return {name: len(group) for name, group in found.items()} | {"out": str(inputs.out)}


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
            profile = (values or {}).get("warmup_profile", defaults["warmup_profile"])
            runs[f"{method}-{at.cell}"] = about | {
                "method": method,
                "warmup": str(at.warmup(profile) if spec.needs.warmup else at.labels),
                "neighbors": str(at.neighbors if spec.needs.neighbors else at.labels),
                "clusters": str(at.clusters if spec.needs.clusters else at.labels),
            }
            if spec.needs.warmup:
                start = _profile(file, profile).get("start", "random")
                places = {"encoder": at.encoder_file, "clusters": at.clusters}
                cell = about | {"profile": profile, "start": str(places.get(start, at.labels))}
                warmups[f"{profile}-{at.cell}"] = cell
    return {"warmup_cells": warmups, "train_cells": runs}


def _profile(file: ParamsFile, name: str) -> dict[str, Any]:
    block = file.get(f"warmups.{name}")
    if block is None and name != "default":
        raise ParamsError(f"{file.path}: no block warmups.{name}, which a method starts from; write one")
    return dict(block or {})


STAGE = Stage(
    name="plan",
    summary="Write cells.yaml, the list of warm-ups and runs that dvc.yaml makes.",
    example="noisyctl plan",
    run=run,
    inputs=lambda given, layout, extra: Inputs(extra["file"], layout, given["out"]),
    options=(Option("out", "file to write", lambda layout: Path("cells.yaml"), output=True),),
)
