"""What a paper's cells will cost: images forward and backward, time on this device, disk, memory.

Images are counted: epochs times training images times what a method does with each (benchmarks/results/costs.yaml,
measured by counting), and the predictions of every epoch. Time is these counts times seconds an image, from a probe of a
few steps of each network on this device; it leaves out decoding of files and everything that is no network. Memory is
the images, and the weights, gradients and optimizer state of the networks, without the activations of a batch.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from noisyctl.errors import ParamsError
from stages import paper_cells, papers

COUNTED = Path("benchmarks/results/costs.yaml")
FLOATS_OF_TRACE = 3  # per sample and epoch: about a loss, a probability and a prediction
PROBE_SECONDS = 0.5
KEPT_DECODED = 2**30  # bytes
MOST_NETWORKS = 2  # of a run
UNKNOWN = float("nan")


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
    forward: float = 0
    backward: float = 0
    disk: float = 0  # bytes
    memory: float = 0  # bytes
    made: bool = False


@dataclass
class Probe:
    """Seconds of an image forward, and forward and backward, measured once a network."""

    device: Any
    found: dict[Network, tuple[float, float]] = field(default_factory=dict)

    def seconds(self, cost: Cost) -> float:
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

    def _time(self, step: Any) -> float:
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

    spec = {
        "backbone": network.backbone,
        "width": network.width,
        "channels": network.channels,
        "size": (network.side, network.side),
        "num_outputs": 10,
        "head": "linear",
    }
    try:
        return networks.build(spec, stream(0, "plan", "probe"))
    except ParamsError:
        return None


@dataclass(frozen=True)
class Costs:
    """The costs of a plan's cells, shared ones first."""

    plan: paper_cells.Plan

    @cached_property
    def counted(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = papers.read_fast(COUNTED)
        return found

    @cached_property
    def shared(self) -> Mapping[str, Any]:
        return papers.read_fast(papers.HOME / "shared" / "params.yaml")["datasets"]

    def size(self, images: str) -> Mapping[str, int]:
        """Training and test images, channels and side of the data set that lies there."""
        if self.plan.budget.dataset is not None:
            return self.plan.budget.size
        size: Mapping[str, int] = self.shared[Path(images).parent.name]["size"]
        return size

    def __iter__(self) -> Iterator[Cost]:
        shared = paper_cells.merge_shared([self.plan])
        for group in ("prepare", "prepare_given", "prepare_verified"):
            for name, cell in shared[group].items():
                yield self._prepare(name, cell)
        for name, cell in shared["pretrain"].items():
            yield self._pretrain(name, cell)
        for name, cell in shared["cluster"].items():
            pretrain = shared["pretrain"][name]
            yield self._cluster(name, cell, pretrain)
        warmups = self.plan.cells["warmup"]
        for name, cell in warmups.items():
            yield self._warmup(name, cell)
        networks = {cell["out"]: _network(cell, self.size(cell["images"])) for cell in warmups.values()}
        for name, cell in self.plan.cells["train"].items():
            yield self._train(name, cell, networks.get(cell["warmup"]))

    def _prepare(self, name: str, cell: Mapping[str, Any]) -> Cost:
        size = self.size(cell["images"])
        return Cost(f"prepare {name}", None, disk=_pixels(size), made=Path(cell["images"]).exists())

    def _pretrain(self, name: str, cell: Mapping[str, Any]) -> Cost:
        size = self.size(cell["images"])
        given = paper_cells.params_of(cell, f"noisyctl.pretraining.{cell['way']}")
        learned = given["epochs"] * size["train"] * (2 if cell["way"] == "simclr" else 1)
        seen = given["epochs"] * size["train"] * 2 + size["train"] + size["test"]
        network = _network(cell, size, f"noisyctl.pretraining.{cell['way']}")
        return self._of(f"pretrain {name}", network, seen, learned, cell["encoder"], size, 0)

    def _cluster(self, name: str, cell: Mapping[str, Any], pretrain: Mapping[str, Any]) -> Cost:
        size = self.size(cell["images"])
        seen = 2 * paper_cells.params_of(cell, "noisyctl.pretraining.scan")["epochs"] * size["train"]
        network = _network(pretrain, size, f"noisyctl.pretraining.{pretrain['way']}")
        return self._of(f"cluster {name}", network, seen, seen, cell["out"], size, 0)

    def _warmup(self, name: str, cell: Mapping[str, Any]) -> Cost:
        size = self.size(cell["images"])
        given = paper_cells.params_of(cell, "noisyctl.training.warmup")
        learned = given["networks"] * given["epochs"] * _in_an_epoch(given, size)
        seen = learned + given["networks"] * given["epochs"] * (size["train"] + size["test"])
        return self._of(
            f"warmup {name}", _network(cell, size), seen, learned, cell["out"], size, given["epochs"]
        )

    def _train(self, name: str, cell: Mapping[str, Any], network: Network | None) -> Cost:
        size = self.size(cell["images"])
        given = paper_cells.params_of(cell, f"noisyctl.methods.{cell['method']}")
        epochs = given["epochs"]
        if cell["method"] not in self.counted:
            raise ParamsError(f"{COUNTED} has no {cell['method']}; run `python benchmarks/costs.py`")
        per_image, images = self.counted[cell["method"]], _in_an_epoch(given, size)
        seen = epochs * (images * per_image["forward"] + size["test"])
        learned = epochs * images * per_image["backward"]
        return self._of(f"train {name}", network, seen, learned, cell["out"], size, epochs)

    def _of(
        self,
        cell: str,
        network: Network | None,
        seen: float,
        learned: float,
        out: str,
        size: Mapping[str, int],
        traced: int,
    ) -> Cost:
        weights = 4 * _weights(network)
        return Cost(
            cell,
            network,
            seen,
            learned,
            disk=weights + 4 * FLOATS_OF_TRACE * traced * size["train"],
            memory=_pixels(size, KEPT_DECODED) + 3 * MOST_NETWORKS * weights,
            made=Path(out).exists(),
        )


def _pixels(size: Mapping[str, int], kept_decoded: float = 0) -> float:
    """Bytes of all images, or of those that are kept decoded where images stay in their files."""
    if size.get("in_files"):
        return kept_decoded
    return (size["train"] + size["test"]) * size["side"] ** 2 * size["channels"]


def _in_an_epoch(given: Mapping[str, Any], size: Mapping[str, int]) -> int:
    """Images that an epoch learns from: all, or a class-balanced part."""
    return min(size["train"], given.get("epoch_batches", 0) * given.get("batch_size", 0) or size["train"])


def _weights(network: Network | None) -> int:
    """Parameters of a network; 0 where it cannot be built here."""
    built = network and build(network)
    return sum(p.numel() for p in built.parameters()) if built else 0


def _network(
    cell: Mapping[str, Any], size: Mapping[str, int], module: str = "noisyctl.training.warmup"
) -> Network:
    given = paper_cells.params_of(cell, module)
    return Network(given["backbone"], given["width"], size["channels"], size["side"])


def tell(costs: Iterable[Cost], probe: Probe, *, each: bool) -> tuple[list[list[str]], dict[str, Any]]:
    """A table, a row a cell or only their sum, and the sums: of all cells, and the hours of those not made yet.

    Cells whose network cannot be built here are counted apart, and are not in the hours.
    """
    head = ["cell", "images forward", "backward", "hours", "disk GB", "memory GB", "made"]
    rows = []
    names = ("forward", "backward", "hours", "hours_to_do", "disk_gb", "memory_gb", "cells_without_hours")
    sums = dict.fromkeys(names, 0.0)
    for cost in costs:
        seconds = probe.seconds(cost)
        hours = 0.0 if math.isnan(seconds) else seconds / 3600
        shown = "needs timm" if math.isnan(seconds) else f"{hours:.3g}"
        sizes = f"{cost.disk / 1e9:.2g}", f"{cost.memory / 1e9:.2g}", "yes" if cost.made else "no"
        rows.append([cost.cell, f"{cost.forward:.3g}", f"{cost.backward:.3g}", shown, *sizes])
        sums["forward"] += cost.forward
        sums["backward"] += cost.backward
        sums["hours"] += hours
        sums["hours_to_do"] += 0 if cost.made else hours
        sums["cells_without_hours"] += math.isnan(seconds)
        sums["disk_gb"] += cost.disk / 1e9
        sums["memory_gb"] = max(sums["memory_gb"], cost.memory / 1e9)
    total = [f"{sums[name]:.3g}" for name in ("forward", "backward", "hours", "disk_gb", "memory_gb")]
    return [head, *(rows if each else []), ["in all", *total, ""]], {n: round(v, 4) for n, v in sums.items()}
