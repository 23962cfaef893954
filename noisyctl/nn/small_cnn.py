"""A small CNN for digits and for quick trial runs. It is ours and comes from no paper."""

import itertools

from torch import nn


def small_cnn(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Three 3x3 convolutions with 2, 4 and 8 times `width` channels, batch norm and pooling, to 8 * width features.

    The features pass a dropout layer of rate 0, whose rate a method may set.
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((channels, 2 * width, 4 * width, 8 * width)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.0)), 8 * width
