"""Classifiers: a backbone that gives features, and a linear head. Built from a spec that artifacts carry."""

import copy
import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError
from noisyctl.seeds import draw_seed

BACKBONES = ("small_cnn", "resnet18")


class SmallCnn(nn.Module):
    """Three 3x3 convolutions with batch norm, pooled to `8 * width` features: for digits and smoke runs."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.num_features = 8 * width
        sizes = [channels, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i < 2 else []
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images).mean(dim=(2, 3))


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, post-activation."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        same = channels == width and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 with a 3x3 stem for small images; stages of width, 2, 4 and 8 times width (64 is the papers')."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.num_features = 8 * width
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks, last = [], width
        for stage, factor in enumerate((1, 2, 4, 8)):
            for i in range(2):
                blocks.append(Block(last, factor * width, 2 if stage and not i else 1))
                last = factor * width
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b d"]:
        return self.blocks(self.stem(images)).mean(dim=(2, 3))


class Classifier(nn.Module):
    """`features` then a head: linear with `num_outputs`, or SimCLR's two-layer projection."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = dict(spec)
        kinds: dict[str, type[SmallCnn] | type[ResNet18]] = {"small_cnn": SmallCnn, "resnet18": ResNet18}
        if spec["backbone"] not in kinds:
            raise ParamsError(f"unknown backbone {spec['backbone']!r}; one of: {', '.join(BACKBONES)}")
        self.features: SmallCnn | ResNet18 = kinds[spec["backbone"]](spec["channels"], spec["width"])
        d = self.features.num_features
        self.head: nn.Module = nn.Linear(d, spec["num_outputs"])
        if spec["head"] == "projection":
            self.head = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, spec["num_outputs"]))

    def forward(self, images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b c"]:
        return self.head(self.features(images))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Classifier":
        twin = Classifier(self.spec)
        twin.load_state_dict(copy.deepcopy(self.state_dict()))
        return twin


def build(spec: dict[str, Any], rng: Generator) -> Classifier:
    """A freshly initialized network: the same weights for the same generator state, whatever was drawn elsewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(rng))
        return Classifier(spec)
