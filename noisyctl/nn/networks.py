"""Networks that a State may hold, each built from its spec, which artifacts carry as JSON.

A classifier consists of a backbone, which gives features, and a head; its spec is a `NetworkSpec`. A head alone, such as a
second head on the same features, has a `HeadSpec`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from noisyctl.errors import ArtifactError, ParamsError, suggest, wrong_key
from noisyctl.nn.backbones import make
from noisyctl.seeds import draw_seed

HEADS = ("linear", "projection", "mlp", "batch_norm")
# memory layout of all weights; convolutions use it whatever the layout of the images
LAYOUT = torch.channels_last


@dataclass(frozen=True)
class HeadSpec:
    """What a head is built from: its kind (one of `HEADS`), how many features it takes, and how many outputs it gives."""

    head: str
    num_features: int
    num_outputs: int

    def to_json(self) -> dict[str, Any]:
        """As an artifact carries it."""
        return {"kind": "head", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class NetworkSpec:
    """What a classifier is built from.

    `size` is height and width of the images. Without a `width` the backbone has that of its paper.
    """

    backbone: str
    channels: int
    size: tuple[int, int]
    num_outputs: int
    head: str
    width: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As an artifact carries it."""
        return dataclasses.asdict(self) | {"size": list(self.size)}


def spec_from_json(about: Mapping[str, Any]) -> NetworkSpec | HeadSpec:
    """The spec that an artifact carries. Raises ArtifactError that names a key which is unknown or missing."""
    is_head = about.get("kind") == "head"
    values = {key: value for key, value in about.items() if not (is_head and key == "kind")}
    known = [field.name for field in dataclasses.fields(HeadSpec if is_head else NetworkSpec)]
    if wrong := wrong_key(values, known):
        raise ArtifactError(f"the spec of a {'head' if is_head else 'network'} is another one: {wrong}")
    if is_head:
        return HeadSpec(**values)
    height, width = values.pop("size")
    return NetworkSpec(**values, size=(height, width))


class Head(nn.Sequential):
    """The last layers, from features to outputs.

    linear: one layer. projection: SimCLR's, with a hidden layer as wide as the features. mlp: Jo-SRC's, with a hidden
    layer twice as wide, batch norm and ReLU, and He initialization. batch_norm: one layer and a batch norm over each
    output, with the epsilon and momentum of Keras (Patrini et al., for losses of unbounded scores).

    The outputs are float32 under autocast, too. In bfloat16 the largest probability below 1 is .996, which is too
    coarse for a softmax, a logarithm or a loss.
    """

    def __init__(self, spec: HeadSpec) -> None:
        kind, d, c = spec.head, spec.num_features, spec.num_outputs
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
        self.spec = spec

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        outputs: Tensor = super().forward(features)
        return outputs.float()


class Classifier(nn.Module):
    """A backbone, `features`, followed by a head, `head`. Its `spec` names the width, also where it is the paper's."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.features, d, width = make(spec.backbone, spec.channels, spec.width, spec.size)
        self.head = Head(HeadSpec(spec.head, d, spec.num_outputs))
        self.spec = dataclasses.replace(spec, width=width)

    def forward(self, images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b c"]:
        return self.head(self.features(images))


def build(spec: NetworkSpec, rng: Generator) -> Classifier:
    """A network with new random weights, on the CPU.

    The weights depend on the state of `rng` only, and not on any other random numbers.
    """
    with _seeded(draw_seed(rng)):
        return Classifier(spec).to(memory_format=LAYOUT)


def from_spec(spec: NetworkSpec | HeadSpec) -> Classifier | Head:
    """A network of this spec, on the CPU, whose weights are to be loaded from a state dict.

    It draws nothing from the global generators.
    """
    with _seeded(0):
        network = Head(spec) if isinstance(spec, HeadSpec) else Classifier(spec)
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
