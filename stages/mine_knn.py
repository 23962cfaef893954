"""Mine the nearest neighbors of every training image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from noisyctl.params import Params as Base
from noisyctl.params import param
from stages.common import Option, Session, Stage


class Params(Base):
    """`knn` in params.yaml."""

    k: int = param(20, "neighbors a sample [K]", source="ScanMix 4.2", ge=1)
    space: Literal["embeddings", "features"] = param(
        "embeddings", "array of features.zarr", source="ScanMix code"
    )
    engine: Literal["auto", "faiss", "torch"] = param(
        "auto", "faiss on a CPU where installed, else torch", source="ours: speed"
    )


@dataclass(frozen=True)
class Inputs:
    features: Path
    out: Path


def run(inputs: Inputs, params: Params, session: Session = Session()) -> dict[str, Any]:
    """Write neighbors.zarr."""
    import torch

    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import FEATURES, NEIGHBORS
    from noisyctl.parts import neighbors

    device = session.start()
    features = store.read(inputs.features, FEATURES)
    values = torch.as_tensor(features.array(params.space)).to(device)
    indices, similarity = neighbors.mine(values, params.k, params.engine)
    engine = neighbors.choose_engine(params.engine, device)
    facts = {"k": params.k, "space": params.space, "metric": "cosine", "engine": engine, "recall": 1.0}
    made_from = {"features": features.digest}
    made_from["images"] = features.inputs.get("images", features.digest)
    store.write(
        inputs.out,
        NEIGHBORS,
        {"indices": indices.cpu().numpy(), "similarity": similarity.cpu().numpy()},
        params=params.model_dump(),
        inputs=made_from,
        attributes=facts,
    )
    return facts | {"samples": len(values), "out": str(inputs.out)}


STAGE = Stage(
    name="mine-knn",
    summary="Mine the nearest neighbors of every training image.",
    example="noisyctl mine-knn --k 20",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["features"], given["out"]),
    options=(
        Option("features", "features.zarr", lambda layout: layout.encoder / "features.zarr"),
        Option("out", "neighbors to write", lambda layout: layout.neighbors, output=True),
    ),
    params=lambda file, layout, given: ("knn", "stages.mine_knn"),
    fields=("stages.mine_knn",),
)
