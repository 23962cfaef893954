"""From features to the nearest neighbors of every training sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.session import Session


class Params(Base):
    """`knn` in params.yaml."""

    k: int = param(20, "neighbors of each sample [K]", source="ScanMix 4.2", ge=1)
    space: Literal["embeddings", "features"] = param(
        "embeddings", "array of features.zarr; features where it has no other", source="ScanMix code"
    )
    engine: Literal["auto", "faiss", "torch", "hnsw"] = param(
        "auto",
        "auto: exact, by faiss on a CPU where installed, else by torch; hnsw: a graph on the CPU that misses some",
        source="ours: exact as ScanMix's code; hnsw as in MixNN IV-C",
    )
    hnsw_links: int = param(32, "links of a sample in the graph [M]", source="ours: recall", ge=2)
    hnsw_construction: int = param(
        200, "candidates kept while the graph is built [efConstruction]", source="ours: recall", ge=1
    )
    hnsw_search: int = param(200, "candidates kept in a search [ef]", source="ours: recall", ge=1)


def mine(features_path: Path, out: Path, params: Params, session: Session) -> dict[str, Any]:
    """Write neighbors.zarr to `out` and give the facts about it: k, space, metric, engine, recall, samples.

    Where images.zarr lies in the default place, stale features are refused with an ArtifactError.
    """
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import FEATURES
    from noisyctl.runs import fresh
    from noisyctl.runs.blocks import Blocks
    from noisyctl.training.scratch import hold

    device = session.start()  # a device that is not there is told first
    images = features_path.parent.parent / "images.zarr"  # where it lies by default
    if images.exists():
        made = fresh.label_free(images, features_path.parent, features=features_path)
        fresh.require([made["features"]])
    features = store.read(features_path, FEATURES)
    space = params.space if params.space in features else "features"
    made_of = params.model_dump() | {"features": features.digest, "seed": session.seed, "device": str(device)}
    with hold(session.scratch, "mine-knn", made_of, out) as scratch:
        blocks = Blocks(scratch, "queries")
        mined, engine = _mined(features.checked_rows(space), params, session, device, blocks)
        return _write(out, mined, engine, features, space, params)


def _write(out: Path, mined: Any, engine: str, features: Any, space: str, params: Params) -> dict[str, Any]:
    """Write neighbors.zarr and give the facts about it."""
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import NEIGHBORS

    facts = {
        "k": params.k,
        "space": space,
        "metric": "cosine",
        "engine": engine,
        "recall": mined.recall,
    }
    made_from = {"features": features.digest}
    made_from["images"] = features.inputs.get("images", features.digest)
    arrays = {"indices": mined.indices.cpu().numpy(), "similarity": mined.similarity.cpu().numpy()}
    about = {"params": params.model_dump(), "inputs": made_from, "attributes": facts}
    store.write(out, NEIGHBORS, arrays, **about)
    return facts | {"samples": len(mined.indices)}


def _mined(rows: Any, params: Params, session: Session, device: Any, blocks: Any) -> tuple[Any, str]:
    """The neighbors, and the engine that found them. Answers that `blocks` holds are not searched for again."""
    from noisyctl.parts import neighbors
    from noisyctl.seeds import stream

    def keep(number: int, answer: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        found = blocks.kept(number, lambda: dict(zip(("indices", "similarity"), answer(), strict=True)))
        return found["indices"].to(device), found["similarity"].to(device)

    report = session.progress("mine-knn", "samples")
    if params.engine == "hnsw":
        rng = stream(session.seed, "mine-knn", "recall")
        graph = {name: getattr(params, f"hnsw_{name}") for name in ("links", "construction", "search")}
        return neighbors.mine_hnsw(rows, params.k, rng, **graph, report=report, keep=keep), "hnsw"
    engine = neighbors.choose_engine(params.engine, device)
    mined = neighbors.mine(rows, params.k, params.engine, device=device, report=report, keep=keep)
    return mined, engine
