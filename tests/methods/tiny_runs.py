"""A few random pixels, a linear network, and plain views: what an epoch is compared with naive loops on."""

from typing import Any

import torch
from plain_views import PlainViews

from noisyctl.seeds import stream
from noisyctl.task import Task

SIZE, CLASSES = 8, 3


def make_task(size: int = SIZE, **known: Any) -> Task:
    images = torch.randint(256, (size, 8, 8, 1), generator=stream(0, "images"), dtype=torch.uint8)
    labels = torch.arange(size) % CLASSES
    return Task(images, PlainViews(), CLASSES, torch.device("cpu"), **{"labels": labels} | known)


def linear_network(seed: int, scale: float = 0.3) -> torch.nn.Module:
    """`features` and `head`, without batch norm: the same in train and eval mode."""
    network = torch.nn.Sequential()
    network.add_module("features", torch.nn.Flatten())
    network.add_module("head", torch.nn.Linear(64, CLASSES))
    rng = stream(seed, "weights")
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=rng))
    return network


def assert_moved(network: torch.nn.Module, twin: torch.nn.Module, rate: float) -> None:
    """The network is its float64 twin after one plain step along the twin's gradient."""
    for found, before in zip(network.parameters(), twin.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(found.double(), before - rate * before.grad, atol=2e-6, rtol=2e-5)
