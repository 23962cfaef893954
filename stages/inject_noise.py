"""Make noisy labels from clean ones: the only bridge from truth to training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import LABELS, NOISE, TRUTH
from noisyctl.errors import ArtifactError
from stages.common import Option, Session, Stage


@dataclass(frozen=True)
class Inputs:
    kind: str
    truth: Path
    out: Path

    @property
    def facts(self) -> Path:
        """labels.zarr has noise.zarr beside it, any other L.zarr has L.noise.zarr."""
        name = "noise.zarr" if self.out.name == "labels.zarr" else f"{self.out.stem}.noise.zarr"
        return self.out.with_name(name)


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write labels and, beside them, the facts about their noise."""
    from noisyctl import noise
    from noisyctl.seeds import numpy_stream

    truth = store.read(inputs.truth, TRUTH)
    if "clean_labels" not in truth:
        raise ArtifactError(
            f"{inputs.truth} has no clean training labels, so no noise can be added; "
            "train on the given labels with --noise given"
        )
    clean, names = truth.array("clean_labels"), truth.attributes["class_names"]
    model = noise.load(inputs.kind)
    noisy = model.corrupt(clean, len(names), params, numpy_stream(session.seed, "inject-noise", inputs.kind))
    wrong, matrix = noise.measure(clean, noisy, len(names))
    digest = store.write(
        inputs.out,
        LABELS,
        {"noisy_labels": noisy},
        inputs={"images": truth.inputs["images"]},
        attributes={"class_names": names},
    )
    facts = {
        "noise": inputs.kind,
        "nominal_rate": params.rate,
        "measured_rate": float(wrong.mean()),
        "seed": session.seed,
    }
    store.write(
        inputs.facts,
        NOISE,
        {"transition_matrix": matrix, "is_mislabeled": wrong},
        params={"kind": inputs.kind, **params.model_dump()},
        inputs={"truth": truth.digest, "labels": digest},
        attributes=facts,
    )
    return facts | {"labels": str(inputs.out)}


STAGE = Stage(
    name="inject-noise",
    summary="Make noisy labels from clean ones.",
    example="noisyctl inject-noise --kind symmetric --rate 0.4 --exclude-true-class --seed 0 --out L.zarr",
    run=run,
    inputs=lambda given, layout, extra: Inputs(extra["kind"], given["truth"], given["out"]),
    options=(
        Option("kind", "noise model; without it, the block --noise of params.yaml", metavar="name"),
        Option("truth", "truth.zarr", lambda layout: layout.home / "truth.zarr"),
        Option("out", "labels to write", lambda layout: layout.labels, output=True),
    ),
    fields=("noisyctl.noise.symmetric", "noisyctl.noise.pairflip"),
)
