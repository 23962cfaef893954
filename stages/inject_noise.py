"""Make noisy labels from clean ones: the only bridge from truth to training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import store
from noisyctl.artifacts.files import Writes
from noisyctl.artifacts.kinds import LABELS, NOISE, VERIFIED
from noisyctl.cli.stage import Option, Stage, modules_in
from noisyctl.errors import ParamsError
from noisyctl.layout import Layout, beside
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    """`images` are read only by a noise that needs them; `verified_per_class` None writes no verified.zarr."""

    kind: str
    truth: Path
    out: Path
    images: Path | None = None
    verified_per_class: int | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write labels and, beside them, the facts about their noise, and the verified labels that were asked for."""
    from noisyctl.runs.inject_noise import Places, inject

    places = Places(inputs.truth, inputs.out, inputs.images)
    found = inject(inputs.kind, places, params, session, verified_per_class=inputs.verified_per_class)
    return found | {"labels": str(inputs.out)}


def _inputs(given: Mapping[str, Any], layout: Layout, extra: Mapping[str, Any]) -> Inputs:
    from noisyctl import noise

    images = given["images"] if noise.load(extra["kind"]).NEEDS else None
    number = given["verified_per_class"]
    if number is not None and not (str(number).isdecimal() and int(str(number)) > 0):
        raise ParamsError(f"--verified-per-class is {str(number)!r}; give a whole number from 1 on")
    verified = None if number is None else int(str(number))
    return Inputs(extra["kind"], given["truth"], given["out"], images, verified)


def _writes(out: Path) -> Writes:
    """The labels, and beside them the facts about their noise and the verified labels."""
    kinds = {out: LABELS, beside(out, "noise"): NOISE, beside(out, "verified"): VERIFIED}
    return Writes({path: store.Form(kind) for path, kind in kinds.items()})


STAGE = Stage(
    name="inject-noise",
    summary="Make noisy labels from clean ones.",
    example="noisyctl inject-noise --kind symmetric --rate 0.4 --exclude-true-class --seed 0 --out L.zarr",
    run=run,
    inputs=_inputs,
    options=(
        Option("kind", "noise model; without it, the block --noise of params.yaml", metavar="name"),
        Option("truth", "truth.zarr", lambda layout: layout.home / "truth.zarr"),
        Option("images", "images.zarr, where the noise needs it", lambda layout: layout.home / "images.zarr"),
        Option("out", "labels to write", lambda layout: layout.labels, writes=_writes),
        Option(
            "verified_per_class",
            "also write verified.zarr: so many samples a class with clean labels",
            metavar="int",
        ),
    ),
    fields=modules_in("noisyctl.noise"),
)
