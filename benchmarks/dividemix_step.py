"""Time of one step of DivideMix, and of what it consists of: views, targets, mixing, forward, backward, SGD.

    python benchmarks/dividemix_step.py --out benchmarks/results

64 labeled and 64 unlabeled images of CIFAR's shape, two views each: 384 forwards without gradients (the learner's four
views one by one in train mode, the peer's two in one batch), then 256 with. The rounds of all backbones are interleaved; the
table has CPU seconds where the device is the CPU (other processes do not count), wall seconds after a synchronization
elsewhere. `whole` is `steps` and `task.step` as the method runs them, timed apart from the pieces.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from noisyctl.methods import dividemix
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.parts.co_divide import steps
from noisyctl.parts.mixmatch import make_targets, mixmatch, mixmatch_loss
from noisyctl.parts.targets import one_hot
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import ImageViews

CLASSES, BATCH = 10, 64


class Bench:
    """One backbone, with a batch of each side."""

    def __init__(self, backbone: str, width: int, device: torch.device) -> None:
        self.rng, self.device = stream(0, "bench", device=device), device
        images = (
            torch.randint(0, 256, (2 * BATCH, 32, 32, 3), generator=stream(0, "images")).byte().to(device)
        )
        labels = torch.arange(2 * BATCH, device=device) % CLASSES
        self.task = Task(
            images, ImageViews("natural", (0.5,) * 3, (0.25,) * 3), CLASSES, device, labels=labels
        )
        spec = NetworkSpec(
            backbone=backbone,
            width=width,
            channels=3,
            size=(32, 32),
            num_outputs=CLASSES,
            head="linear",
        )
        networks: list[Any] = [build(spec, stream(k, "init")).to(device) for k in (0, 1)]
        self.params = dividemix.Params(batch_size=BATCH)
        self.state = dividemix.start(networks, self.task, self.params, self.rng)
        self.clean = torch.linspace(0, 1, 2 * BATCH, device=device)
        index = torch.arange(2 * BATCH, device=device)
        self.division = index[BATCH:], index[:BATCH], self.clean

    def time(self, work: Callable[[], Any]) -> tuple[float, Any]:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self._wait()
        start = clock()
        result = work()
        self._wait()
        return clock() - start, result

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def round(self) -> dict[str, float]:
        """Seconds of each piece of one step, then of a whole step."""
        learner, peer, optimizer = (
            self.state.network1.train(),
            self.state.network2.eval(),
            self.state.optimizers[0],
        )
        labeled, unlabeled, clean = self.division
        given, rows = (
            one_hot(self.task.noisy_labels, CLASSES),
            torch.cat([labeled, labeled, unlabeled, unlabeled]),
        )
        took = {}
        took["views"], images = self.time(lambda: self.task.weak(rows, self.rng))
        took["targets"], targets = self.time(
            lambda: make_targets(learner, peer, images, given[labeled], clean[labeled], 0.5)
        )
        took["mixing"], (images, targets) = self.time(lambda: mixmatch(images, targets, 4.0, self.rng))
        took["forward"], loss = self.time(
            lambda: mixmatch_loss(learner(images), targets, 2 * BATCH, 25.0, 1.0)
        )
        optimizer.zero_grad(set_to_none=True)
        took["backward"], _ = self.time(loss.backward)
        took["sgd"], _ = self.time(optimizer.step)

        def whole() -> None:
            for each in steps(
                learner, peer, self.division, self.task, self.params, 0, self.rng, view=self.task.weak
            ):
                self.task.step(each, optimizer)

        took["whole"], _ = self.time(whole)
        return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones", nargs="*", default=["small_cnn:16", "preact_resnet18:16", "preact_resnet18:64"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    benches = {}
    for name in options.backbones:
        backbone, _, width = name.partition(":")
        benches[name] = Bench(backbone, int(width), device)
        benches[name].round()  # warms up
    rounds = [{name: bench.round() for name, bench in benches.items()} for _ in range(options.rounds)]
    pieces = list(rounds[0][options.backbones[0]])
    lines = [f"| network:width | {' | '.join(pieces)} |", "| --- " * (len(pieces) + 1) + "|"]
    for name in benches:
        cells = []
        for piece in pieces:
            values = [1000 * row[name][piece] for row in rounds]
            cells.append(f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    unit = "CPU" if device.type == "cpu" else "wall"
    head = (
        f"One step of DivideMix, {BATCH} + {BATCH} images of 32 x 32 x 3: milliseconds ({unit}), median (min-max) of "
        f"{options.rounds} rounds; {device.type}, {options.threads} thread, torch {torch.__version__}."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join([head, "", *lines]) + "\n"
    (options.out / "dividemix_step.md").write_text(text)
    (options.out / "dividemix_step.json").write_text(json.dumps(rounds, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
