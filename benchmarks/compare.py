"""Methods side by side on one data set and noise: mean and deviation over seeds.

    python benchmarks/compare.py --params benchmarks/own_photos.yaml --seeds 3

The params file says what is compared: data set, noise (none: the given labels), warm-up and methods. Label-free work is
done once; noise, warm-up and training once a seed. Writes NAME.md, .csv, .tex, .json (all metrics) and .txt (the command,
versions, seconds a method) to --out. What an earlier call has finished under data/ is not done again.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from noisyctl import methods
from noisyctl.artifacts import files
from noisyctl.cli.options import command
from noisyctl.cli.stage import Stage
from noisyctl.config import read_params_file
from noisyctl.layout import Layout
from noisyctl.session import Session
from stages import (
    cluster_scan,
    evaluate,
    inject_noise,
    mine_knn,
    prepare_data,
    pretrain,
    table,
    train_method,
    warmup,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", help="of the params file; all if not given")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    file = read_params_file(options.params)
    names = options.methods or list(file.get("methods"))
    noise = next(iter(file.get("noises") or {}), "given")
    layout = Layout(str(file.get("dataset")), str(file.get("pretrain") or "simclr"), noise)
    seconds: dict[str, list[float]] = {}

    def call(stage: Stage, *words: str, makes: Path, seed: int = 0) -> None:
        if makes.exists():
            return
        with _timed(seconds, stage.name):
            command(stage)([*common, "--seed", str(seed), *words], standalone_mode=False)

    common = ["--params-file", str(options.params), "--noise", noise, "--dataset", layout.dataset]
    call(prepare_data.STAGE, makes=layout.home / "images.zarr")
    needs = [methods.spec_of(name).needs.under(file.get(f"methods.{name}") or {}) for name in names]
    if any(need.neighbors or need.clusters for need in needs):
        call(pretrain.stage(layout.pretrain), makes=layout.encoder / "features.zarr")
        call(mine_knn.STAGE, makes=layout.neighbors)
    if any(need.clusters for need in needs):
        call(cluster_scan.STAGE, makes=layout.clusters)
    runs = []
    for seed in range(options.seeds):
        at = replace(layout, seed=seed)
        if noise != "given":
            call(inject_noise.STAGE, makes=at.labels, seed=seed)
        for name in names:
            spec = methods.spec_of(name)
            default = next(f.default for f in spec.fields if f.name == "warmup_profile")
            profile = (file.get(f"methods.{name}") or {}).get("warmup_profile", default)
            if spec.needs.warmup:
                made = at.warmup(profile) / "trace.zarr"
                call(warmup.STAGE, "--profile", profile, makes=made, seed=seed)
            made = at.run(name) / "trace.zarr"
            call(train_method.stage(name, methods.modules()[name], spec.summary), makes=made, seed=seed)
            runs.append(at.run(name))
    facts = tuple(sorted(layout.home.glob(f"noise/{noise}-s*/noise.zarr")))
    judged = layout.home / options.params.stem
    truth = layout.home / "truth.zarr"
    evaluate.run(evaluate.Inputs(tuple(runs), judged, truth if truth.exists() else None, facts))
    target = options.out / options.params.stem
    table.run(table.Inputs((judged / "metrics.json",), target.with_suffix(".md")), None, Session())
    metrics = json.loads((judged / "metrics.json").read_text())
    with files.publish(target.with_suffix(".json"), files.Own()) as partial:
        partial.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    with files.publish(target.with_suffix(".txt"), files.Own()) as partial:
        partial.write_text("\n".join(_about(seconds)) + "\n")


@contextmanager
def _timed(seconds: dict[str, list[float]], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.setdefault(name, []).append(time.perf_counter() - start)


def _about(seconds: dict[str, list[float]]) -> list[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))
    lines = [
        "python " + " ".join(sys.argv),
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}",
    ]
    return lines + [f"{name}: {', '.join(f'{s:.0f}' for s in times)} s" for name, times in seconds.items()]


if __name__ == "__main__":
    main()
