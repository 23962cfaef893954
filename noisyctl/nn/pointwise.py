"""The 1x1 convolution with a stride, in the shortcuts of ResNets, where oneDNN computes it wrong."""

from torch import Tensor, nn
from torch.nn.functional import conv2d

FEWEST = 8  # input channels from which oneDNN's gradient is right


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution with a stride.

    With fewer than eight input channels, in channels_last, oneDNN 3.13 on processors without AVX512 gives a wrong gradient
    of the weights and writes beyond its memory (torch 2.15; tests/training/test_layout.py). There the rows and columns that
    the stride keeps are taken first, and the convolution has no stride: the same sums.
    """

    def __init__(self, channels: int, width: int, stride: int, bias: bool = True) -> None:
        super().__init__(channels, width, 1, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        if self.in_channels >= FEWEST or step == 1:
            return super().forward(x)
        return conv2d(x[..., ::step, ::step], self.weight, self.bias)
