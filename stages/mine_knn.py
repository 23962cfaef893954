"""Mine the nearest neighbors of every training image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from noisyctl.cli.stage import Option, Stage, one
from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.session import Session


class Params(Base):
    """`knn` in params.yaml."""

    k: int = param(20, "neighbors a sample [K]", source="ScanMix 4.2", ge=1)
    space: Literal["embeddings", "features"] = param(
        "embeddings", "array of features.zarr; features where it has no other", source="ScanMix code"
    )
    engine: Literal["auto", "faiss", "torch", "hnsw"] = param(
        "auto",
        "auto: exact, by faiss on a CPU where installed, else by torch; hnsw: a graph on the CPU that misses some",
        source="ours: exact as ScanMix's code; hnsw as in MixNN IV-C",
    )
    hnsw_links: int = param(32, "of a sample in the graph [M]", source="ours: recall", ge=2)
    hnsw_construction: int = param(
        200, "candidates kept while the graph is built [efConstruction]", source="ours: recall", ge=1
    )
    hnsw_search: int = param(200, "candidates kept in a search [ef]", source="ours: recall", ge=1)


@dataclass(frozen=True)
class Inputs:
    features: Path
    out: Path


def run(inputs: Inputs, params: Params, session: Session = Session()) -> dict[str, Any]:
    """Write neighbors.zarr."""
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import FEATURES, NEIGHBORS
    from noisyctl.parts import neighbors
    from noisyctl.runs import fresh
    from noisyctl.seeds import stream

    device = session.start()
    images = inputs.features.parent.parent / "images.zarr"  # where it lies by default
    if images.exists():
        made = fresh.label_free(images, inputs.features.parent, features=inputs.features)
        fresh.require([made["features"]])
    features = store.read(inputs.features, FEATURES)
    space = params.space if params.space in features else "features"
    rows = features.checked_rows(space)
    report = session.progress("mine-knn", "samples")
    if params.engine == "hnsw":
        engine = "hnsw"
        rng = stream(session.seed, "mine-knn", "recall")
        graph = {name: getattr(params, f"hnsw_{name}") for name in ("links", "construction", "search")}
        mined = neighbors.mine_hnsw(rows, params.k, rng, **graph, report=report)
    else:
        engine = neighbors.choose_engine(params.engine, device)
        mined = neighbors.mine(rows, params.k, params.engine, device=device, report=report)
    facts = {
        "k": params.k,
        "space": space,
        "metric": "cosine",
        "engine": engine,
        "recall": mined.recall,
    }
    made_from = {"features": features.digest}
    made_from["images"] = features.inputs.get("images", features.digest)
    store.write(
        inputs.out,
        NEIGHBORS,
        {"indices": mined.indices.cpu().numpy(), "similarity": mined.similarity.cpu().numpy()},
        params=params.model_dump(),
        inputs=made_from,
        attributes=facts,
    )
    return facts | {"samples": len(mined.indices), "out": str(inputs.out)}


STAGE = Stage(
    name="mine-knn",
    summary="Mine the nearest neighbors of every training image.",
    example="noisyctl mine-knn --k 20",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["features"], given["out"]),
    options=(
        Option("features", "features.zarr", lambda layout: layout.encoder / "features.zarr"),
        Option("out", "neighbors to write", lambda layout: layout.neighbors, writes=one("neighbors.zarr")),
    ),
    params=lambda file, layout, given: ("knn", "stages.mine_knn"),
    fields=("stages.mine_knn",),
)
