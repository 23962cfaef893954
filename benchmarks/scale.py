"""What evaluate costs on a long run of a large data set, and table on very many runs: artifacts of random numbers.

    python benchmarks/scale.py evaluate --out benchmarks/results/scale_evaluate.json
    python benchmarks/scale.py table --out benchmarks/results/scale_table.json

`evaluate`: one run of --samples images, --epochs epochs and two networks, with losses, clean probabilities, selections,
pseudo-labels, predictions and those of the second network. `table`: --runs runs in five metrics.json. Each command runs
--repeats times in a process of its own; its clock, its CPU and the peak of its memory are reported.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import metrics, store
from noisyctl.artifacts.kinds import TRACE, TRUTH

CLASSES = 10
NAMES = [f"class {i}" for i in range(CLASSES)]


def build_run(home: Path, n: int, epochs: int) -> list[str]:
    """A trace and its truth; the command that judges them."""
    rng = np.random.default_rng(0)
    clean, test = rng.integers(0, CLASSES, n), rng.integers(0, CLASSES, n // 5)
    noisy = np.where(rng.random(n) < 0.4, rng.integers(0, CLASSES, n), clean)
    probabilities = rng.random((n, CLASSES), dtype=np.float32)
    both, of_test = (epochs, 2, n), (epochs, n // 5)
    arrays = {
        "train_id": np.array([f"{i:08x}" for i in range(n)]),
        "noisy_labels": noisy,
        "losses": rng.random(both, dtype=np.float32),
        "clean_probability": rng.random(both, dtype=np.float32),
        "selected": rng.random(both, dtype=np.float32) < 0.5,
        "pseudo_labels": rng.integers(0, CLASSES, (epochs, n), dtype=np.int32),
        "train_predictions": rng.integers(0, CLASSES, (epochs, n), dtype=np.int32),
        "train_probabilities": probabilities / probabilities.sum(axis=1, keepdims=True),
        "test_predictions": rng.integers(0, CLASSES, of_test, dtype=np.int32),
        "test_predictions_of_network2": rng.integers(0, CLASSES, of_test, dtype=np.int32),
    }
    about = {"params": {"seed": 0}, "attributes": {"method": "dividemix", "class_names": NAMES}}
    run, images = home / "runs/dividemix/random-s0", "0" * 64
    store.write(run / "trace.zarr", TRACE, arrays, inputs={"images": images, "labels": "1" * 64}, **about)
    truth = {"clean_labels": clean, "test_labels": test}
    inputs = {"images": images}
    store.write(home / "truth.zarr", TRUTH, truth, inputs=inputs, attributes={"class_names": NAMES})
    return [
        "evaluate",
        "--run",
        str(run),
        "--truth",
        str(home / "truth.zarr"),
        "--out",
        str(home / "results"),
    ]


def build_metrics(home: Path, count: int) -> list[str]:
    """metrics.json of so many runs, five seeds each; the command that puts them into one table."""
    rng, runs = np.random.default_rng(0), {}
    rules = ("last", "mean_last_10", "best_on_noisy_validation", "best_on_test_oracle", "gap_best_last")
    for i in range(count):
        name = f"method{i // 50}/noise{i // 5 % 10}-s{i % 5}"
        runs[name] = {
            "method": name.split("/")[0],
            "seed": i % 5,
            "params": {f"param{j}": j / 7 for j in range(40)} | {"seed": i % 5},
            "inputs": dict.fromkeys(("images", "labels", "neighbors", "warmup"), "0" * 64),
            "verified_labels": False,
            "assumed": [],
            "nominal_noise": 0.4,
            "measured_noise": 0.4,
            "list": {"warning": None, "samples": 50_000, "called_wrong": 20_000},
            "test_accuracy": {rule: float(rng.random()) for rule in rules},
            "detection": {key: float(rng.random()) for key in ("precision", "recall", "auc")},
        }
    places = [home / f"results{i}/metrics.json" for i in range(5)]
    for i, place in enumerate(places):
        place.parent.mkdir(parents=True)
        metrics.write(place, {"runs": dict(list(runs.items())[i::5])})
    return [
        "table",
        *(word for place in places for word in ("--metrics", str(place))),
        "--out",
        str(home / "t.md"),
    ]


def measure(words: list[str], folder: Path) -> dict[str, float]:
    code = "import sys; from noisyctl.cli.main import main; sys.argv = ['noisyctl', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, *words]
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"noisyctl {' '.join(words)} ended with {child.returncode}")
    return {
        "wall_seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("evaluate", "table"))
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        size: dict[str, Any] = {"runs": options.runs}
        if options.mode == "evaluate":
            words = build_run(home, options.samples, options.epochs)
            size = {"samples": options.samples, "epochs": options.epochs, "networks": 2}
        else:
            words = build_metrics(home, options.runs)
        measured = [measure(words, home) for _ in range(options.repeats)]
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    command = " ".join(["python", "benchmarks/scale.py", *sys.argv[1:]])
    text = json.dumps({"command": command} | size | {"repeats": measured} | machine, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
