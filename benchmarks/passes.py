"""What share of an epoch the passes beside training are: the training set in eval mode, the test images, the checkpoint.

    python benchmarks/passes.py --images 512 --epochs 2 --rounds 3 --out benchmarks/results

Random images of CIFAR's shape, five for training to one for testing as there, small_cnn of width 8, one thread, through the
runner that the commands use. `training set` is the pass that DivideMix and ScanMix divide the data by, and Two-Stage's of
its held-out labels and at the start of its second stage. `test` is the pass that `--test-every` thins out, with what it
writes; the last column is what an epoch costs with `--test-every 1` over what it costs with 0, where the last epoch alone
is tested: of two epochs one. SimCLR has neither. All runs take turns in one process; CPU seconds, so other processes do
not count.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from noisyctl.methods import dividemix, scanmix, two_stage
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.parts import co_divide
from noisyctl.pretraining import simclr
from noisyctl.runs.tasks import hold_out
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import loop
from noisyctl.training.scratch import Scratch
from noisyctl.views import ImageViews

CLASSES, BATCH, CPU = 10, 64, torch.device("cpu")
RUNS: dict[str, tuple[Any, Any]] = {
    "dividemix": (dividemix, dividemix.Params),
    "scanmix": (scanmix, scanmix.Params),
    "two_stage": (two_stage, two_stage.Params),
    "simclr": (simclr, simclr.Params),
}
# who makes which pass
PASSES = [
    ("training set", co_divide, "opinions"),
    ("training set", two_stage, "evaluate_train"),
    ("training set", two_stage, "logits_of"),
    ("test", loop, "_trace_epoch"),
    ("checkpoint", Scratch, "save"),
]


class Clock:
    """CPU seconds by what they were spent on; what is called from within a pass counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            if self._inside:
                return call(*given, **named)
            start, self._inside = time.process_time(), True
            try:
                return call(*given, **named)
            finally:
                self._inside = False
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start

        return wrapped

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, owner, attribute in PASSES:
                call = self.timed(name, getattr(owner, attribute))
                stack.enter_context(mock.patch.object(owner, attribute, call))
            yield


def run(name: str, number: int, epochs: int, test_every: int) -> dict[str, float]:
    """CPU seconds an epoch, by pass; `whole` is everything but the start."""
    module, kind = RUNS[name]
    own = {"stage1_epochs": 1} if name == "two_stage" else {}
    params = kind(epochs=epochs, batch_size=BATCH, **own)
    rng = stream(0, "bench")
    pixels = torch.randint(256, (number + number // 5, 32, 32, 3), dtype=torch.uint8, generator=rng)
    task = Task(
        pixels[:number],
        ImageViews("natural", (0.5,) * 3, (0.25,) * 3),
        CLASSES,
        CPU,
        labels=torch.arange(number) % CLASSES,
        neighbors=torch.randint(number, (number, 20), generator=rng),
        held_out=hold_out(number, getattr(params, "validation_rate", 0.0), 0, CPU, None),
    )
    head = "projection" if name == "simclr" else "linear"
    spec = NetworkSpec("small_cnn", 3, (32, 32), 64 if name == "simclr" else CLASSES, head, 8)
    networks = [build(spec, stream(k, "init")) for k in range(3)]
    clock = Clock()
    held_out = {} if name == "simclr" else {"test": pixels[number:]}
    with tempfile.TemporaryDirectory() as place, clock.watching():
        begin = clock.timed("start", module.start)
        method = mock.Mock(wraps=module, spec=module, start=begin)
        start = time.process_time()
        loop.fit(
            method,
            networks[: {"simclr": 1, "two_stage": 1, "dividemix": 2}.get(name, 3)],
            task,
            params,
            name="bench",
            epochs=epochs,
            seed=0,
            scratch=Scratch(Path(place), ""),
            held_out=held_out,
            test_every=test_every,
        )
        whole = time.process_time() - start - clock.seconds.pop("start")
    return {key: seconds / epochs for key, seconds in (clock.seconds | {"whole": whole}).items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in RUNS:
        run(name, 128, 1, 1)  # warms up
    rounds = [
        {(name, every): run(name, options.images, options.epochs, every) for name in RUNS for every in (1, 0)}
        for _ in range(options.rounds)
    ]
    command = f"python benchmarks/passes.py --images {options.images} --epochs {options.epochs}"
    command += f" --rounds {options.rounds}"
    passes = list(dict.fromkeys(name for name, _, _ in PASSES))
    lines = [
        f"`{command}`",
        "",
        f"CPU seconds of an epoch of {options.images} images, and the share of the passes beside training: medians of",
        f"{options.rounds} rounds in turn; {options.epochs} epochs each, one thread, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}.",
        "",
        f"| | seconds | {' | '.join(passes)} | --test-every 1 over 0 (least-most) |",
        "| --- " * (len(passes) + 3) + "|",
    ]
    found_shares: dict[str, dict[str, float]] = {}
    found_ratios: dict[str, list[float]] = {}
    for name in RUNS:
        median = {
            key: statistics.median(found[name, 1].get(key, 0.0) for found in rounds)
            for key in (*passes, "whole")
        }
        ratios = [found[name, 1]["whole"] / found[name, 0]["whole"] for found in rounds]
        found_shares[name] = {key: median[key] / median["whole"] for key in passes}
        shares = " | ".join(f"{100 * share:.1f} %" for share in found_shares[name].values())
        found_ratios[name] = [statistics.median(ratios), min(ratios), max(ratios)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        lines.append(f"| {name} | {median['whole']:.2f} | {shares} | {spread} |")
    text = "\n".join(lines)
    print(text)
    kept = {
        "command": command,
        "shares": found_shares,
        "test_every_1_over_0": found_ratios,
        "rounds": [
            {f"{name}, test every {every}": a for (name, every), a in each.items()} for each in rounds
        ],
    }
    (options.out / "passes.md").write_text(text + "\n")
    (options.out / "passes.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
