"""Networks of ImageNet's kind: torchvision's ResNets, and timm's Inception-ResNet-v2, which DivideMix, ScanMix and MixNN
train on WebVision from scratch.

They start at random like the others; `noisyctl.nn.weights` loads what was learned on ImageNet.
"""

import importlib
from typing import Any

from torch import nn

from noisyctl.errors import ParamsError


def resnet18_imagenet(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """torchvision's resnet18 without its last layer."""
    from torchvision.models import resnet18

    return _headless(resnet18())


def resnet50_imagenet(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """torchvision's resnet50 without its last layer."""
    from torchvision.models import resnet50

    return _headless(resnet50())


def inception_resnet_v2(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """timm's inception_resnet_v2 without its last layer."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ParamsError("backbone 'inception_resnet_v2' needs timm; run `pip install timm`") from error
    network = timm.create_model("inception_resnet_v2", pretrained=False, num_classes=0, in_chans=channels)
    return network, network.num_features


def _headless(network: Any) -> tuple[nn.Module, int]:
    num_features = network.fc.in_features
    network.fc = nn.Identity()
    return network, num_features
