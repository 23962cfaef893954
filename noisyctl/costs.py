"""What a stage costs: images forward and backward, time on this device, disk and memory.

Images are counted: epochs times training images times what a method does with each image, and the predictions of every
epoch. Time is the number of images times the seconds per image, from a probe of a few steps of each network on this device.
It leaves out the decoding of files and everything that is no network. Memory is that of the images, and of the weights,
gradients and optimizer state of the networks, without the activations of a batch.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from noisyctl.errors import ParamsError

FLOATS_OF_TRACE = 3  # per sample and epoch: about a loss, a probability and a prediction
PROBE_SECONDS = 0.5
KEPT_DECODED = 2**30  # bytes
MOST_NETWORKS = 2  # of a run
UNKNOWN = float("nan")
Size = Mapping[
    str, int
]  # of a data set: train, test, channels, side; in_files where the images stay in their files


@dataclass(frozen=True)
class Network:
    """What the time of an image depends on."""

    backbone: str
    width: int | None
    channels: int
    side: int


@dataclass(frozen=True)
class Cost:
    """Of one cell. `forward` and `backward` are images; an image that is learned from is in both."""

    cell: str
    network: Network | None
    forward: int | float = 0
    backward: int | float = 0
    disk: int | float = 0  # bytes
    memory: int | float = 0  # bytes
    made: bool = False


@dataclass
class Probe:
    """Seconds of an image forward, and forward and backward, measured once a network."""

    device: Any
    found: dict[Network, tuple[float, float]] = field(default_factory=dict)

    def seconds(self, cost: Cost) -> int | float:
        if cost.network is None:
            return 0.0
        if cost.network not in self.found:
            self.found[cost.network] = self._measure(cost.network)
        forward, both = self.found[cost.network]
        return (cost.forward - cost.backward) * forward + cost.backward * both

    def _measure(self, network: Network) -> tuple[float, float]:
        import torch

        built = build(network)
        if built is None:
            return UNKNOWN, UNKNOWN
        built.to(self.device)
        batch = 64 if self.device.type == "cuda" else 8
        shape = (batch, network.channels, network.side, network.side)
        images = torch.zeros(shape, device=self.device)

        def forward() -> None:
            with torch.no_grad():
                built(images)

        def both() -> None:
            built(images).sum().backward()

        return self._time(forward) / batch, self._time(both) / batch

    def _time(self, step: Any) -> int | float:
        """Seconds of a step: the least of a few, after one that is not counted."""
        step()
        least, begun = float("inf"), time.perf_counter()
        while time.perf_counter() - begun < PROBE_SECONDS or least == float("inf"):
            start = time.perf_counter()
            step()
            if self.device.type == "cuda":
                import torch

                torch.cuda.synchronize()
            least = min(least, time.perf_counter() - start)
        return least


@functools.cache
def build(network: Network) -> Any:
    """The network with a head of ten classes, in train mode; None where it needs timm and that is absent."""
    from noisyctl.nn import networks
    from noisyctl.seeds import stream

    spec = networks.NetworkSpec(
        backbone=network.backbone,
        width=network.width,
        channels=network.channels,
        size=(network.side, network.side),
        num_outputs=10,
        head="linear",
    )
    try:
        return networks.build(spec, stream(0, "plan", "probe"))
    except ParamsError:
        return None


def of_data_set(cell: str, size: Size, made: bool) -> Cost:
    """What a prepared data set costs: its images on disk."""
    return Cost(cell, None, disk=_pixels(size), made=made)


def of_pretraining(cell: str, way: str, given: Mapping[str, Any], size: Size, made: bool) -> Cost:
    """What an encoder costs that is trained by `way` (simclr or moco): two views of every image in each epoch."""
    learned = given["epochs"] * size["train"] * (2 if way == "simclr" else 1)
    seen = given["epochs"] * size["train"] * 2 + size["train"] + size["test"]
    return _of(cell, network_of(given, size), seen, learned, size, 0, made)


def of_clustering(
    cell: str, given: Mapping[str, Any], network: Network | None, size: Size, made: bool
) -> Cost:
    """What clusters cost: a view of every image and one of a neighbor in each epoch, on the encoder's network."""
    seen = 2 * given["epochs"] * size["train"]
    return _of(cell, network, seen, seen, size, 0, made)


