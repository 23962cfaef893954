"""The MLPs that the papers use for MNIST.

`mlp`: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017, and Two-Stage: 784-128-128-C.
`mlp256`: Wei et al., "Combating Noisy Labels by Agreement" (JoCoR), CVPR 2020: 784-256-C.

`mlp` starts with He's normal initialization and biases of 0, as in Patrini's code; `mlp256` and the head with torch's own.
"""

from torch import nn


def mlp(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Two hidden layers, each followed by dropout of rate .2."""
    inputs = channels * size[0] * size[1]
    first = [_he(inputs, width), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), *first, _he(width, width), nn.ReLU(), nn.Dropout(0.2)), width


def mlp256(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.ReLU()), width


def _he(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with He's normal initialization and biases of 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
