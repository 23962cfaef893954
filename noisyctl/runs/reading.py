"""What a run reads: artifacts, and networks with their headers; refused where they belong to other images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import IMAGES, LABELS, PATHS, TRACE, VERIFIED
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.nn.networks import Classifier, from_spec, spec_from_json
from noisyctl.runs.headers import LabelFreeHeader, RunHeader, header_from_json


def read_images(path: Path) -> store.Artifact:
    return store.read(path, IMAGES)


def read_labels(path: Path, images: store.Artifact | None) -> store.Artifact:
    """Labels, refused where they belong to other images."""
    labels = store.read(path, LABELS)
    if images is not None:
        store.require_input(labels, "images", images.digest, images.path)
    y = labels.array("noisy_labels")
    counts = np.bincount(y[y >= 0], minlength=len(labels.attributes["class_names"]))
    if y.min() < 0 or y.max() >= len(labels.attributes["class_names"]):
        raise ParamsError(
            f"{path}: labels lie outside its {len(labels.attributes['class_names'])} classes; {labels.remake}"
        )
    empty = [labels.attributes["class_names"][c] for c in np.flatnonzero(counts == 0)]
    if empty:
        raise ParamsError(
            f"{path}: no sample is labeled {', '.join(empty[:5])}; drop the class or lower the noise rate"
        )
    return labels


def read_paths(path: Path, images: store.Artifact) -> store.Artifact:
    """Where the images lie, refused where they are paths of others."""
    paths = store.read(path, PATHS)
    store.require_input(paths, "images", images.digest, images.path)
    return paths


def read_verified(
    path: Path, images: str, device: torch.device
) -> tuple[tuple[torch.Tensor, torch.Tensor], str]:
    """Positions and checked labels of verified.zarr, and its digest."""
    verified = store.read(path, VERIFIED)
    store.require_input(verified, "images", images, path.with_name("images.zarr"))
    index, labels = (
        torch.as_tensor(verified.array(name)).to(device) for name in ("index", "verified_labels")
    )
    return (index, labels), verified.digest


def image_size(images: store.Artifact) -> list[int]:
    """Height and width."""
    size = images.attributes.get("image_size")
    return [size, size] if size else list(images.lazy("train").shape[1:3])


def read_networks(path: Path, made_by: str) -> tuple[dict[str, Any], RunHeader | LabelFreeHeader]:
    """The networks in a file by field name, and the file's header. Raises ArtifactError where it is of another form."""
    tensors, found = tensor_files.read(path, made_by)
    built = {}
    try:
        for field, about in found["modules"].items():
            built[field] = from_spec(spec_from_json(about))
            built[field].load_state_dict(
                {k.split(".", 1)[1]: t for k, t in tensors.items() if k.startswith(f"{field}.")}
            )
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        ArtifactError,
        ParamsError,
    ) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ArtifactError(
            f"{path} holds no networks that this version knows ({type(error).__name__}: {said}); remake it with `{made_by}`"
        ) from error
    try:
        return built, header_from_json(found)
    except ArtifactError as error:
        raise ArtifactError(
            f"{path} {error}; was it written by another program or version? Remake it with `{made_by}`"
        ) from error


def read_label_free(
    path: Path, kind: Literal["encoder", "clusters"], made_by: str
) -> tuple[Any, LabelFreeHeader]:
    """The network of an encoder or of clusters, and the file's header. Raises ArtifactError where it is of another kind."""
    built, header = read_networks(path, made_by)
    if not isinstance(header, LabelFreeHeader) or header.kind != kind:
        wanted = {"encoder": "an encoder; make one", "clusters": "clusters; make them"}[kind]
        raise ArtifactError(f"{path} holds {header.kind}, not {wanted} with `{made_by}`")
    return built["network"], header


def read_trained(path: Path, made_by: str) -> tuple[dict[str, Any], RunHeader]:
    """The networks of a run or a warm-up by field name, and the file's header. Raises ArtifactError where it is neither."""
    built, header = read_networks(path, made_by)
    if not isinstance(header, RunHeader):
        raise ArtifactError(
            f"{path} holds {header.kind}, which learned without labels; give what `{made_by}` makes"
        )
    return built, header


def read_run(run: Path, made_by: str) -> tuple[dict[str, Any], RunHeader]:
    """The networks of a run or a warm-up as `read_trained` gives them, refused where its trace is of another training."""
    built, header = read_trained(run / "networks.safetensors", made_by)
    if store.exists(run / "trace.zarr"):
        _require_same(store.read(run / "trace.zarr", TRACE), header.digest, made_by)
    return built, header


def require_images(header: LabelFreeHeader, digest: str, path: Path, made_by: str) -> None:
    """Refuse a network that was trained on other images."""
    if header.inputs["images"] != digest:
        raise ArtifactError(f"{path} was not trained on these images; remake it with `{made_by}`")


def require_whole_run(trace: store.Artifact, made_by: str) -> None:
    """Refuse a trace beside networks of another training, as a run leaves that was killed while it replaced an older one.

    A trace without networks is judged on its own. Raises ArtifactError.
    """
    path = trace.path.with_name("networks.safetensors")
    if path.exists():
        _require_same(trace, tensor_files.digest_of(path), made_by)


def _require_same(trace: store.Artifact, digest: str | None, made_by: str) -> None:
    if trace.inputs.get("networks") != digest:
        raise ArtifactError(
            f"{trace.path.parent} holds the networks of one training and the trace of another; "
            f"make the run again with `{made_by}`"
        )


def first_classifier(built: Mapping[str, Any]) -> Any:
    """The network that stands for a run: of two the first, of student and teacher the student; None where there is none.

    A second head on the same features, as ScanMix has it, is no network of its own.
    """
    return next((built[name] for name in sorted(built) if isinstance(built[name], Classifier)), None)
