"""Backbones by name. A backbone is what the papers call the network, without its last layer.

Each backbone is a function of its own name, in the file of its family, which is only imported when the backbone is asked
for. It takes the channels, the width and the size [h w] of the images, and returns a module from images to features [b
d], and d.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noisyctl.errors import ParamsError, suggest

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[[int, int, tuple[int, int]], "tuple[nn.Module, int]"]


@dataclass(frozen=True)
class Backbone:
    """Where a backbone is found, and which images it can take.

    `family` is the file that holds it. `width` is the paper's width: the channels of the first stage, or the units of
    an MLP's first layer; with `fixed` no other width is possible. `smallest` is the least side of an image.
    `channels` is the only number of channels that it takes; None means any. `dropout` says that it has dropout
    layers, whose rate a method may set; where its paper has none, their rate is 0. Those for `vectors` also take features,
    which look like images of one pixel; for all others such an image is too small.
    """

    family: str
    width: int
    fixed: bool = False
    smallest: int = 1
    channels: int | None = None
    dropout: bool = False
    vectors: bool = False


BACKBONES = {
    "small_cnn": Backbone("small_cnn", width=16, smallest=4, dropout=True),
    "resnet18": Backbone("resnet", width=64, dropout=True),
    "resnet34": Backbone("resnet", width=64, dropout=True),
    "preact_resnet18": Backbone("preact_resnet", width=64, dropout=True),
    "resnet14": Backbone("patrini_resnet", width=16, dropout=True),
    "resnet32": Backbone("patrini_resnet", width=16, dropout=True),
    "resnet44": Backbone("patrini_resnet", width=16, dropout=True),
    "cnn7": Backbone("cnn", width=64, smallest=8),
    "cnn9": Backbone("cnn", width=128, smallest=28, dropout=True),
    "cnn_small": Backbone("cnn", width=6, smallest=16),
    "linear": Backbone("linear", width=1, fixed=True, vectors=True),
    "mlp": Backbone("mlp", width=128, dropout=True, vectors=True),
    "mlp256": Backbone("mlp", width=256, vectors=True),
    "resnet18_imagenet": Backbone("imagenet", width=64, fixed=True, channels=3, dropout=True),
    "resnet50_imagenet": Backbone("imagenet", width=64, fixed=True, channels=3, dropout=True),
    "inception_resnet_v2": Backbone("imagenet", width=32, fixed=True, smallest=75, dropout=True),
}


def check_backbone(name: str) -> str:
    """The name itself. Raises ParamsError, which lists the backbones, if there is none of this name."""
    if name not in BACKBONES:
        raise ParamsError(f"unknown backbone {name!r}; {suggest(name, BACKBONES)}")
    return name


def make(name: str, channels: int, width: int | None, size: tuple[int, int]) -> "tuple[nn.Module, int, int]":
    """The backbone for images of these channels and size, its number of features, and its width.

    With width None it has the paper's width. Raises ParamsError if it cannot take such images or such a width.
    """
    about = BACKBONES[check_backbone(name)]
    if size == (1, 1) and not about.vectors:
        fitting = " or ".join(other for other, of in BACKBONES.items() if of.vectors)
        raise ParamsError(
            f"backbone {name!r} takes images, and these are vectors of {channels} features; give --backbone {fitting}"
        )
    if not _takes(about, channels, size):
        wants = f"images of {about.smallest}x{about.smallest} or more"
        wants += f" with {about.channels} channels" if about.channels else ""
        fitting = ", ".join(other for other, of in BACKBONES.items() if _takes(of, channels, size))
        raise ParamsError(
            f"backbone {name!r} takes {wants}, these are {size[0]}x{size[1]} with {channels}; "
            f"prepare such images, or choose one of: {fitting}"
        )
    if about.fixed and width not in (None, about.width):
        raise ParamsError(f"backbone {name!r} has width {about.width}, not {width}; leave width out")
    width = about.width if width is None else width
    build: Builder = getattr(importlib.import_module(f"noisyctl.nn.{about.family}"), name)
    module, num_features = build(channels, width, size)
    return module, num_features, width


def _takes(about: Backbone, channels: int, size: tuple[int, int]) -> bool:
    return min(size) >= about.smallest and about.channels in (None, channels)


def dropouts(network: "nn.Module") -> "list[nn.modules.dropout._DropoutNd]":
    """The dropout layers of a network."""
    from torch.nn.modules.dropout import _DropoutNd

    return [module for module in network.modules() if isinstance(module, _DropoutNd)]


def set_dropout(network: "nn.Module", rate: float) -> None:
    """Set the rate of all dropout layers of a network."""
    for module in dropouts(network):
        module.p = rate


def require_dropout(network: "nn.Module", name: str, rate: float) -> None:
    """Raises ParamsError if a method's param `name` sets a dropout `rate`, but the network has no dropout layer."""
    if not dropouts(network):
        backbone = getattr(getattr(network, "spec", None), "backbone", "?")
        having = ", ".join(one for one, about in BACKBONES.items() if about.dropout)
        raise ParamsError(
            f"{name} is {rate}, and backbone {backbone!r} has no dropout; warm up one that has: {having}; "
            f"or set {name} to 0"
        )
