"""The cells of the demonstration: the warm-ups and runs of the methods in params.yaml, for the dvc.yaml beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from noisyctl.layout import Layout
from noisyctl.methods import spec_of
from noisyctl.papers.printed import GIVEN

Profiles = Mapping[str, Mapping[str, Any]]


def cells(file: ParamsFile, layout: Layout, presets: Profiles) -> dict[str, dict[str, dict[str, Any]]]:
    """Warm-ups and runs by name, for every noise and method of the file and the seed of the layout.

    Without noises the labels are those that come with the data set.
    A path that a cell does not need repeats the path of its labels. `presets` are warm-up profiles that need no block.
    """
    warmups: dict[str, dict[str, Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    for noise in file.get("noises") or (GIVEN,):
        at = replace(layout, noise=noise)
        about = {"noise": noise, "seed": layout.seed, "labels": str(at.labels)}
        for method, values in (file.get("methods") or {}).items():
            needs = spec_of(method).needs.under(values or {})
            name = profile_of(method, values or {})
            runs[f"{method}-{at.cell}"] = about | {
                "method": method,
                "warmup": str(at.warmup(name) if needs.warmup else at.labels),
                "neighbors": str(at.neighbors if needs.neighbors else at.labels),
                "clusters": str(at.clusters if needs.clusters else at.labels),
            }
            if needs.warmup:
                start = profile(file, name, presets).get("start", "random")
                places = {"encoder": at.encoder_file, "clusters": at.clusters}
                cell = about | {"profile": name, "start": str(places.get(start, at.labels))}
                warmups[f"{name}-{at.cell}"] = cell
    return {"warmup_cells": warmups, "train_cells": runs}


def cells_of_seeds(
    file: ParamsFile, layout: Layout, presets: Profiles, seeds: range
) -> dict[str, dict[str, Any]]:
    """The cells of several seeds, group by group."""
    of_seeds = [cells(file, replace(layout, seed=seed), presets) for seed in seeds]
    return {group: {k: v for found in of_seeds for k, v in found[group].items()} for group in of_seeds[0]}


def profile_of(method: str, values: Mapping[str, Any]) -> str:
    """The name of the warm-up profile that a method starts from."""
    defaults = {field.name: field.default for field in spec_of(method).fields}
    return str(values.get("warmup_profile", defaults["warmup_profile"]))


def profile(file: ParamsFile, name: str, presets: Profiles) -> dict[str, Any]:
    """The params of a warm-up profile. Raises ParamsError where the file has no such block, and there is no preset."""
    block = file.get(f"warmups.{name}")
    if block is None and name not in presets:
        raise ParamsError(f"{file.path}: no block warmups.{name}, which a method starts from; write one")
    return {**presets.get(name, {}), **(block or {})}
