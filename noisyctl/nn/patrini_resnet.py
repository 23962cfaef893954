"""The ResNets of Patrini et al., which Two-Stage uses, too.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: A Loss Correction Approach", CVPR 2017; Ding et al.,
"A Semi-Supervised Two-Stage Approach to Learning from Noisy Labels", WACV 2018.

A network has three stages of n pre-activation units, which are 2 + 6n layers: n = 2 (CIFAR-10), 5, or 7 (CIFAR-100). The
shortcuts start at the input of a unit, before its batch norm. The first unit has no batch norm and ReLU of its own, since
the stem ends with them. He initialization; all convolutions have biases, which start at 0; batch norm as in Keras
(epsilon 1e-3, running averages keep .99). Between the convolutions of a unit there is dropout of rate 0: Patrini et al.
have none, and Two-Stage sets its rate.

Differs from the authors' code:
  - Keras pads a strided convolution at the far side only; torch pads both sides.
  - Keras may cut He's random numbers off at two standard deviations (this depends on its version); these are not cut off.
"""

from functools import partial

from torch import Tensor, nn

from noisyctl.nn.pointwise import PointwiseConv
from noisyctl.nn.resnet import stages

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


def resnet14(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Two units per stage; 16 channels in the first one."""
    return _resnet(2, channels, width)


def resnet32(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Five units per stage."""
    return _resnet(5, channels, width)


def resnet44(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Seven units per stage."""
    return _resnet(7, channels, width)


def _resnet(n: int, channels: int, width: int) -> tuple[nn.Module, int]:
    first, *units = stages(Unit, (n, n, n), width)
    first.start = nn.Identity()
    network = nn.Sequential(
        nn.Conv2d(channels, width, 3, 1, 1),
        *_activation(width),
        first,
        *units,
        *_activation(4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network, 4 * width


class Unit(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice; dropout before the second convolution."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.start: nn.Module = nn.Sequential(*_activation(channels))
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1)
        self.middle = nn.Sequential(*_activation(width), nn.Dropout(0.0))
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.shortcut = nn.Identity() if channels == width else PointwiseConv(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.middle(self.conv1(self.start(x)))) + self.shortcut(x)


def _activation(width: int) -> tuple[nn.Module, nn.Module]:
    return BatchNorm(width), nn.ReLU()
