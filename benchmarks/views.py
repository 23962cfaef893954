"""Batched views against those of other libraries, one image at a time: core time a view, on one thread.

    python benchmarks/views.py --repeats 15 --out benchmarks/results
    python benchmarks/views.py --side 224 --batches 32 --repeats 9 --out benchmarks/results

The others: torchvision on Pillow images, torchvision v2 on uint8 tensors, and albumentations where it is installed. v2 has
no strong view of these operations. `as a batch` is our form for small images and GPUs, which computed every view before
noisyctl/views/one_by_one.py; where the images are small it is the same one.

All sides see the same images in one process, in turn: noise at 32 pixels, smooth photos at other sizes. What is kept
between views (Pillow images there, one uint8 tensor here) is made before. A repeat gives one ratio to Pillow; shown are
medians, and least and largest ratio. Time is that of the process, so that waiting for a shared core does not count; its
cache is shared all the same, see the load. Memory is what a call of ours adds at its peak, in a child process; it needs
Linux with glibc.
"""

import argparse
import ctypes
import functools
import importlib.metadata
import importlib.util
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
from typing import Any

import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from noisyctl.seeds import stream
from noisyctl.views import ImageViews, one_by_one

Row = dict[str, float | str]
LARGE = one_by_one.LARGE
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
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
    lambda image, u: moved(image, 1, 0, (0.2 * u - 0.1) * image.width, 0, 1, 0),
    lambda image, u: moved(image, 1, 0, 0, 0, 1, (0.2 * u - 0.1) * image.height),
    lambda image, u: F.posterize(image, int(4 + 4 * u)),
]


def four_operations(image: Image.Image) -> Image.Image:
    for operation in random.choices(OPERATIONS, k=4):
        image = operation(image, random.random())
    return image


