"""Make noisy labels from clean ones: the only bridge from truth to training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts.files import Writes
from noisyctl.cli.stage import Option, Stage, block_of, known_kind, modules_in
from noisyctl.cli.types import WholeNumber
from noisyctl.config import ParamsFile
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


def _params(file: ParamsFile, layout: Layout, given: Mapping[str, Any]) -> tuple[str, str]:
    """The block of the noise, if it has one, and the module of its kind. Raises ParamsError where none is named."""
    from noisyctl import noise

    if given["kind"]:
        return "", known_kind(noise.REGISTRY, given["kind"], file, "")
    if layout.noise == "given":
        raise ParamsError(
            "which noise? give --kind symmetric --rate 0.4 --exclude-true-class, or --noise with a block of `noises:`"
        )
    block = block_of(file, "noises", layout.noise)
    kind = file.block(block).values.get("kind")
    if kind is None:
        raise ParamsError(f"{file.where(block)}: {block}.kind is missing; write kind: symmetric")
    return block, known_kind(noise.REGISTRY, kind, file, block)


def _inputs(given: Mapping[str, Any], layout: Layout, extra: Mapping[str, Any]) -> Inputs:
    from noisyctl import noise

    images = given["images"] if noise.load(extra["kind"]).NEEDS else None
    return Inputs(extra["kind"], given["truth"], given["out"], images, given["verified_per_class"])


def _writes(out: Path) -> Writes:
    """The labels, and beside them the facts about their noise and the verified labels."""
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import LABELS, NOISE, VERIFIED

    kinds = {out: LABELS, beside(out, "noise"): NOISE, beside(out, "verified"): VERIFIED}
    return Writes({path: store.Form(kind) for path, kind in kinds.items()})


STAGE = Stage(
    name="inject-noise",
    summary="Make noisy labels from clean ones.",
    example="noisyctl inject-noise --kind symmetric --rate 0.4 --exclude-true-class --seed 0 --out L.zarr",
    run=run,
    inputs=_inputs,
    options=(
        Option("kind", "noise model; without it, the block --noise of params.yaml", type=str),
        Option("truth", "truth.zarr", lambda layout: layout.home / "truth.zarr"),
        Option("images", "images.zarr, where the noise needs it", lambda layout: layout.home / "images.zarr"),
        Option("out", "labels to write", lambda layout: layout.labels, writes=_writes),
        Option(
            "verified_per_class",
            "also write verified.zarr: so many samples of each class with their clean labels",
            type=WholeNumber(1),
        ),
    ),
    params=_params,
    by_kind=True,
    fields=modules_in("noisyctl.noise"),
)
