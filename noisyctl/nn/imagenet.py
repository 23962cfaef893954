"""Networks for images of ImageNet's size.

These are torchvision's ResNets, and timm's Inception-ResNet-v2, which DivideMix, ScanMix and MixNN train on WebVision
from scratch. The ResNets have dropout layers of rate 0 before the last convolution of each unit: their papers have none,
and Two-Stage sets their rate. Weights are random at first, as for other backbones; `noisyctl.nn.weights` loads those that
were trained on ImageNet.
"""

import importlib
from typing import Any

from torch import Tensor, nn

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
    """The network without its last layer and with dropout layers, and its number of features."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    num_features = network.fc.in_features
    network.fc = nn.Identity()
    for block in network.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            name = "bn1" if isinstance(block, BasicBlock) else "bn2"
            setattr(block, name, DroppedBatchNorm(getattr(block, name).num_features))
    return network, num_features


class DroppedBatchNorm(nn.BatchNorm2d):
    """Batch norm followed by dropout; the names of torchvision's layers stay the same.

    The ReLU that follows may come before or after the dropout, the result is the same.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(super().forward(x))
