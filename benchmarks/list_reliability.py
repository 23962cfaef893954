r"""Whether clean_probability is a probability: of the labels with p = 0.3, are 30 % right? A table and a figure.

    python benchmarks/list_reliability.py --root PHOTOS \
        --out benchmarks/results/list_reliability --figure docs/reliability.svg
    python benchmarks/list_reliability.py --pixels cifar10-jpeg.npz --labels cifar-n-labels.npz \
        --out benchmarks/results/list_reliability --figure docs/reliability.svg

Photos and noises are those of benchmarks/list_quality.py. Labels are put into ten bins by clean_probability; OUT.csv has of
each bin how many labels it holds (of all seeds together), their mean probability, and the share of them that is right. Each
command replaces its own rows, and draws the figure of all rows.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from list_quality import (
    NOISES,
    PLANTED,
    by_noisyctl,
    calibration_error,
    cifar_pixels,
    embedded,
    own_photos,
    planted,
)

matplotlib.use("svg")
BINS = 10
FEWEST = 20  # labels in a bin that is drawn
COLUMNS = (
    "data",
    "noise",
    "samples",
    "seeds",
    "calibration_error",
    "bin",
    "labels",
    "mean_probability",
    "right",
)


def bins_of(about: dict[str, Any], clean: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    place = np.minimum((clean * BINS).astype(int), BINS - 1)
    about = about | {"calibration_error": f"{calibration_error(clean, right):.4f}"}
    rows = []
    for number in range(BINS):
        inside = place == number
        if inside.any():
            shares = {
                "mean_probability": f"{clean[inside].mean():.4f}",
                "right": f"{right[inside].mean():.4f}",
            }
            rows.append(about | {"bin": number, "labels": int(inside.sum())} | shares)
    return rows


def judged(
    features: np.ndarray, labels: np.ndarray, true: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    answer = by_noisyctl(features, labels, int(true.max()) + 1, seed)
    return answer["clean"], labels == true


def photos(options: argparse.Namespace) -> list[dict[str, Any]]:
    features, names, true = own_photos(options.root, options.cache)
    rows = []
    for noise in PLANTED:
        found = []
        for seed in range(1, options.seeds + 1):
            labels = planted(noise, true, names, np.random.default_rng(seed))
            found.append(judged(features, labels, true, seed))
        clean, right = (np.concatenate(parts) for parts in zip(*found, strict=True))
        about = {"data": "photos", "noise": noise, "samples": len(true), "seeds": options.seeds}
        rows += bins_of(about, clean, right)
        print(about, rows[-1]["calibration_error"], flush=True)
    return rows


def cifar_n(options: argparse.Namespace) -> list[dict[str, Any]]:
    pixels = cifar_pixels(options.pixels, options.samples)
    features = embedded(pixels, options.cache / "cifar10-160.npy", 160)
    stored, rows = np.load(options.labels), []
    true = stored["c10_clean"][: options.samples].astype(np.int64)
    for noise in NOISES[len(PLANTED) :]:
        labels = stored[f"c10_{noise}"][: options.samples].astype(np.int64)
        about = {"data": "CIFAR-10N", "noise": noise, "samples": len(true), "seeds": 1}
        rows += bins_of(about, *judged(features, labels, true, 1))
        print(about, rows[-1]["calibration_error"], flush=True)
    return rows


def publish(rows: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    place = out.with_suffix(".csv")
    kept = list(csv.DictReader(place.open())) if place.exists() else []
    new = {row["data"] for row in rows}
    rows = [*(row for row in kept if row["data"] not in new), *rows]
    rows.sort(key=lambda row: (NOISES.index(row["noise"]), int(row["bin"])))
    with place.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def draw(rows: list[dict[str, Any]], figure: Path) -> None:
    """A panel a data set: mean probability of a bin against the share that is right, with two standard errors."""
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "reliability"
    sets = list(dict.fromkeys(row["data"] for row in rows))
    drawn, panels = pyplot.subplots(1, len(sets), figsize=(4.6 * len(sets), 4.4), squeeze=False)
    for panel, data in zip(panels[0], sets, strict=True):
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for noise in dict.fromkeys(row["noise"] for row in rows if row["data"] == data):
            own = [row for row in rows if row["data"] == data and row["noise"] == noise]
            number, mean, right = (
                np.array([float(row[name]) for row in own if int(row["labels"]) >= FEWEST])
                for name in ("labels", "mean_probability", "right")
            )
            error = 2 * np.sqrt(right * (1 - right) / number)
            title = f"{noise} (ECE {float(own[0]['calibration_error']):.3f})"
            panel.errorbar(mean, right, error, marker="o", markersize=4, linewidth=1, capsize=2, label=title)
        samples, seeds = own[0]["samples"], int(own[0]["seeds"])
        panel.set_title(f"{data}: {samples} samples" + (f", {seeds} seeds" if seeds > 1 else ""))
        panel.set_xlabel("clean_probability, mean of the bin")
        panel.set_ylabel("share of these labels that are right")
        panel.legend(fontsize=8, frameon=False)
    drawn.tight_layout()
    drawn.savefig(figure, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    parser.add_argument("--pixels", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/list_quality"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    rows = cifar_n(options) if options.pixels is not None else photos(options)
    draw(publish(rows, options.out), options.figure)


if __name__ == "__main__":
    main()
