"""Write the photos of benchmarks/photos10k: 10,000 training and 10,000 test images of CIFAR-10 as PNG files, with manifests.

    python benchmarks/real_photos.py --images cifar10-jpeg.npz --human cifar-n-labels.npz --out photos10k

`--images` is CIFAR-10 re-encoded as JPEG: one header that all files share, their entropy-coded scans end to end and the
scans' lengths (arrays `header`, `scans`, `lengths`), and `y_train`, `y_test`. `--human` holds CIFAR-N's labels in the order
of the training images (`c10_worse`, `c10_aggre`, `c10_random1`). The training images are the first 1,000 of each class, or
as many as `--per-class` says. Written are train/NUMBER.png, test/NUMBER.png (NUMBER is the image's place in CIFAR-10),
given.csv and true.csv (path, label, split) with the right labels, and worse.csv, aggre.csv and random1.csv (path, label),
three sets of human labels of the training images, as class numbers.
"""

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUMAN = ("worse", "aggre", "random1")
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
        labels, human_labels = (
            np.concatenate([data["y_train"], data["y_test"]]),
            {name: human[f"c10_{name}"] for name in HUMAN},
        )
    chosen = [
        place
        for split in (range(TRAIN), range(TRAIN, len(labels)))
        for place in split
        if place >= TRAIN or (labels[: place + 1] == labels[place]).sum() <= given.per_class
    ]
    given.out.mkdir(parents=True)
    rows: list[list[str]] = []
    people: dict[str, list[list[Any]]] = {name: [] for name in HUMAN}
    for place in chosen:
        split, number = ("train", place) if place < TRAIN else ("test", place - TRAIN)
        path = f"{split}/{number:05d}.png"
        (given.out / split).mkdir(exist_ok=True)
        jpeg = header + scans[starts[place] : ends[place]] + b"\xff\xd9"
        Image.open(io.BytesIO(jpeg)).convert("RGB").save(given.out / path)
        rows.append([path, NAMES[labels[place]], split])
        if split == "train":
            for name, given_by in people.items():
                given_by.append([path, int(human_labels[name][place])])
    _write(given.out / "given.csv", ["path", "label", "split"], rows)
    _write(given.out / "true.csv", ["path", "label"], [row[:2] for row in rows])
    for name, given_by in people.items():
        _write(given.out / f"{name}.csv", ["path", "label"], given_by)
        wrong = np.mean([row[1] != NAMES[person[1]] for row, person in zip(rows, given_by, strict=False)])
        print(f"{len(given_by)} training images, of which {name!r} names {wrong:.2%} wrongly")
    print(f"{sum(row[2] == 'test' for row in rows)} test images")


def _write(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


if __name__ == "__main__":
    main()
