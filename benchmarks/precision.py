"""What channels_last and bfloat16 gain on a processor, and what they do to accuracy.

    python benchmarks/precision.py steps --rounds 7
    python benchmarks/precision.py accuracy --seeds 0 1 2

steps: an epoch of cross-entropy on 512 images of 32 x 32 x 3 in batches of 64, one thread, in four modes: the plain layout
in float32, channels_last, bfloat16 (autocast without its cache of weights), and both. All modes of all backbones take turns
in one process; CPU seconds, so other processes do not count, and the ratios are taken within a round.
accuracy: digits with half of the labels wrong (symmetric, without the true class), one noise a seed: warm-up of 5 epochs,
then 40 of a method, small_cnn of width 16, batches of 64, at float32 and at what `--precision auto` is here.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE, TRUTH
from noisyctl.datasets import digits
from noisyctl.methods import cross_entropy
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.noise import symmetric
from noisyctl.precision import cpu_units
from noisyctl.seeds import stream
from noisyctl.session import Session
from noisyctl.task import Task
from noisyctl.training.warmup import Params as WarmupParams
from noisyctl.views import ImageViews
from stages import inject_noise, prepare_data, train_method, warmup

CPU, NUMBER, BATCH = torch.device("cpu"), 512, 64
MODES = {
    "plain": (torch.contiguous_format, False),
    "channels_last": (torch.channels_last, False),
    "bfloat16": (torch.contiguous_format, True),
    "both": (torch.channels_last, True),
}


class Epoch:
    """A network in one mode, and an epoch of it."""

    def __init__(self, backbone: str, width: int, mode: str) -> None:
        layout, self.rounded = MODES[mode]
        images = torch.randint(256, (NUMBER, 32, 32, 3), generator=stream(0, "images"), dtype=torch.uint8)
        views = ImageViews("natural", (0.5,) * 3, (0.25,) * 3)
        self.task = Task(images, views, 10, CPU, labels=torch.arange(NUMBER) % 10)
        spec = NetworkSpec(backbone, 3, (32, 32), num_outputs=10, head="linear", width=width)
        network = build(spec, stream(0, "init")).to(memory_format=layout)
        self.params = cross_entropy.Params(epochs=100, batch_size=BATCH)
        self.state = cross_entropy.start([network], self.task, self.params, stream(0, "start"))

    def seconds(self, number: int) -> float:
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.rounded, cache_enabled=False):
            cross_entropy.run_epoch(self.state, self.task, self.params, number, stream(0, "epoch", number))
        return time.process_time() - start


def measure_steps(backbones: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of an epoch by backbone and mode, and how many times cheaper than the plain mode: median, least, most."""
    every = {}
    for name in backbones:
        backbone, _, width = name.partition(":")
        every[name] = {mode: Epoch(backbone, int(width), mode) for mode in MODES}
    for modes in every.values():
        for epoch in modes.values():
            epoch.seconds(0)  # warms up
    took: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in backbones}
    for number in range(1, rounds + 1):
        for name, modes in every.items():
            for mode, epoch in modes.items():
                took[name][mode].append(epoch.seconds(number))
    found: dict[str, Any] = {}
    for name, by_mode in took.items():
        gains = {
            mode: [plain / own for plain, own in zip(by_mode["plain"], seconds, strict=True)]
            for mode, seconds in by_mode.items()
        }
        found[name] = {
            mode: {
                "seconds": round(statistics.median(by_mode[mode]), 3),
                "gain": [round(f(gains[mode]), 2) for f in (statistics.median, min, max)],
            }
            for mode in MODES
        }
    return found


def measure_accuracy(names: list[str], seeds: list[int]) -> dict[str, Any]:
    """Test accuracy of the last epoch in percent, by method and precision, one a seed."""
    found: dict[str, Any] = {name: {"float32": [], "auto": []} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        prepare_data.run(prepare_data.Inputs("digits", home), digits.Params())
        labels = store.read(home / "truth.zarr", TRUTH).array("test_labels")
        for seed in seeds:
            plain = Session("cpu", "float32", 1, seed, quiet=True, scratch=home / "scratch")
            noise = symmetric.Params(rate=0.5, include_true_class=False)
            noisy = home / f"s{seed}" / "labels.zarr"
            inject_noise.run(inject_noise.Inputs("symmetric", home / "truth.zarr", noisy), noise, plain)
            for precision in ("float32", "auto"):
                session = Session("cpu", precision, 1, seed, quiet=True, scratch=home / "scratch")
                start = home / f"warmup-{precision}-s{seed}"
                profile = WarmupParams(backbone="small_cnn", width=16, networks=1, epochs=5, batch_size=BATCH)
                warmup.run(warmup.Inputs(home / "images.zarr", noisy, start), profile, session)
                for name in names:
                    params = methods.load(name).Params(epochs=40, batch_size=BATCH)
                    out = home / f"{name}-{precision}-s{seed}"
                    inputs = train_method.Inputs(name, noisy, out, home / "images.zarr", start)
                    train_method.run(inputs, params, session)
                    predicted = store.read(out / "trace.zarr", TRACE).array("test_predictions")[-1]
                    accuracy = 100 * float((predicted == labels).mean())
                    print(f"seed {seed} {precision} {name}: {accuracy:.1f}", flush=True)
                    found[name][precision].append(round(accuracy, 2))
    return found


def machine() -> str:
    units = " ".join((torch.backends.cpu.get_cpu_capability(), *cpu_units()))
    return f"CPU {units}, 1 thread, torch {torch.__version__}"


def table(found: dict[str, Any], command: str) -> list[str]:
    """The measurement as lines of Markdown."""
    lines = [f"`{command}`", ""]
    if "seeds" in found:
        lines += ["| method | precision | each seed | mean ± std |", "| --- | --- | --- | --- |"]
        for name, by_precision in found["accuracy"].items():
            for precision, values in by_precision.items():
                spread = f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"
                lines.append(f"| {name} | {precision} | {', '.join(map(str, values))} | {spread} |")
        return lines
    lines += [
        "| network:width | plain, s | channels_last | bfloat16 | both |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, by_mode in found["steps"].items():
        cells = ["{} ({}-{})".format(*by_mode[mode]["gain"]) for mode in MODES if mode != "plain"]
        lines.append(f"| {name} | {by_mode['plain']['seconds']} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("steps", "accuracy"))
    parser.add_argument("--backbones", nargs="*", default=["small_cnn:16", "resnet14:16", "resnet18:16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="*", default=["elr", "cross_entropy"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "steps":
        command = f"python benchmarks/precision.py steps --rounds {options.rounds}"
        found = {"rounds": options.rounds, "steps": measure_steps(options.backbones, options.rounds)}
    else:
        command = f"python benchmarks/precision.py accuracy --seeds {' '.join(map(str, options.seeds))}"
        found = {"seeds": options.seeds, "accuracy": measure_accuracy(options.methods, options.seeds)}
    options.out.mkdir(parents=True, exist_ok=True)
    found |= {"command": command, "machine": machine()}
    (options.out / f"precision_{options.what}.json").write_text(json.dumps(found, indent=1) + "\n")
    text = "\n".join([machine(), "", *table(found, command)]) + "\n"
    (options.out / f"precision_{options.what}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
