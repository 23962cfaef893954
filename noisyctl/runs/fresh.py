"""Fresh, stale or missing, and the exact command that comes first: from the digests that artifacts carry, without DVC.

Every artifact names the digests of what it was made from. An artifact is stale where one of these is no longer what lies
there. Then what it was made from may be stale too: the root of the trouble is the first in the order of making, and the
command that makes that one again is the only one that helps.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from noisyctl.artifacts import kinds, store
from noisyctl.artifacts.files import NETWORKS_KEY
from noisyctl.errors import ArtifactError
from noisyctl.layout import TRAINED_HERE, encoder_in


@dataclass(frozen=True)
class Made:
    """An artifact, the command that makes it, and what it is made from.

    `name` is what those that are made from it call it among their inputs.
    """

    name: str
    path: Path
    command: str
    sources: tuple["Made", ...] = ()


@dataclass(frozen=True)
class Finding:
    """What is wrong with an artifact, and how: `was made from other images than data/digits/images.zarr`."""

    made: Made
    state: Literal["missing", "damaged", "stale"]
    why: str


@dataclass
class Headers:
    """Digest and inputs of artifacts, each read once; None of what cannot be read.

    `outdated` tells of an artifact, by its place and digest, whether the command that made it would do something else today:
    why, and the command; None where it would not, or nothing is known of it. Who only asks whether artifacts belong together
    leaves it out.
    """

    known: dict[Path, Mapping[str, Any] | None] = field(default_factory=dict)
    outdated: Callable[[Path, str], tuple[str, str] | None] = lambda place, digest: None

    def of(self, made: Made) -> Mapping[str, Any] | None:
        if made.path not in self.known:
            try:
                self.known[made.path] = read_header(made)
            except ArtifactError:
                self.known[made.path] = None
        return self.known[made.path]


def read_header(made: Made) -> Mapping[str, Any]:
    """What an artifact says of itself. Raises ArtifactError where it cannot be read."""
    if made.path.suffix == ".safetensors":
        from safetensors import safe_open

        try:
            with safe_open(made.path, framework="numpy") as file:
                return dict(json.loads((file.metadata() or {})[NETWORKS_KEY]))
        except Exception as error:  # safetensors raises its own, json and key errors on damaged bytes
            raise ArtifactError(f"{made.path} is not readable; remake it with `{made.command}`") from error
    return store.read(made.path, kinds.BY_NAME[made.name]).attributes


def findings(made: Made, headers: Headers | None = None) -> list[Finding]:
    """What must be made again for `made` to be fresh, in the order of making; none where it is fresh.

    Sources of what is fresh are not looked for: an artifact may be used where what it was made from is no longer kept.
    """
    headers = headers or Headers()
    own = _own(made, headers)
    if own is None:
        return []
    below = [finding for source in made.sources for finding in findings(source, headers)]
    return [*{finding.made.path: finding for finding in below}.values(), own]


def _own(made: Made, headers: Headers) -> Finding | None:
    """What is wrong with an artifact itself, compared with what it was made from."""
    if not made.path.exists():
        return Finding(made, "missing", "does not exist")
    if headers.of(made) is None:
        try:
            read_header(made)
        except ArtifactError as error:
            return Finding(made, "damaged", f"cannot be used ({error})")
    inputs = (headers.of(made) or {}).get("inputs", {})
    for source in made.sources:
        there = headers.of(source) if source.path.exists() else None
        recorded = inputs.get(source.name)
        if there is not None and recorded is not None and recorded != there["digest"]:
            return Finding(made, "stale", f"was made from other {source.name} than {source.path}")
    if found := headers.outdated(made.path, str((headers.of(made) or {}).get("digest", ""))):
        why, command = found
        return Finding(replace(made, command=command), "stale", f"was made {why}")
    return None


def require(asked: Sequence[Made]) -> None:
    """Refuse what is stale, naming the root of it. What is missing or damaged is left to those who read it.

    Raises ArtifactError.
    """
    headers = Headers()
    for made in asked:
        own = _own(made, headers)
        if own is not None and own.state == "stale":
            raise ArtifactError(explained(findings(made, headers)))


def explained(found: Sequence[Finding]) -> str:
    """One line: what cannot be used, why, and the commands in their order."""
    root, last = found[0], found[-1]
    head = f"{root.made.path} {root.why}"
    if last is not root:
        head = f"{last.made.path} cannot be used: {head}"
    commands = [f"`{command}`" for command in dict.fromkeys(finding.made.command for finding in found)]
    return f"{head}; run {', then '.join(commands)}"


def label_free(
    images: Path | None,
    folder: Path,
    *,
    neighbors: Path | None = None,
    encoder: Path | None = None,
    features: Path | None = None,
) -> dict[str, Made]:
    """The label-free artifacts of a folder by name, at other places where these are given.

    What is missing is taken to be made there only in the folder of a pretraining: elsewhere it may be kept
    anywhere.
    """
    way = folder.name if folder.name in TRAINED_HERE else TRAINED_HERE[0]
    comes_trained = encoder_in(folder.name)
    pretrain = f"noisyctl embed --encoder {comes_trained}" if comes_trained else f"noisyctl pretrain-{way}"

    def known(*sources: Made) -> tuple[Made, ...]:
        return tuple(made for made in sources if made.path.exists() or made.path.parent.name in TRAINED_HERE)

    of_images = () if images is None else (Made("images", images, "noisyctl prepare-data"),)
    encoders = Made("encoder", encoder or folder / "encoder.safetensors", pretrain, of_images)
    place, by = features or folder / "features.zarr", pretrain if images else "noisyctl prepare-data"
    vectors = Made(
        "features", place, by, known(*of_images, *([] if comes_trained else [encoders])) if images else ()
    )
    place = neighbors or folder / "neighbors.zarr"
    nearest = Made("neighbors", place, "noisyctl mine-knn", known(vectors, *of_images))
    sources = known(*of_images, encoders, nearest)
    clusters = Made("clusters", folder / "clusters.safetensors", "noisyctl cluster-scan", sources)
    return {made.name: made for made in (*of_images, encoders, vectors, nearest, clusters)}


def mined(images: Path | None, neighbors: Path) -> Made:
    """Neighbors, and the features beside them that they were mined from."""
    made = label_free(images, neighbors.parent, neighbors=neighbors)["neighbors"]
    if neighbors.name != "neighbors.zarr":  # not where the default features are mined to
        kept = tuple(source for source in made.sources if source.name != "features")
        made = Made(made.name, made.path, made.command, kept)
    return made


def clustered(images: Path | None, clusters: Path, neighbors: Path | None) -> Made:
    """Clusters, and what they were made from: the encoder beside them, and the neighbors given or beside them."""
    made = label_free(images, clusters.parent, neighbors=neighbors)["clusters"]
    return Made(made.name, clusters, made.command, made.sources)


def labeled(images: Path | None, labels: Path) -> Made:
    """Labels as they were given, which lie beside the images, or those to which noise was added."""
    given = images is not None and labels.parent == images.parent and not has_clean_labels(images.parent)
    command = "noisyctl prepare-data" if given else "noisyctl inject-noise"
    sources = () if images is None else (Made("images", images, "noisyctl prepare-data"),)
    return Made("labels", labels, command, sources)


def has_clean_labels(home: Path) -> bool:
    """Whether a data set's folder has clean training labels: then its labels are made by adding noise."""
    return (home / "truth.zarr" / "clean_labels").exists()


def warmed_up(labels: Made, warmup: Path, profile: str = "default", clusters: Made | None = None) -> Made:
    """The networks of a warm-up."""
    command = "noisyctl warmup" + (f" --profile {profile}" if profile != "default" else "")
    sources = (*labels.sources, labels, *([] if clusters is None else [clusters]))
    return Made("networks", warmup / "networks.safetensors", command, sources)


def trained(labels: Made, run: Path, command: str) -> Made:
    """The trace of a run or of a warm-up."""
    return Made("trace", run / "trace.zarr", command, (*labels.sources, labels))
