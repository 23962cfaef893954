"""ImageNet weights for the features of a network: from a file that the user names, or torchvision's download.

The files are those of torchvision and timm: tensors by layer name, in .pth or .safetensors. No pickled objects other than
tensors are loaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisyctl.errors import DataError, ParamsError
from noisyctl.nn.networks import Classifier

HEADS = ("fc.", "classif.")  # names of the last layers in torchvision and timm, which are left out
COUNTER = "num_batches_tracked"  # a counter of batch norm, which old files do not have


def load_weights(network: Classifier, path: Path) -> None:
    """Fill `network.features` from a file. Raises DataError unless it holds exactly these layers."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; name a file of weights, .pth or .safetensors")
    try:
        found = _read(path)
        tensors = all(isinstance(value, Tensor) for value in found.values())
    except Exception as error:  # unpickling and safetensors raise many kinds
        raise DataError(
            f"{path} is not a file of weights ({type(error).__name__}); give a .pth or .safetensors file"
        ) from error
    if not tensors:
        raise DataError(
            f"{path} holds more than tensors by layer name; save the network's state_dict() alone"
        )
    _fill(network, found, str(path))


def download_weights(network: Classifier) -> None:
    """Fill `network.features` with torchvision's IMAGENET1K_V1, after its checksum has been verified.

    The file is kept in torch's cache. Raises ParamsError if torchvision has no weights of this backbone, and
    DataError if the download fails.
    """
    from torchvision.models import get_model_weights, list_models

    name = network.spec.backbone.removesuffix("_imagenet")
    if name == network.spec.backbone or name not in list_models():
        raise ParamsError(
            f"torchvision has no weights of backbone {network.spec.backbone!r}; name a file of weights"
        )
    weights = get_model_weights(name).IMAGENET1K_V1
    try:
        found = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"could not download {weights.url} ({error}); download it elsewhere and name the file"
        ) from error
    _fill(network, found, weights.url)


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _fill(network: Classifier, found: Mapping[str, Tensor], source: str) -> None:
    wanted = network.features.state_dict()
    backbone = network.spec.backbone
    kept = {name: tensor for name, tensor in found.items() if not name.startswith(HEADS)}
    for name in sorted(wanted.keys() | kept.keys()):
        if name.endswith(COUNTER):
            continue
        had, wants = (tuple(side[name].shape) if name in side else "nothing" for side in (kept, wanted))
        if had != wants:
            raise DataError(
                f"{source} does not fit backbone {backbone!r}: layer {name!r} is {had}, needed is {wants}; "
                f"give weights of {backbone.removesuffix('_imagenet')}"
            )
    network.features.load_state_dict(wanted | kept)
