"""No network below the head: for vectors, whose encoder has done the work, and for pixels as a plain logistic regression."""

from torch import nn


def linear(channels: int, width: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """The inputs as they are, flattened: with a linear head, multinomial logistic regression. `width` is not used."""
    return nn.Flatten(), channels * size[0] * size[1]
