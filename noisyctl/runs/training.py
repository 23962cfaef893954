"""What the stages that train share: images on the device, the Task, publishing a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl.artifacts import networks, store
from noisyctl.artifacts.kinds import IMAGES, LABELS, PATHS, TRACE, VERIFIED
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.layout import FILES
from noisyctl.nn.inference import modules_of
from noisyctl.nn.networks import from_spec
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import Views


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


def make_task(
    images: store.Artifact | None, device: torch.device, **known: Any
) -> tuple[Task, dict[str, Any]]:
    """The Task, and the images of the other splits, which only the runner sees."""
    if images is None:
        return Task(None, None, known.pop("num_classes"), device, **known), {}
    about = images.attributes
    views = Views(about["views"], about["mean"], about["std"])
    num_classes = known.pop("num_classes", 0)  # label-free work knows of no classes
    pixels = splits_of(images, device)
    return Task(pixels.pop("train"), views, num_classes, device, **known), pixels


def splits_of(images: store.Artifact, device: torch.device, image_size: int | None = None) -> dict[str, Any]:
    """The images of every split [n h w ch]: pixels on the device, or files that are decoded ahead of use.

    `image_size` is the side of the squares that files are decoded to, if not that of the artifact.
    """
    splits = [name.removesuffix("_id") for name in images.names if name.endswith("_id")]
    return {name: _images_of(images, name, device, image_size) for name in splits}


def _images_of(images: store.Artifact, split: str, device: torch.device, image_size: int | None) -> Any:
    if split in images:
        return torch.as_tensor(images.array(split)).to(device)
    from noisyctl.datasets._streaming import FileImages

    about, root = images.attributes, images.path.parent / FILES
    if not root.is_dir():
        raise ArtifactError(f"{root} leads to no folder of images; {images.remake}")
    paths = read_paths(images.path.with_name("paths.zarr"), images).array(f"{split}_path").tolist()
    checksums = images.array(f"{split}_checksum")
    size = image_size or about["image_size"]
    return FileImages(root, paths, size, len(about["mean"]), device, checksums=checksums)


def read_paths(path: Path, images: store.Artifact) -> store.Artifact:
    """Where the images lie, refused where they are paths of others."""
    paths = store.read(path, PATHS)
    store.require_input(paths, "images", images.digest, images.path)
    return paths


def image_size(images: store.Artifact) -> list[int]:
    """Height and width."""
    size = images.attributes.get("image_size")
    return [size, size] if size else list(images.lazy("train").shape[1:3])


def hold_out(
    number: int, rate: float, seed: int, device: torch.device, verified: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Positions of the samples whose noisy labels validate, in order, no `verified` one among them; None without a rate."""
    size = round(rate * number)
    if rate and not 0 < size < number:
        raise ParamsError(f"validation_rate {rate} of {number} samples holds out {size}; choose another rate")
    order = torch.randperm(number, generator=stream(seed, "validation"))
    if verified is not None:
        order = order[~torch.isin(order, verified.cpu())]
        if size > len(order):
            raise ParamsError(
                f"validation_rate {rate} of {number} samples holds out {size}, and only {len(order)} are not verified: "
                f"noisy labels validate, and verified ones train; choose a rate of at most {len(order) / number:.3g}"
            )
    return order[:size].sort().values.to(device) if size else None


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


def spec(params: Any, images: store.Artifact, num_outputs: int, head: str) -> dict[str, Any]:
    """What a network is built from, as artifacts carry it."""
    channels = len(images.attributes["mean"])
    return {
        "backbone": params.backbone,
        "width": params.width,
        "channels": channels,
        "size": image_size(images),
        "num_outputs": num_outputs,
        "head": head,
    }


def preprocessing(images: store.Artifact, class_names: list[str]) -> dict[str, Any]:
    """What `predict` needs to know beside the networks."""
    about = images.attributes
    return {
        "class_names": class_names,
        "mean": about["mean"],
        "std": about["std"],
        "views": about["views"],
        "size": image_size(images),
    }


def network_tensors(state: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Every network of a State: tensors by `field.name`, and the field's spec."""
    modules = modules_of(state)
    tensors = {
        f"{field}.{key}": t for field, module in modules.items() for key, t in module.state_dict().items()
    }
    return tensors, {field: module.spec for field, module in modules.items()}


def read_networks(path: Path, made_by: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The networks of a run or a warm-up by field name, and the file's header."""
    tensors, header = networks.read(path, made_by)
    built = {}
    try:
        for field, about in header["modules"].items():
            built[field] = from_spec(about)
            built[field].load_state_dict(
                {k.split(".", 1)[1]: t for k, t in tensors.items() if k.startswith(f"{field}.")}
            )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, ParamsError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ArtifactError(
            f"{path} holds no networks that this version knows ({type(error).__name__}: {said}); remake it with `{made_by}`"
        ) from error
    return built, header


def require_images(header: Mapping[str, Any], digest: str, path: Path, made_by: str) -> None:
    """Refuse networks that were trained on other images."""
    if header["inputs"]["images"] != digest:
        raise ArtifactError(f"{path} was not trained on these images; remake it with `{made_by}`")


def read_run(run: Path, made_by: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The networks of a run or a warm-up as `read_networks` gives them, refused where its trace is of another training."""
    built, header = read_networks(run / "networks.safetensors", made_by)
    if store.exists(run / "trace.zarr"):
        _require_same(store.read(run / "trace.zarr", TRACE), header["digest"], made_by)
    return built, header


def require_whole_run(trace: store.Artifact, made_by: str) -> None:
    """Refuse a trace beside networks of another training, as a run leaves that was killed while it replaced an older one.

    A trace without networks is judged on its own. Raises ArtifactError.
    """
    path = trace.path.with_name("networks.safetensors")
    if path.exists():
        _require_same(trace, networks.digest_of(path), made_by)


def _require_same(trace: store.Artifact, digest: str | None, made_by: str) -> None:
    if trace.inputs.get("networks") != digest:
        raise ArtifactError(
            f"{trace.path.parent} holds the networks of one training and the trace of another; "
            f"make the run again with `{made_by}`"
        )


def publish_run(
    out: Path,
    arrays: Mapping[str, np.ndarray],
    state: Any,
    about: Mapping[str, Any],
    header: Mapping[str, Any],
) -> None:
    """networks.safetensors and trace.zarr, the trace last and with the networks' digest: see `require_whole_run`."""
    tensors, modules = network_tensors(state)
    digest = networks.write(out / "networks.safetensors", tensors, dict(header) | {"modules": modules})
    store.write(
        out / "trace.zarr",
        TRACE,
        arrays,
        params=about["params"],
        inputs={**about["inputs"], "networks": digest},
        attributes={k: v for k, v in about.items() if k not in ("params", "inputs")},
    )
