"""Every method on the features of a frozen encoder, on real images with real and with planted noise.

    python benchmarks/on_vectors.py --noise sym50 --noise asym40 --noise worse            all methods, seed 0
    python benchmarks/on_vectors.py --noise sym80 --method elr --method cross_entropy --seeds 3
    python benchmarks/on_vectors.py --publish benchmarks/results/on_vectors.md            tables of what --out holds

It runs in a folder whose params.yaml (benchmarks/on_vectors.yaml) names the data set, the noises and every method's epochs,
and where `prepare-data`, `embed` and `mine-knn` have been run. For each noise and seed it makes the labels, the warm-ups and
the runs that are not there yet, one process after the other, and evaluates; what it measured goes to `--out` as JSON: test
accuracy of the last epoch, AUC and average precision of the list of wrong labels, and the seconds of the training command
(which is whole wall-clock time, with start-up). A stopped call goes on where it was.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from noisyctl import methods

HOME = Path("data/cifar10_jpeg/efficientnet_lite0")


def noisyctl(*words: str) -> float:
    """The seconds that a command took."""
    begun = time.perf_counter()
    call = [sys.executable, "-c", "from noisyctl.cli.main import main; main()", *words]
    done = subprocess.run(call, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return time.perf_counter() - begun


def run(method: str, noise: str, seed: int, known: dict[str, Any]) -> None:
    """Train and evaluate one method, unless that is known already, and write down what came out."""
    key, cell = f"{method}/{noise}/{seed}", f"{noise}-s{seed}"
    if key in known:
        return
    at = ("--noise", noise, "--seed", str(seed))
    if not Path(f"data/cifar10_jpeg/noise/{cell}/labels.zarr").exists():
        noisyctl("inject-noise", *at)
    needs = methods.spec_of(method).needs
    profile = "clustered" if needs.clusters else "default"
    if needs.clusters and not (HOME / "vectors/clusters.safetensors").exists():
        noisyctl("cluster-scan", "--seed", "0")
    if needs.warmup and not (HOME / "warmup" / profile / cell / "trace.zarr").exists():
        noisyctl("warmup", "--profile", profile, *at)
    seconds = noisyctl("train-method", method, *at)
    out, place = HOME / "results" / method / cell, HOME / "runs" / method / cell
    noisyctl("evaluate", "--run", str(place), "--out", str(out))
    ((_, found),) = json.loads((out / "metrics.json").read_text())["runs"].items()
    known[key] = {"seconds": round(seconds, 1), **found}


def summed_up(known: dict[str, Any]) -> str:
    """A table for each noise: methods by test accuracy, each with its list of wrong labels and the time of its training."""
    noises = list(dict.fromkeys(key.split("/")[1] for key in known))
    lines: list[str] = []
    for noise in noises:
        head = ["method", "seeds", "accuracy, last epoch", "AUC", "average precision", "seconds"]
        rows = []
        for method in dict.fromkeys(key.split("/")[0] for key in known):
            runs = [v for k, v in known.items() if k.startswith(f"{method}/{noise}/")]
            if not runs:
                continue
            if whys := [one["failed"] for one in runs if "failed" in one]:
                rows.append((-1.0, [method, str(len(runs)), whys[0], "", "", ""]))
                continue
            told = [one["test_accuracy"]["last"] for one in runs if one.get("test_accuracy")]
            found = [[one["detection"][name] for one in runs] for name in ("auc", "average_precision")]
            measured = [
                _spread(told, 2) if told else "-",
                *(_spread(values, 3) for values in found),
                _spread([one["seconds"] for one in runs], 0),
            ]
            rows.append((statistics.fmean(told) if told else 0.0, [method, str(len(runs)), *measured]))
        lines += ["", f"## {noise}", "", _table([r for _, r in sorted(rows, reverse=True)], head)]
    return "\n".join(lines[1:]) + "\n"


def _table(rows: list[list[str]], head: list[str]) -> str:
    align = ("left", *("right" for _ in head[1:]))
    return tabulate(rows, head, "github", disable_numparse=True, colalign=align)


def _spread(values: list[float], digits: int) -> str:
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--noise", action="append", default=[], help="block of `noises:`, repeatable")
    parser.add_argument("--method", action="append", help="only these methods, repeatable [all]")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... [1]")
    parser.add_argument(
        "--out", type=Path, default=Path("on_vectors.json"), help="file with what was measured"
    )
    parser.add_argument(
        "--publish", type=Path, help="write the tables of `--out` to this file, and run nothing"
    )
    given = parser.parse_args()
    known: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    if given.publish:
        given.publish.write_text(summed_up(known))
        return
    for method in given.method or methods.available():
        for noise in given.noise:
            for seed in range(given.seeds):
                try:
                    run(method, noise, seed, known)
                except RuntimeError as error:  # such as a loss that is not finite: that is a result, too
                    known[f"{method}/{noise}/{seed}"] = {"failed": str(error)}
                print(method, noise, seed, "is done", file=sys.stderr, flush=True)
                given.out.write_text(json.dumps(known, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
