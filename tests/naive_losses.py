"""The baselines' losses as the papers print them, for one sample: p is a list of float64 scalars, y the given label."""

import math

import torch

Row = list[torch.Tensor]


def ce(p: Row, y: int) -> torch.Tensor:
    return -p[y].log()


def mae(p: Row, y: int) -> torch.Tensor:
    return sum(abs(p[c] - float(c == y)) for c in range(len(p))) / 2  # type: ignore[return-value]


def gce(p: Row, y: int, q: float) -> torch.Tensor:
    return (1 - p[y] ** q) / q


def rce(p: Row, y: int) -> torch.Tensor:
    return -sum(p[c] * math.log(1.0 if c == y else 1e-4) for c in range(len(p)))  # type: ignore[return-value]


def nce(p: Row, y: int) -> torch.Tensor:
    return ce(p, y) / sum(ce(p, k) for k in range(len(p)))


def nfl(p: Row, y: int, gamma: float) -> torch.Tensor:
    focal = [-((1 - p[k].detach()) ** gamma) * p[k].log() for k in range(len(p))]
    return focal[y] / sum(focal)


def towards(p: Row, target: Row | list[float]) -> torch.Tensor:
    return -sum(target[c] * p[c].log() for c in range(len(p)))  # type: ignore[return-value]


def soft_bootstrap(p: Row, y: int, beta: float) -> torch.Tensor:
    return towards(p, [beta * (c == y) + (1 - beta) * p[c] for c in range(len(p))])


def hard_bootstrap(p: Row, y: int, beta: float) -> torch.Tensor:
    best = max(range(len(p)), key=lambda c: p[c].item())
    return towards(p, [beta * (c == y) + (1 - beta) * (c == best) for c in range(len(p))])


def smoothed(p: Row, y: int, epsilon: float) -> torch.Tensor:
    return towards(p, [(1 - epsilon) * (c == y) + epsilon / len(p) for c in range(len(p))])


def unhinged(s: Row, y: int) -> torch.Tensor:
    return sum(1 - (c == y) * s[c] for c in range(len(s))) / len(s)  # type: ignore[return-value]


def sigmoid(s: Row, y: int) -> torch.Tensor:
    return sum(1 / (1 + ((c == y) * s[c]).exp()) for c in range(len(s))) / len(s)  # type: ignore[return-value]


def savage(p: Row, y: int) -> torch.Tensor:
    return sum((1 + (2 * (c == y) * p[c]).exp()) ** -2 for c in range(len(p))) / len(p)  # type: ignore[return-value]


def standardized(z: Row) -> Row:
    mean = sum(z) / len(z)
    variance = sum((v - mean) ** 2 for v in z) / len(z)
    return [(v - mean) / (variance + 1e-5) ** 0.5 for v in z]


def forward(p: Row, y: int, matrix: list[list[float]]) -> torch.Tensor:
    return -sum(p[i] * matrix[i][y] for i in range(len(p))).log()  # type: ignore[union-attr]


def backward(p: Row, y: int, matrix: list[list[float]]) -> torch.Tensor:
    inverse = torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64))
    return sum(inverse[y, j] * ce(p, j) for j in range(len(p)))  # type: ignore[return-value]
