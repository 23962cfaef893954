"""Tensors of networks or of a checkpoint: safetensors with one metadata key, JSON that says what they are. No pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from noisyctl.artifacts import files
from noisyctl.artifacts.files import NETWORKS_KEY as KEY
from noisyctl.artifacts.files import Networks, publish
from noisyctl.artifacts.store import canonical
from noisyctl.errors import ArtifactError


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Publish tensors with their header and return the digest over both."""
    from safetensors.torch import save

    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    full: dict[str, Any] = json.loads(canonical(dict(header)))
    full["digest"] = _digest(flat, full)
    with publish(path, Networks(str(full.get("kind", "checkpoint")))) as partial:
        # through Python's own file: safetensors' errors do not tell a full disk from others
        partial.write_bytes(save(flat, metadata={KEY: canonical(full)}))
    return str(full["digest"])


def read(path: Path, made_by: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header. Raises ArtifactError where a byte differs from what was written."""
    from safetensors import safe_open

    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with `{made_by}`")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except Exception as error:  # safetensors raises its own, json and key errors on damaged bytes
        raise ArtifactError(
            f"{path} is not readable ({str(error).splitlines()[0]}); remake it with `{made_by}`"
        ) from error
    if header.get("digest") != _digest(tensors, header):
        raise ArtifactError(
            f"{path} is damaged: its values are not those that were written; remake it with `{made_by}`"
        )
    return tensors, header


def digest_of(path: Path) -> str | None:
    """The digest that a file of networks carries, without reading its tensors; None where it has none."""
    header = files.networks_header(path)
    return None if header is None else str(header.get("digest"))


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(canonical({k: v for k, v in header.items() if k != "digest"}).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(dtype=_bytes(tensor)).numpy().tobytes())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    import torch

    return torch.uint8 if tensor.dtype != torch.bool else torch.bool
