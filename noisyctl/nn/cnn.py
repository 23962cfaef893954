"""The plain CNNs of Co-teaching, Co-teaching+ and JoCoR.

`cnn9`: Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018.
`cnn_small`: Yu et al., "How Does Disagreement Help Generalization against Label Corruption?" (Co-teaching+), ICML 2019.
`cnn7`: Wei et al., "Combating Noisy Labels by Agreement" (JoCoR), CVPR 2020, with a linear head; Jo-SRC (Yao et al., CVPR
2021) puts the head `mlp` on the same layers.

The initialization is torch's own. For images of another size than 32x32, the last feature map of `cnn7` and `cnn_small`
has another size and is flattened all the same.
"""

from torch import nn


def cnn7(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Three pairs of 3x3 convolutions with biases: 64, 64, pool, 128, 128, pool, 196, 16, pool, flatten."""
    layers: list[nn.Module] = []
    last = channels
    for pair in ((width, width), (2 * width, 2 * width), (max(49 * width // 16, 1), max(width // 4, 1))):
        for out in pair:
            layers += [nn.Conv2d(last, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            last = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten()), last * (size[0] // 8) * (size[1] // 8)


def cnn9(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Three groups of three 3x3 convolutions: 128, pool, 256, pool, then 512, 256, 128 without padding; leaky ReLU."""
    layers: list[nn.Module] = []
    last = channels
    for widths, padding in (
        ((width,) * 3, 1),
        ((2 * width,) * 3, 1),
        ((4 * width, 2 * width, width), 0),
    ):
        for out in widths:
            layers += [nn.Conv2d(last, out, 3, padding=padding), nn.BatchNorm2d(out), nn.LeakyReLU(0.01)]
            last = out
        layers += [nn.MaxPool2d(2), nn.Dropout2d(0.25)] if padding else [nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten()), last


def cnn_small(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """LeNet with ReLU: 5x5 convolutions with 6 and 16 channels, each with pooling, then layers of 120 and 84 units."""
    second, units, d = 8 * width // 3, 20 * width, 14 * width
    h, w = (((side - 4) // 2 - 4) // 2 for side in size)
    layers: list[nn.Module] = []
    for a, b in ((channels, width), (width, second)):
        layers += [nn.Conv2d(a, b, 5), nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    for a, b in ((second * h * w, units), (units, d)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers), d
