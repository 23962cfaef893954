"""Write the photos of benchmarks/photos10k: 10,000 training and 10,000 test images of CIFAR-10 as PNG files, with manifests.

    python benchmarks/real_photos.py --images cifar10-jpeg.npz --human cifar-n-labels.npz --out photos10k

`--images` is CIFAR-10 re-encoded as JPEG: one header that all files share, their entropy-coded scans end to end and the
scans' lengths (arrays `header`, `scans`, `lengths`), and `y_train`, `y_test`. `--human` holds CIFAR-N's labels in the order
of the training images (`c10_worse`). The training images are the first 1,000 of each class. Written are train/NUMBER.png,
test/NUMBER.png (NUMBER is the image's place in CIFAR-10), given.csv and true.csv (path, label, split) with the right
labels, and worse.csv (id, label), the human labels "worse" of the training images.
"""

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="CIFAR-10 re-encoded as JPEG (.npz)")
    parser.add_argument("--human", type=Path, required=True, help="CIFAR-N's labels (.npz)")
    parser.add_argument("--per-class", type=int, default=1000, help="training images of each class")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    given = parser.parse_args()
    with np.load(given.images) as data, np.load(given.human) as human:
        ends = np.cumsum(data["lengths"].astype(int))
        starts, header, scans = ends - data["lengths"], data["header"].tobytes(), data["scans"].tobytes()
        labels, worse = np.concatenate([data["y_train"], data["y_test"]]), human["c10_worse"]
    chosen = [
        place
        for split in (range(TRAIN), range(TRAIN, len(labels)))
        for place in split
        if place >= TRAIN or (labels[: place + 1] == labels[place]).sum() <= given.per_class
    ]
    given.out.mkdir(parents=True)
    rows, people = [], []
    for place in chosen:
        split, number = ("train", place) if place < TRAIN else ("test", place - TRAIN)
        path = f"{split}/{number:05d}.png"
        (given.out / split).mkdir(exist_ok=True)
        jpeg = header + scans[starts[place] : ends[place]] + b"\xff\xd9"
        Image.open(io.BytesIO(jpeg)).convert("RGB").save(given.out / path)
        rows.append([path, NAMES[labels[place]], split])
        if split == "train":
            people.append([path, NAMES[worse[place]]])
    _write(given.out / "given.csv", ["path", "label", "split"], rows)
    _write(given.out / "true.csv", ["path", "label"], [row[:2] for row in rows])
    _write(given.out / "worse.csv", ["id", "label"], people)
    wrong = np.mean([row[1] != person[1] for row, person in zip(rows, people, strict=False)])
    print(
        f"{len(people)} training and {len(rows) - len(people)} test images; 'worse' is wrong for {wrong:.4f}"
    )


def _write(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


if __name__ == "__main__":
    main()
