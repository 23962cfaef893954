"""How many JPEG files a core decodes to 256 x 256 a second: PIL as noisyctl uses it, torchvision, and FileImages.

    OMP_NUM_THREADS=1 python benchmarks/decode.py --out benchmarks/results/decode.md

The files are made here: 1/f noise, which compresses about as photographs do, at JPEG quality 90. A round times every row
once, so that a busy machine slows all alike; a number is the best of the rounds.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, features
from torchvision.transforms.v2 import functional

from noisyctl.images import decode, read_bytes
from noisyctl.streaming import FileImages

SIZE = 256
SHAPES = ((256, 256), (375, 500), (1200, 1600))
BATCH = 32
READING = (
    "torchvision is faster on small files, but its pixels are not those that `folder` keeps (another scaling), and it "
    "reads neither all formats nor turned photographs; FileImages must give the same bytes as pixels, so PIL it is. "
    "Images per CPU-second are what a core gives; images per second tell how busy this machine was."
)


def pink_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A gray 1/f image, with a little of another one in each color channel."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    spectrum = rng.normal(size=(4, *frequency.shape, 2)) @ (1, 1j) / np.maximum(frequency, 1)
    layers = np.fft.irfft2(spectrum, s=(height, width))
    image = layers[:1] + 0.3 * layers[1:]
    return np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def with_torchvision(path: Path) -> torch.Tensor:
    image = torchvision.io.decode_jpeg(torchvision.io.read_file(str(path)))
    return functional.center_crop(functional.resize(image, [SIZE], antialias=True), [SIZE, SIZE])


def streamed(root: Path, names: list[str], workers: int) -> None:
    with FileImages(root, names, SIZE, 3, torch.device("cpu"), workers=workers) as images:
        batches = torch.arange(len(names)).split(BATCH)
        with images.prefetch(batches):
            for index in batches:
                images[index]


def ways(root: Path, names: list[str]) -> dict[str, Callable[[], object]]:
    return {
        "PIL, as `folder` decodes": lambda: [decode(read_bytes(root / name), SIZE, "RGB") for name in names],
        "torchvision: decode, resize, crop": lambda: [with_torchvision(root / name) for name in names],
        "FileImages, 1 thread": lambda: streamed(root, names, 1),
        "FileImages, 2 threads": lambda: streamed(root, names, 2),
    }


def rows(height: int, width: int, number: int, rounds: int) -> list[str]:
    """Table rows for files of one shape."""
    with tempfile.TemporaryDirectory() as folder:
        root, rng = Path(folder), np.random.default_rng(0)
        names = [f"{k}.jpg" for k in range(number)]
        for name in names:
            Image.fromarray(pink_noise(height, width, rng)).save(root / name, quality=90)
        size = sum((root / name).stat().st_size for name in names) / number / 1000
        best: dict[str, tuple[float, float]] = {}
        for _ in range(rounds):
            for way, work in ways(root, names).items():
                cpu, wall = time.process_time(), time.perf_counter()
                work()
                spent = (time.process_time() - cpu, time.perf_counter() - wall)
                best[way] = tuple(map(min, zip(spent, best.get(way, spent), strict=True)))
    return [
        f"| {height} x {width} | {size:.0f} | {way} | {number / cpu:.0f} | {number / wall:.0f} |"
        for way, (cpu, wall) in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decode.md"))
    parser.add_argument("--files", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| files | kB | way | images per CPU-second | images per second |",
        "| --- | --- | --- | --- | --- |",
    ]
    for height, width in SHAPES:
        number = options.files if height < 1000 else options.files // 4
        lines += rows(height, width, number, options.rounds)
    facts = (
        f"{options.files} files (a quarter of the largest), best of {options.rounds} rounds, {os.cpu_count()} cores "
        f"shared with other work, {platform.machine()}; pillow {Image.__version__} with libjpeg-turbo "
        f"{features.version('libjpeg_turbo')}, torchvision {torchvision.__version__}."
    )
    text = "\n".join(["# Decoding JPEG files to 256 x 256", "", facts, "", *lines, "", READING, ""])
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
