"""What a method starts from: whether it belongs together, and the exact commands that make what is missing."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noisyctl.errors import ArtifactError
from noisyctl.params import Needs
from noisyctl.runs import fresh
from noisyctl.session import Session

OTHER_VECTORS = "other vectors"


@dataclass(frozen=True)
class Sources:
    """Where a run finds what it may need. What its method does not need is None, or is not read."""

    labels: Path
    images: Path | None = None
    warmup: Path | None = None
    neighbors: Path | None = None
    clusters: Path | None = None
    verified: Path | None = None
    params_file: str = "params.yaml"  # for the commands that a message names
    features: Path | None = None  # where networks see vectors instead of images


def made_from(sources: Sources, needs: Needs, profile: str) -> list[fresh.Made]:
    """The labels first, then everything else that the method starts from. Each names what it was made from itself."""
    images = sources.images if sources.images and sources.images.exists() else None
    labels = fresh.labeled(images, sources.labels)
    made = [labels]
    if sources.features:
        made.append(vectors(images, sources.features))
    if needs.neighbors and sources.neighbors:
        made.append(fresh.mined(images, sources.neighbors))
    clusters = None
    if needs.clusters and sources.clusters and not sources.features:
        clusters = fresh.clustered(images, sources.clusters, sources.neighbors)
        made.append(clusters)
    if needs.warmup and sources.warmup:
        made.append(fresh.warmed_up(labels, sources.warmup, profile, clusters))
    return made


def vectors(images: Path | None, features: Path) -> fresh.Made:
    """The features that networks see, and what these were made from."""
    return fresh.label_free(images, features.parent, features=features)["features"]


def require_same_input(
    name: str,
    sources: Sources,
    needs: Needs,
    features: str | None,
    found: Mapping[str, str],
    profile: str,
    session: Session,
) -> None:
    """Refuse a warm-up that saw something else than the run is to see: images instead of vectors, or other vectors.

    `features` is the digest of the run's vectors, None where it sees images; `found` are the digests that the warm-up was
    made from. Raises ArtifactError with the command that makes a fitting warm-up.
    """
    had = other_input(found, features)
    if not had:
        return
    out = sources.warmup if had == OTHER_VECTORS else None
    raise ArtifactError(
        f"{name} is to be trained on {_input(features)}, and {sources.warmup} was warmed up on {had}; run "
        f"`{warmup_command(sources, needs, profile, out, session)}`, and give its folder to --warmup"
    )


def require_same_clusters(
    name: str, sources: Sources, features: str | None, found: Mapping[str, str], session: Session
) -> None:
    """The same for clusters."""
    if had := other_input(found, features):
        raise ArtifactError(
            f"{name} is to be trained on {_input(features)}, and the clusters {sources.clusters} are of {had}; "
            f"run `{label_free_commands(sources, 'clusters', session)}`"
        )


def other_input(found: Mapping[str, str], features: str | None) -> str:
    """What something was made on that was made on another input: "images", "vectors" or "other vectors"; else "".

    `found` are the digests that it was made from. `features` is the digest of the vectors that networks are to see, None
    where they are to see images.
    """
    if found.get("features") == features:
        return ""
    if "features" not in found:
        return _input(None)
    return OTHER_VECTORS if features else _input(found["features"])


def _input(features: str | None) -> str:
    return "vectors" if features else "images"


def require_pretrained(
    name: str,
    sources: Sources,
    needs: Needs,
    of_warmup: Mapping[str, str],
    clusters: str | None,
    profile: str,
    session: Session,
) -> None:
    """Refuse a warm-up that did not start from label-free work, for a method that needs one.

    A method on clusters takes only a warm-up from these clusters, whose digest is `clusters`. Any other takes one from an
    encoder or from clusters, and on vectors any, for vectors are an encoder's work already. `of_warmup` are the digests that
    the warm-up was made from. Raises ArtifactError with the command that makes a fitting warm-up.
    """
    started = {kind for kind in ("encoder", "clusters", "weights") if kind in of_warmup}
    if needs.clusters and of_warmup.get("clusters") == clusters:
        return
    if not needs.clusters and (started & {"encoder", "clusters"} or sources.features):
        return
    assert sources.warmup is not None
    wanted = f"the clusters {sources.clusters}" if needs.clusters else "an encoder or clusters"
    found = "other clusters" if "clusters" in started else "".join(started) or "random weights"
    own = "clustered" if needs.clusters else "pretrained"
    home = sources.warmup.parent.parent if sources.warmup.parent.name == profile else sources.warmup.parent
    out = home / own / sources.warmup.name
    raise ArtifactError(
        f"{name} needs a warm-up that started from {wanted}, and {sources.warmup} started from {found}; "
        f"run `{warmup_command(sources, needs, own, out, session)}`, and train with `--warmup {shlex.quote(str(out))}`"
    )


def label_free_commands(sources: Sources, wanted: str, session: Session) -> str:
    """The commands that make the `wanted` neighbors or clusters: first those for what they need and is not there."""
    neighbors, clusters = sources.neighbors, sources.clusters
    assert neighbors is not None
    folder = neighbors.parent if clusters is None else clusters.parent
    way = "moco" if folder.name == "moco" else "simclr"
    encoder, features = folder / "encoder.safetensors", sources.features or folder / "features.zarr"
    seed = ["--seed", str(session.seed)] if session.seed else []
    images = sources.images
    steps = [
        (features, _command_line(sources, f"pretrain-{way}", *seed, images=images, out=folder)),
        (neighbors, _command_line(sources, "mine-knn", features=features, out=neighbors)),
    ]
    if wanted == "clusters":
        inputs = {"images": images, "encoder": encoder, "neighbors": neighbors}
        if sources.features:
            inputs = {"features": sources.features, "neighbors": neighbors}
        steps.append((folder, _command_line(sources, "cluster-scan", *seed, **inputs, out=folder)))
    missing = [command for path, command in steps[:-1] if not path.exists()]
    return " && ".join([*missing, steps[-1][1]])


def warmup_command(sources: Sources, needs: Needs, profile: str, out: Path | None, session: Session) -> str:
    """The command that makes a warm-up that the method can start from."""
    words = ["warmup", "--profile", profile]
    paths: dict[str, Path | None] = {"images": sources.images, "features": sources.features}
    paths["labels"] = sources.labels
    if needs.clusters:
        paths["clusters"] = sources.clusters
    elif needs.pretrained and sources.neighbors is not None and not sources.features:
        paths["encoder"] = sources.neighbors.with_name("encoder.safetensors")
    if needs.pretrained and (needs.clusters or not sources.features):
        words += ["--start", "clusters" if needs.clusters else "encoder"]
    words += ["--seed", str(session.seed)] if session.seed else []
    return _command_line(sources, *words, **paths, out=out)


def _command_line(sources: Sources, *words: str, **paths: Path | None) -> str:
    """A command line with these paths as options."""
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path)) if path]
    file = [] if sources.params_file == "params.yaml" else ["--params-file", sources.params_file]
    return shlex.join(["noisyctl", *words, *options, *file])
