"""Tell which artifacts exist, which are stale, and the one command that comes next."""

from dataclasses import dataclass
from typing import Any

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, NEIGHBORS, TRACE, TRUTH
from noisyctl.errors import ArtifactError
from stages.common import Layout, Session, Stage


@dataclass(frozen=True)
class Inputs:
    layout: Layout


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Each artifact of the default layout: missing, damaged, stale or there; and what to run next."""
    layout = inputs.layout
    images = layout.home / "images.zarr"
    chain = [
        (images, IMAGES, f"noisyctl prepare-data --dataset {layout.dataset}"),
        (layout.home / "truth.zarr", TRUTH, ""),
        (layout.labels, LABELS, "noisyctl inject-noise"),
        (layout.encoder / "features.zarr", FEATURES, f"noisyctl pretrain-{layout.pretrain}"),
        (layout.neighbors, NEIGHBORS, "noisyctl mine-knn"),
        (layout.warmup("default") / "trace.zarr", TRACE, "noisyctl warmup"),
    ]
    runs = sorted((layout.home / "runs").rglob("trace.zarr"))
    if runs:  # of methods that need none, or whose warm-ups have other names
        chain.pop()
    flags = "".join(
        f" --{name} {getattr(layout, name)}"
        for name in ("dataset", "noise", "seed")
        if getattr(layout, name) != getattr(Layout(), name)
    )
    found: dict[str, Any] = {}
    command, digest = "", ""
    for path, kind, make in [*chain, *((p, TRACE, "noisyctl train-method NAME") for p in runs)]:
        found[str(path)] = state = _state(path, kind, digest)
        if kind is IMAGES and state == "there":
            digest = store.read(path, kind).digest
        if state != "there" and make and not command:
            command = make
    judged = (layout.home / "results" / "metrics.json").exists()
    after = "noisyctl table" if judged else "noisyctl evaluate" if runs else "noisyctl train-method NAME"
    found["next"] = (command or after).replace(f" --dataset {layout.dataset}", "") + flags
    return found


def _state(path: Any, kind: store.Kind, images: str) -> str:
    if not path.exists():
        return "missing"
    try:
        artifact = store.read(path, kind)
    except ArtifactError as error:
        return f"damaged: {error}"
    made_from = artifact.inputs.get("images", images)
    return "there" if not images or made_from == images else "stale: made from other images"


STAGE = Stage(
    "status",
    "Tell which artifacts exist, which are stale, and the one command that comes next.",
    "noisyctl status",
    run,
    lambda given, layout, extra: Inputs(layout),
)
