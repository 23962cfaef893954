"""Networks that a State may hold, each built from a spec: plain JSON that artifacts carry.

A classifier consists of a backbone, which gives features, and a head. Its spec is {"backbone": "resnet18", "width": 64,
"channels": 3, "size": [32, 32], "num_outputs": 10, "head": "linear"}; if the width is None or missing, it is the paper's.

A head alone, such as a second head on the same features, has the spec {"kind": "head", "head": "linear", "num_features":
512, "num_outputs": 10}.
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
# memory layout of all weights; convolutions use it whatever the layout of the images
LAYOUT = torch.channels_last


class Head(nn.Sequential):
    """The last layers, from features to outputs.

    linear: one layer. projection: SimCLR's, with a hidden layer as wide as the features. mlp: Jo-SRC's, with a hidden
    layer twice as wide, batch norm and ReLU, and He initialization. batch_norm: one layer and a batch norm over each
    output, with the epsilon and momentum of Keras (Patrini et al., for losses of unbounded scores).

    The outputs are float32 under autocast, too. In bfloat16 the largest probability below 1 is .996, which is too
    coarse for a softmax, a logarithm or a loss.
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
    """A backbone, `features`, followed by a head, `head`."""

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
    """A network with new random weights, on the CPU.

    The weights depend on the state of `rng` only, and not on any other random numbers.
    """
    with _seeded(draw_seed(rng)):
        return Classifier(spec).to(memory_format=LAYOUT)


def from_spec(spec: dict[str, Any]) -> Classifier | Head:
    """A network of this spec, on the CPU, whose weights are to be loaded from a state dict.

    It draws nothing from the global generators.
    """
    with _seeded(0):
        network = Head(spec) if spec.get("kind") == "head" else Classifier(spec)
        return network.to(memory_format=LAYOUT)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator, from which layers are initialized, is seeded; afterwards it is as before."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def _he(layer: nn.Linear) -> nn.Linear:
    """The layer with He's normal initialization and biases of 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