def hole(view: Tensor) -> Tensor:
    side = view.shape[1]
    half, y, x = random.randint(1, side // 2) // 2, random.randrange(side), random.randrange(side)
    view[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
    return view


def pillow(side: int) -> dict[str, T.Compose]:
    """torchvision's transforms of Pillow images."""
    jitter = [
        T.RandomResizedCrop(side, scale=(0.2, 1.0)),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(0.2),
    ]
    blur = T.RandomApply([T.GaussianBlur(taps(side), (0.1, 2.0))], p=0.5)
    return {
        "plain": T.Compose(TO_TENSOR),
        "weak": T.Compose([T.RandomCrop(side, padding=side // 8), T.RandomHorizontalFlip(), *TO_TENSOR]),
        "simclr": T.Compose([*jitter, *TO_TENSOR]),
        "moco": T.Compose([*jitter, blur, *TO_TENSOR]),
        "strong": T.Compose([T.RandomHorizontalFlip(), four_operations, *TO_TENSOR, hole]),
    }


def version_2(side: int) -> dict[str, v2.Compose]:
    """torchvision's transforms of uint8 tensors."""
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    jitter = [
        v2.RandomResizedCrop(side, scale=(0.2, 1.0), antialias=False),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    blur = v2.RandomApply([v2.GaussianBlur(taps(side), (0.1, 2.0))], p=0.5)
    return {
        "plain": v2.Compose(end),
        "weak": v2.Compose([v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip(), *end]),
        "simclr": v2.Compose([*jitter, *end]),
        "moco": v2.Compose([*jitter, blur, *end]),
    }


def albumentations(side: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """Transforms of uint8 arrays, rounded to 8 bits after each; none where the library is not installed."""
    if not importlib.util.find_spec("albumentations"):
        return {}
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(1)
    end = [A.Normalize(MEAN, STD), ToTensorV2()]
    jitter = [
        A.RandomResizedCrop((side, side), scale=(0.2, 1.0)),
        A.HorizontalFlip(),
        A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8),
        A.ToGray(p=0.2),
    ]
    one, same = {"hue": (0, 0), "p": 1}, (1, 1)
    enhance, shift = (0.05, 0.95), (-0.1, 0.1)
    operations = [
        A.NoOp(),
        A.AutoContrast(p=1),
        A.Equalize(p=1),
        A.Solarize(p=1),
        A.Posterize((4, 7), p=1),
        A.Sharpen(p=1),
        A.ColorJitter(enhance, same, same, **one),
        A.ColorJitter(same, enhance, same, **one),
        A.ColorJitter(same, same, enhance, **one),
        A.Affine(rotate=(-30, 30), interpolation=0, p=1),
        *(A.Affine(shear={axis: (-5.7, 5.7)}, interpolation=0, p=1) for axis in "xy"),
        *(A.Affine(translate_percent={axis: shift}, interpolation=0, p=1) for axis in "xy"),
    ]
    cut = A.CoarseDropout((1, 1), (0.02, 0.5), (0.02, 0.5), p=1)
    pad = side + 2 * (side // 8)
    return {
        "plain": A.Compose(end),
        "weak": A.Compose([A.PadIfNeeded(pad, pad), A.RandomCrop(side, side), A.HorizontalFlip(), *end]),
        "simclr": A.Compose([*jitter, *end]),
        "moco": A.Compose([*jitter, A.GaussianBlur(taps(side), (0.1, 2.0)), *end]),
        "strong": A.Compose([A.HorizontalFlip(), A.SomeOf(operations, 4, replace=True, p=1), cut, *end]),
    }


def taps(side: int) -> int:
    return max(3, side // 10 | 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=32, help="height and width of the images")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    kinds = list(pillow(options.side))
    rows = [measure(kind, options.side, size, options.repeats) for kind in kinds for size in options.batches]
    write(rows, options)


def photos(side: int, batch: int, rng: torch.Generator) -> Tensor:
    """uint8 [b h w ch]: noise at 32 pixels, as always; larger ones are smooth, as photos are."""
    if side == 32:
        return torch.randint(256, (batch, side, side, 3), dtype=torch.uint8, generator=rng)
    coarse = torch.rand(batch, 3, 20, 20, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return smooth.mul(255).byte().permute(0, 2, 3, 1).contiguous()


def measure(kind: str, side: int, batch: int, repeats: int) -> Row:
    """Microseconds a view, by all, in turn."""
    rng = stream(0, "benchmark", kind, batch)
    images = photos(side, batch, rng)
    view = getattr(ImageViews("natural", MEAN, STD), kind)
    arguments = (images,) if kind == "plain" else (images, rng)
    arrays, tensors = list(images.numpy()), list(images.permute(0, 3, 1, 2).contiguous())
    kept = [Image.fromarray(image) for image in arrays]

    def each(transform: Callable[..., Any], of: list[Any]) -> None:
        torch.stack([transform(image) for image in of])

    def ours(least: int) -> None:
        one_by_one.LARGE = least
        view(*arguments)

    acts = {
        "pillow": functools.partial(each, pillow(side)[kind], kept),
        "as_a_batch": functools.partial(ours, 1 << 40),
        "noisyctl": functools.partial(ours, LARGE),
    }
    if kind in version_2(side):
        acts["v2"] = functools.partial(each, version_2(side)[kind], tensors)
    if their := albumentations(side):
        acts["albumentations"] = functools.partial(each, lambda a: their[kind](image=a)["image"], arrays)
    for act in acts.values():
        act()
    rounds = [{name: clock(act) / batch for name, act in acts.items()} for _ in range(repeats)]
    ratios = [found["pillow"] / found["noisyctl"] for found in rounds]
    return {
        "view": kind,
        "batch": batch,
        **{f"{name}_us": statistics.median(found[name] for found in rounds) for name in acts},
        "ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "peak_mib": peak(acts["noisyctl"]),
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


def write(rows: list[Row], options: argparse.Namespace) -> None:
    side, repeats = options.side, options.repeats
    name = "views" if side == 32 else f"views_{side}"
    chosen = "" if side == 32 else f" --side {side} --batches {' '.join(map(str, options.batches))}"
    libraries = [n for n in ("albumentations", "opencv-python-headless") if rows[0].get("albumentations_us")]
    about = {
        "command": f"python benchmarks/views.py{chosen} --repeats {repeats}",
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        **{name: importlib.metadata.version(name) for name in libraries},
        "repeats": repeats,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    lines = [
        f"Core time of a view of a {side} x {side} x 3 image, microseconds: noisyctl, and other libraries image by image.",
        f"One thread, medians of {repeats} repeats in turn; the ratio of Pillow to noisyctl with its least and largest.",
        "`as a batch` is noisyctl's form for small images, which computed all views before.",
        "",
        *(f"- {key}: {value}" for key, value in about.items()),
        "",
        "| view | batch | Pillow | v2 | albumentations | as a batch | noisyctl | ratio | from | to | peak memory MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['view']} | {row['batch']} | {_cell(row, 'pillow')} | {_cell(row, 'v2')} | "
            f"{_cell(row, 'albumentations')} | {_cell(row, 'as_a_batch')} | {_cell(row, 'noisyctl')} | {row['ratio']:.1f} | "
            f"{row['least_ratio']:.1f} | {row['largest_ratio']:.1f} | {row['peak_mib']:.0f} |"
            for row in rows
        ),
    ]
    (options.out / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _cell(row: Row, name: str) -> str:
    value = row.get(f"{name}_us")
    return "-" if value is None else f"{float(value):.1f}" if float(value) < 100 else f"{float(value):.0f}"


def cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
