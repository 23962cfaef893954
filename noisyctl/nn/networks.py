"""Networks that a State may hold, each built from a spec: plain JSON that artifacts carry.

A classifier is a backbone that gives features, and a head: {"backbone": "resnet18", "width": 64, "channels": 3, "size":
[32, 32], "num_outputs": 10, "head": "linear"}; a width that is None or missing is the paper's. A head alone, for a second
one on the same features: {"kind": "head", "head": "linear", "num_features": 512, "num_outputs": 10}.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError, suggest
from noisyctl.nn.backbones import make
from noisyctl.seeds import draw_seed

HEADS = ("linear", "projection", "mlp", "batch_norm")
LAYOUT = torch.channels_last  # of every network's weights: convolutions follow it, whatever the images' own


class Head(nn.Sequential):
    """From features to outputs.

    linear: one layer. projection: SimCLR's, a hidden layer as wide as the features. mlp: Jo-SRC's, a hidden layer twice as
    wide, batch norm, ReLU; He initialization. batch_norm: one layer and a batch norm over each output, with Keras' epsilon
    and momentum (Patrini et al., for losses of unbounded scores).

    Outputs are float32 under autocast too: in bfloat16 the largest probability
    below 1 is .996, and no softmax, logarithm or loss may begin from there.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        kind, d, c = spec["head"], spec["num_features"], spec["num_outputs"]
        match kind:
            case "linear":
                layers: list[nn.Module] = [nn.Linear(d, c)]
            case "projection":
                layers = [nn.Linear(d, d), nn.ReLU(), nn.Linear(d, c)]
            case "mlp":
                layers = [
                    _he(nn.Linear(d, 2 * d)),
                    nn.BatchNorm1d(2 * d),
                    nn.ReLU(),
                    _he(nn.Linear(2 * d, c)),
                ]
            case "batch_norm":
                layers = [nn.Linear(d, c), nn.BatchNorm1d(c, eps=1e-3, momentum=0.01)]
            case _:
                raise ParamsError(f"unknown head {kind!r}; {suggest(kind, HEADS)}")
        super().__init__(*layers)
        self.spec = dict(spec)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        outputs: Tensor = super().forward(features)
        return outputs.float()


class Classifier(nn.Module):
    """`features` then `head`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        h, w = spec["size"]
        self.features, d, width = make(spec["backbone"], spec["channels"], spec.get("width"), (h, w))
        about = {"kind": "head", "head": spec["head"], "num_features": d, "num_outputs": spec["num_outputs"]}
        self.head = Head(about)
        self.spec = spec | {"width": width, "size": [h, w]}

    def forward(self, images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b c"]:
        return self.head(self.features(images))


def build(spec: dict[str, Any], rng: Generator) -> Classifier:
    """A freshly initialized network on the CPU: the same weights for the same generator state, whatever else was drawn."""
    with _seeded(draw_seed(rng)):
        return Classifier(spec).to(memory_format=LAYOUT)


def from_spec(spec: dict[str, Any]) -> Classifier | Head:
    """A network of this spec, on the CPU, for a state dict to fill. Nothing is drawn from the global generators."""
    with _seeded(0):
        network = Head(spec) if spec.get("kind") == "head" else Classifier(spec)
        return network.to(memory_format=LAYOUT)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's layers initialize from the global CPU generator: seed it, and put it back."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def _he(layer: nn.Linear) -> nn.Linear:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