def of_warmup(cell: str, given: Mapping[str, Any], size: Size, made: bool) -> Cost:
    """What a warm-up costs: every network learns from the images of an epoch, and then predicts all of them."""
    learned = given["networks"] * given["epochs"] * _in_an_epoch(given, size)
    seen = learned + given["networks"] * given["epochs"] * (size["train"] + size["test"])
    return _of(cell, network_of(given, size), seen, learned, size, given["epochs"], made)


def of_run(
    cell: str,
    given: Mapping[str, Any],
    per_image: Mapping[str, float],
    network: Network | None,
    size: Size,
    made: bool,
) -> Cost:
    """What a run costs. `per_image` says how often the method takes an image `forward` and `backward` in an epoch."""
    epochs, images = given["epochs"], _in_an_epoch(given, size)
    seen = epochs * (images * per_image["forward"] + size["test"])
    return _of(cell, network, seen, epochs * images * per_image["backward"], size, epochs, made)


def _of(
    cell: str,
    network: Network | None,
    seen: int | float,
    learned: int | float,
    size: Size,
    traced: int,
    made: bool,
) -> Cost:
    weights = 4 * _weights(network)
    return Cost(
        cell,
        network,
        seen,
        learned,
        disk=weights + 4 * FLOATS_OF_TRACE * traced * size["train"],
        memory=_pixels(size, KEPT_DECODED) + 3 * MOST_NETWORKS * weights,
        made=made,
    )


def _pixels(size: Size, kept_decoded: int | float = 0) -> int | float:
    """Bytes of all images, or of those that are kept decoded where images stay in their files."""
    if size.get("in_files"):
        return kept_decoded
    return (size["train"] + size["test"]) * size["side"] ** 2 * size["channels"]


def _in_an_epoch(given: Mapping[str, Any], size: Size) -> int:
    """Images that an epoch learns from: all, or a class-balanced part."""
    return min(size["train"], given.get("epoch_batches", 0) * given.get("batch_size", 0) or size["train"])


def _weights(network: Network | None) -> int:
    """Parameters of a network; 0 where it cannot be built here."""
    built = network and build(network)
    return sum(p.numel() for p in built.parameters()) if built else 0


def network_of(given: Mapping[str, Any], size: Size) -> Network:
    """The network that these params train on images of this size."""
    return Network(given["backbone"], given["width"], size["channels"], size["side"])


@dataclass(frozen=True)
class Total:
    """The sum over many costs. `hours_to_do` leaves out what is made already, `memory` is the largest (in bytes, as `disk`).

    Cells whose network cannot be built here are counted in `without_hours`, and their hours are missing in both sums.
    """

    forward: int | float
    backward: int | float
    hours: int | float
    hours_to_do: int | float
    disk: int | float
    memory: int | float
    without_hours: int


def total(costs: Iterable[Cost], probe: Probe) -> Total:
    """The sum of costs, in hours of the device that `probe` measures."""
    found = list(costs)
    hours = {cost.cell: probe.seconds(cost) / 3600 for cost in found}
    known = {cell: value for cell, value in hours.items() if not math.isnan(value)}
    return Total(
        forward=sum(cost.forward for cost in found),
        backward=sum(cost.backward for cost in found),
        hours=sum(known.values()),
        hours_to_do=sum(known.get(cost.cell, 0.0) for cost in found if not cost.made),
        disk=sum(cost.disk for cost in found),
        memory=max((cost.memory for cost in found), default=0.0),
        without_hours=len(hours) - len(known),
    )
