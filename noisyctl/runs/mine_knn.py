"""From features to the nearest neighbors of every training sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from noisyctl.errors import ParamsError
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
    import torch

    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import FEATURES
    from noisyctl.runs import fresh
    from noisyctl.runs.blocks import Blocks
    from noisyctl.runs.workers import workers_of
    from noisyctl.training.scratch import hold

    session.start()  # a device that is not there is told first
    if params.engine == "hnsw" and session.cluster:
        raise ParamsError(
            "--cluster: hnsw builds one graph in one process; choose an exact engine, or leave out one"
        )
    images = features_path.parent.parent / "images.zarr"  # where it lies by default
    if images.exists():
        made = fresh.label_free(images, features_path.parent, features=features_path)
        fresh.require([made["features"]])
    features = store.read(features_path, FEATURES)
    space = params.space if params.space in features else "features"
    made_of = params.model_dump() | {"features": features.digest, "seed": session.seed}
    with workers_of(session, "mine-knn") as workers:
        device = torch.device(workers.numerics("float32")["device"])
        with hold(session.scratch, "mine-knn", made_of | {"device": str(device)}, out) as scratch:
            blocks = Blocks(scratch, "queries")
            if params.engine == "hnsw":
                mined, engine = _mined_by_graph(features.checked_rows(space), params, session, device, blocks)
            else:
                mined, engine = _mined(features, space, params, session, device, workers, blocks)
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


def _mined(
    features: Any, space: str, params: Params, session: Session, device: Any, workers: Any, blocks: Any
) -> tuple[Any, str]:
    """The exact neighbors, and the engine that found them. Answers that `blocks` holds are not searched for again."""
    import torch

    from noisyctl.parts import neighbors
    from noisyctl.runs.workers import Work

    assert params.engine != "hnsw"
    engine = neighbors.choose_engine(params.engine, device)
    number = features.lazy(space).shape[0]
    neighbors.check_k(params.k, number - 1)
    asked = (features.path, features.digest, space, params.k, engine, workers.session())
    work = Work(open_search, asked, (features.path,))
    indices = torch.empty(number, params.k, dtype=torch.int32)
    similarity = torch.empty(number, params.k)
    parts, report = neighbors.parts_of(number), session.progress("mine-knn", "samples", kept=True)
    for at, found in workers.finished(work, blocks, parts, report):
        place = slice(parts[at].start, parts[at].stop)
        indices[place], similarity[place] = found["indices"], found["similarity"]
    return neighbors.Neighbors(indices, similarity), engine


def open_search(
    path: Path, digest: str, space: str, k: int, engine: Any, session: Session
) -> Callable[[range, Any], dict[str, Any]]:
    """What answers a block of queries. Raises ArtifactError where the features are not those of this digest."""
    import torch

    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import FEATURES
    from noisyctl.parts import neighbors

    device, features = session.start(), store.read(path, FEATURES)
    store.require_digest(features, digest)
    search = neighbors.exact_search(features.checked_rows(space), k, engine, device=device)

    def answered(part: range, tell: Any) -> dict[str, Any]:
        indices, similarity = search(torch.arange(part.start, part.stop))
        return {"indices": indices.int(), "similarity": similarity}

    return answered


def _mined_by_graph(rows: Any, params: Params, session: Session, device: Any, blocks: Any) -> tuple[Any, str]:
    """The neighbors by an HNSW graph. Answers that `blocks` holds are not searched for again."""
    from noisyctl.parts import neighbors
    from noisyctl.seeds import stream

    def keep(number: int, answer: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        found = blocks.kept(number, lambda: dict(zip(("indices", "similarity"), answer(), strict=True)))
        return found["indices"].to(device), found["similarity"].to(device)

    report = session.progress("mine-knn", "samples", kept=True)
    rng = stream(session.seed, "mine-knn", "recall")
    graph = {name: getattr(params, f"hnsw_{name}") for name in ("links", "construction", "search")}
    return neighbors.mine_hnsw(rows, params.k, rng, **graph, report=report, keep=keep), "hnsw"
