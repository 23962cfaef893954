"""ResNets for small images: post-activation, with a 3x3 stem and no pooling after it.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the form for small images that is common in the
field. `resnet18` is the network of SCAN and ScanMix, `resnet34` that of MixNN; both have 64 channels in the first stage.
Between the convolutions of a block there is dropout of rate 0: the papers have none, and Two-Stage sets its rate.
Convolutions start with He's initialization (fan-out), as in SCAN's code, a linear head with torch's own; MixNN does not
say what it uses.

Differs from the authors' code:
  - Nothing known for SCAN and ScanMix.
  - MixNN's network has a second head, which is not used there.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from noisyctl.nn.pointwise import PointwiseConv


def resnet18(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Stages of 2, 2, 2 and 2 blocks."""
    return _resnet((2, 2, 2, 2), channels, width)


def resnet34(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Stages of 3, 4, 6 and 3 blocks."""
    return _resnet((3, 4, 6, 3), channels, width)


def _resnet(counts: Sequence[int], channels: int, width: int) -> tuple[nn.Module, int]:
    stem = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    network = nn.Sequential(*stem, *stages(Block, counts, width), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network, width * 2 ** (len(counts) - 1)


def stages(block: Callable[[int, int, int], nn.Module], counts: Sequence[int], width: int) -> list[nn.Module]:
    """The blocks of all stages; `block` is called with the channels in, the channels out, and the stride.

    Each stage after the first doubles the width and halves the sides of the map.
    """
    blocks, last = [], width
    for stage, count in enumerate(counts):
        for i in range(count):
            blocks.append(block(last, width * 2**stage, 2 if stage and i == 0 else 1))
            last = width * 2**stage
    return blocks


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, post-activation."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.0)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        same = channels == width and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(PointwiseConv(channels, width, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.dropout(self.bn1(self.conv1(x)).relu())))
        return (out + self.shortcut(x)).relu()
