"""Train one method on noisy labels."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisyctl import methods
from noisyctl.cli.names import tell_renamed
from noisyctl.cli.options import group
from noisyctl.cli.stage import RUN, Option, Stage
from noisyctl.cli.types import WholeNumber
from noisyctl.layout import Layout
from noisyctl.params import module_spec
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    method: str
    labels: Path
    out: Path
    images: Path | None = None
    warmup: Path | None = None
    neighbors: Path | None = None
    clusters: Path | None = None
    verified: Path | None = None
    params_file: str = "params.yaml"  # for the commands that a message names
    features: Path | None = None  # where networks see vectors instead of images
    test_every: int = 1


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one run."""
    from noisyctl.runs.needed import Sources
    from noisyctl.runs.train_method import train

    sources = Sources(
        inputs.labels,
        inputs.images,
        inputs.warmup,
        inputs.neighbors,
        inputs.clusters,
        inputs.verified,
        inputs.params_file,
        inputs.features,
    )

    def note(text: str) -> None:
        print(text, file=sys.stderr)

    session = replace(session, test_every=inputs.test_every)
    return train(inputs.method, sources, inputs.out, params, session, note) | {"out": str(inputs.out)}


def click_command() -> Any:
    """`train-method`: one subcommand a method file, listed without importing them."""
    return group("train-method", "Train one method on noisy labels.", methods.available(), stage)


def stage(name: str) -> Stage:
    """The command `train-method METHOD`. What the method does not need is not read. Raises ParamsError for none."""
    module, method = methods.module_of(name), methods.present_name(name)
    if method != name:
        tell_renamed(name)
    of_method, summary = module_spec(module).needs, module_spec(module).summary

    def inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
        needs = of_method.under(extra["params"].model_dump())
        return Inputs(
            method,
            given["labels"],
            given["out"] or layout.run(method),
            given["images"],
            (given["warmup"] or layout.warmup(extra["params"].warmup_profile)) if needs.warmup else None,
            given["neighbors"] if needs.neighbors else None,
            given["clusters"] if needs.clusters else None,
            given["verified"],
            extra["file"].path,
            layout.vectors,
            1 if given["test_every"] is None else given["test_every"],
        )

    return Stage(
        name=method,
        group="train-method",
        summary=summary,
        example=f"noisyctl train-method {method} --dry-run",
        run=run,
        inputs=inputs,
        options=(
            Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
            Option("features", "features.zarr, for networks that see vectors [with --input features]"),
            Option("labels", "labels.zarr", lambda layout: layout.labels),
            Option("warmup", "folder of a warm-up [data/SET/warmup/PROFILE/NOISE-sSEED]"),
            Option("neighbors", "neighbors.zarr", lambda layout: layout.neighbors),
            Option("clusters", "clusters.safetensors", lambda layout: layout.clusters),
            Option("verified", "verified.zarr: samples whose labels you have checked"),
            Option(
                "test_every",
                "predict the test images after every N epochs and the last; 0: after the last alone [1]",
                type=WholeNumber(),
            ),
            Option(
                "out",
                "folder to write [data/SET/runs/METHOD/NOISE-sSEED]",
                writes=RUN,
            ),
        ),
        params=lambda file, layout, given: (f"methods.{method}", module),
        fields=(module,),
    )
