"""The pre-activation ResNet-18 of DivideMix.

Li et al., "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. The blocks are those of He et
al., "Identity Mappings in Deep Residual Networks", ECCV 2016, except for three things that the code of DivideMix does:
batch norm and ReLU follow the stem at once; every shortcut, the identity too, starts after the block's first batch norm
and ReLU; and only the pooling follows the last block. Between the convolutions of a block there is dropout of rate 0:
DivideMix has none, and Two-Stage sets its rate. The initialization is torch's own.

Differs from the authors' code:
  - The pooling is over the whole map. For images of 32x32 this is the code's pooling over 4x4.
"""

from torch import Tensor, nn

from noisyctl.nn.pointwise import PointwiseConv
from noisyctl.nn.resnet import stages


def preact_resnet18(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Stages of 2, 2, 2 and 2 blocks; 64 channels in the first one."""
    stem = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks = stages(PreActBlock, (2, 2, 2, 2), width)
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8 * width


class PreActBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice; the shortcut starts after the first ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.0)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else PointwiseConv(channels, width, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        start = self.bn1(x).relu()
        return self.conv2(self.dropout(self.bn2(self.conv1(start)).relu())) + self.shortcut(start)
