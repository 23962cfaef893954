"""The MLPs that the papers use for MNIST.

`mlp`: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017, and Two-Stage: 784-128-128-C.
`mlp256`: Wei et al., "Combating Noisy Labels by Agreement" (JoCoR), CVPR 2020: 784-256-C. Initialization: torch's own.
"""

from torch import nn


def mlp(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Two hidden layers, a dropout of .2 after each."""
    inputs = channels * size[0] * size[1]
    first = [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), *first, nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)), width


def mlp256(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.ReLU()), width
