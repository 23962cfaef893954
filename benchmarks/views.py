"""Batched views against torchvision's on Pillow images, one sample at a time: core time a view, on one thread.

    python benchmarks/views.py --repeats 15 --out benchmarks/results

Both sides see the same random 32 x 32 x 3 images in one process, in turn; what is kept between views (Pillow images
there, one uint8 tensor here) is made before. A repeat gives one ratio; shown are medians, and least and largest ratio.
Time is that of the process, so that waiting for a shared core does not count; its cache is shared all the same, see the
load. Memory is what a call of ours adds at its peak, in a child process; it needs Linux with glibc.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import functional as F

from noisyctl.seeds import stream
from noisyctl.views import ImageViews

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SIDE = 32
TO_TENSOR = [T.ToTensor(), T.Normalize(MEAN, STD)]


def moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


# each with its magnitude from u in 0..1
OPERATIONS: list[Callable[[Image.Image, float], Image.Image]] = [
    lambda image, u: image,
    lambda image, u: F.autocontrast(image),
    lambda image, u: F.equalize(image),
    lambda image, u: F.rotate(image, 60 * u - 30),
    lambda image, u: F.solarize(image, 256 * u),
    lambda image, u: F.adjust_saturation(image, 0.05 + 0.9 * u),
    lambda image, u: F.adjust_contrast(image, 0.05 + 0.9 * u),
    lambda image, u: F.adjust_brightness(image, 0.05 + 0.9 * u),
    lambda image, u: F.adjust_sharpness(image, 0.05 + 0.9 * u),
    lambda image, u: moved(image, 1, 0.2 * u - 0.1, 0, 0, 1, 0),
    lambda image, u: moved(image, 1, 0, 0, 0.2 * u - 0.1, 1, 0),
    lambda image, u: moved(image, 1, 0, (0.2 * u - 0.1) * SIDE, 0, 1, 0),
    lambda image, u: moved(image, 1, 0, 0, 0, 1, (0.2 * u - 0.1) * SIDE),
    lambda image, u: F.posterize(image, int(4 + 4 * u)),
]


def four_operations(image: Image.Image) -> Image.Image:
    for operation in random.choices(OPERATIONS, k=4):
        image = operation(image, random.random())
    return image


def hole(view: Tensor) -> Tensor:
    half, y, x = random.randint(1, 16) // 2, random.randrange(SIDE), random.randrange(SIDE)
    view[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
    return view


JITTER = [
    T.RandomResizedCrop(SIDE, scale=(0.2, 1.0)),
    T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
    T.RandomGrayscale(0.2),
]
THEIRS = {
    "plain": T.Compose(TO_TENSOR),
    "weak": T.Compose([T.RandomCrop(SIDE, padding=4), T.RandomHorizontalFlip(), *TO_TENSOR]),
    "simclr": T.Compose([*JITTER, *TO_TENSOR]),
    "moco": T.Compose([*JITTER, T.RandomApply([T.GaussianBlur(3, (0.1, 2.0))], p=0.5), *TO_TENSOR]),
    "strong": T.Compose([T.RandomHorizontalFlip(), four_operations, *TO_TENSOR, hole]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    rows = [measure(kind, size, options.repeats) for kind in THEIRS for size in options.batches]
    write(rows, options.repeats, options.out)


def measure(kind: str, batch: int, repeats: int) -> dict[str, float | str]:
    """Microseconds a view, by both, in turn."""
    rng = stream(0, "benchmark", kind, batch)
    images = torch.randint(256, (batch, SIDE, SIDE, 3), dtype=torch.uint8, generator=rng)
    pillow = [Image.fromarray(image.numpy()) for image in images]
    view = getattr(ImageViews("natural", MEAN, STD), kind)
    arguments = (images,) if kind == "plain" else (images, rng)

    def theirs() -> None:
        torch.stack([THEIRS[kind](image) for image in pillow])

    def ours() -> None:
        view(*arguments)

    for act in (theirs, ours, ours):
        act()
    pairs = [(clock(theirs) / batch, clock(ours) / batch) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    return {
        "view": kind,
        "batch": batch,
        "pillow_us": statistics.median(a for a, _ in pairs),
        "noisyctl_us": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "peak_mib": peak(ours),
    }


def clock(act: Callable[[], None]) -> float:
    """Core time in microseconds."""
    start = time.process_time_ns()
    act()
    return (time.process_time_ns() - start) / 1e3


def peak(act: Callable[[], None]) -> float:
    """MiB that `act` adds to the memory of a forked process."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_report_peak, args=(act, send))
    child.start()
    added = receive.recv()
    child.join()
    return float(added)


def _report_peak(act: Callable[[], None], send: "multiprocessing.connection.Connection") -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is allocated now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is in use
    before = _peak_now()
    act()
    send.send((_peak_now() - before) / 1024)


def _peak_now() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def write(rows: list[dict[str, float | str]], repeats: int, out: Path) -> None:
    about = {
        "command": f"python benchmarks/views.py --repeats {repeats}",
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "repeats": repeats,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "views.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    lines = [
        "Core time of a view of a 32 x 32 x 3 image, microseconds: torchvision on Pillow images, one at a time, and",
        f"noisyctl in batches. One thread, medians of {repeats} repeats in turn; the ratio with its least and largest.",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
        "| view | batch | Pillow | noisyctl | ratio | from | to | peak memory MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['view']} | {row['batch']} | {row['pillow_us']:.0f} | {row['noisyctl_us']:.1f} | {row['ratio']:.1f} | "
            f"{row['least_ratio']:.1f} | {row['largest_ratio']:.1f} | {row['peak_mib']:.0f} |"
            for row in rows
        ),
    ]
    (out / "views.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
