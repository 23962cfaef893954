"""What it gains that freed memory stays with the process while networks train, and what it costs at the peak.

    python benchmarks/kept_memory.py --rounds 5 --out benchmarks/results

A pass over 2,048 images of 32 x 32 x 3 in eval mode, as after every epoch; a training epoch of cross-entropy on 512 of them
in batches of 64; and weak views of 64 images of 224 pixels; small_cnn of width 16, one thread. `usual` are the thresholds
that glibc reaches by itself, `kept` is what training sets (noisyctl/training/memory.py). Both take turns in one process;
CPU seconds, so other processes do not count. The peak is that of two such passes and epochs, in a process of its own.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from noisyctl.methods import cross_entropy
from noisyctl.nn.inference import evaluating, outputs
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import memory
from noisyctl.views import ImageViews

CPU = torch.device("cpu")


def works() -> dict[str, Callable[[], object]]:
    """The pass, the epoch and the views."""
    rng = stream(0, "bench")
    small, large = (
        torch.randint(256, (b, side, side, 3), dtype=torch.uint8, generator=rng)
        for b, side in ((2048, 32), (64, 224))
    )
    views = ImageViews("natural", (0.5,) * 3, (0.25,) * 3)
    task = Task(small[:512], views, 10, CPU, labels=torch.arange(512) % 10)
    network = build(NetworkSpec("small_cnn", 3, (32, 32), 10, "linear", 16), stream(0, "init"))
    params = cross_entropy.Params(epochs=100, batch_size=64)
    state = cross_entropy.start([network], task, params, rng)

    def evaluate() -> None:
        with evaluating(network):
            outputs(network, small, views.plain)

    return {
        "pass over images": evaluate,
        "training epoch": lambda: cross_entropy.run_epoch(state, task, params, 0, rng),
        "weak views, 224 pixels": lambda: views.weak(large, rng),
    }


def seconds(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def peak(kept: bool) -> float:
    """GB of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (kept,))


def _peak(kept: bool) -> float:
    torch.set_num_threads(1)
    with memory.kept(CPU) if kept else nullcontext():
        for act in works().values():
            act()
            act()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    acts = works()
    took: dict[str, dict[str, list[float]]] = {name: {"usual": [], "kept": []} for name in acts}
    with memory.kept(CPU):  # whose end sets the usual thresholds
        pass
    for _ in range(options.rounds):
        for way in ("usual", "kept"):
            with memory.kept(CPU) if way == "kept" else nullcontext():
                for name, act in acts.items():
                    act()
                    took[name][way].append(seconds(act))
    peaks = {way: peak(way == "kept") for way in ("usual", "kept")}
    command = f"python benchmarks/kept_memory.py --rounds {options.rounds}"
    lines = [
        f"`{command}`",
        "",
        f"CPU seconds, medians of {options.rounds} rounds in turn; one thread, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}.",
        "",
        "| | usual | kept | times cheaper (least-most) |",
        "| --- | --- | --- | --- |",
    ]
    gains = {}
    for name, found in took.items():
        ratios = [a / b for a, b in zip(found["usual"], found["kept"], strict=True)]
        gains[name] = [statistics.median(ratios), min(ratios), max(ratios)]
        usual, kept = (statistics.median(found[way]) for way in ("usual", "kept"))
        median, least, most = gains[name]
        lines.append(f"| {name} | {usual:.3f} | {kept:.3f} | {median:.2f} ({least:.2f}-{most:.2f}) |")
    lines += ["", f"Peak memory: {peaks['usual']:.2f} GB usual, {peaks['kept']:.2f} GB kept."]
    print("\n".join(lines))
    (options.out / "kept_memory.md").write_text("\n".join(lines) + "\n")
    about = {"command": command, "gain": gains, "peak_gb": peaks, "seconds": took}
    (options.out / "kept_memory.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
