"""Neighbor mining against faiss alone, its memory out of core, and what an HNSW graph saves and misses.

    python benchmarks/knn.py pair --samples 50000 --threads 1 --out benchmarks/results/knn_pair.json
    python benchmarks/knn.py pair --dim 512 --spread 0.02 --repeats 2 --out benchmarks/results/knn_pair_tight_2.json
    python benchmarks/knn.py pair --dim 10 --confidence 5 --out benchmarks/results/knn_pair_softmax_5.json
    python benchmarks/knn.py memory --samples 1000000 --queries 2000 --out benchmarks/results/knn_memory.json
    python benchmarks/knn.py hnsw --samples 50000 --out benchmarks/results/knn_hnsw.json

`pair` alternates the two (A B A B ...): A is `IndexFlatIP.search` of the k + 1 best of rows that are normalized and added
beforehand, B is all of `mine` on the raw rows (reading, normalizing, search, float64 order, proof that nothing was missed).
`memory` mines some queries among all rows of a Zarr v3 array in a process of its own and reports the peak of its memory.
Features are Gaussian with standard deviations 1 / sqrt(i), as principal components decay; with --spread, rows of 10 tight
clusters, so far from a center of norm 1; with --confidence, the softmax of logits whose class is so much ahead (1.5 times
a Gaussian, dim classes); or --features, an .npy file.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROWS = 8192


def blocks(options: argparse.Namespace) -> Iterator[np.ndarray]:
    """The features, some rows at a time."""
    if options.features:
        values = np.load(options.features, mmap_mode="r")[: options.samples]
        yield from (values[i : i + ROWS] for i in range(0, len(values), ROWS))
        return
    rng, scale = np.random.default_rng(0), np.arange(1, options.dim + 1) ** -0.5
    centers = rng.standard_normal((10, options.dim))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    for start in range(0, options.samples, ROWS):
        rows = min(ROWS, options.samples - start)
        values = rng.standard_normal((rows, options.dim))
        if options.spread:
            label = rng.integers(0, 10, rows)
            values = centers[label] + options.spread * options.dim**-0.5 * values
        elif options.confidence:
            values[np.arange(rows), rng.integers(0, options.dim, rows)] += options.confidence
            values = np.exp(1.5 * values)
            values /= values.sum(axis=1, keepdims=True)
        else:
            values *= scale
        yield values.astype(np.float32)


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock, and of the CPU in all threads, which other work on the machine moves less."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def pair(options: argparse.Namespace) -> dict[str, Any]:
    import faiss
    import torch

    from noisyctl.parts.neighbors import mine

    rows = np.concatenate(list(blocks(options)))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(unit)
    values = torch.from_numpy(rows)
    mine(values[:1000], options.k, options.engine)  # imports are not timed
    alone, own = [], []
    for _ in range(options.repeats):
        faiss.omp_set_num_threads(options.threads)
        alone.append(timed(lambda: index.search(unit, options.k + 1)))
        own.append(timed(lambda: mine(values, options.k, options.engine)))
    return {
        clock: {
            "faiss_alone": summary([times[i] for times in alone]),
            "mine": summary([times[i] for times in own]),
            "ratio_of_pairs": summary([b[i] / a[i] for a, b in zip(alone, own, strict=True)]),
            "ratio_of_medians": round(median(b[i] for b in own) / median(a[i] for a in alone), 3),
        }
        for i, clock in enumerate(("wall_seconds", "cpu_seconds"))
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        group = zarr.open_group(folder, mode="w", zarr_format=3)
        shape, start = (options.samples, options.dim), 0
        array = group.create_array("embeddings", shape=shape, dtype="float32", chunks=(ROWS, options.dim))
        for part in blocks(options):
            array[start : start + len(part)] = part
            start += len(part)
        command = [sys.executable, __file__, "child", "--store", folder]
        command += ["--threads", str(options.threads), "--queries", str(options.queries)]
        command += ["--k", str(options.k), "--engine", options.engine]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def child(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    import zarr

    from noisyctl.parts.neighbors import mine

    features = zarr.open_group(options.store, mode="r")["embeddings"]
    mine(features[:1000], options.k, options.engine)
    before = peak()
    queries = torch.linspace(0, features.shape[0] - 1, options.queries, dtype=torch.float64).long()
    read, _ = timed(lambda: mine(features, options.k, options.engine, queries=queries[:1]))
    both, cpu = timed(lambda: mine(features, options.k, options.engine, queries=queries))
    return {
        "peak_gb": peak(),
        "peak_gb_of_the_libraries": before,
        "more_gb_with_the_result_of_every_row": round(features.shape[0] * options.k * 8 / 1e9, 3),
        "seconds_to_read_and_mine_1_query": round(read, 2),
        "seconds_to_read_and_mine_all_queries": round(both, 2),
        "cpu_seconds_of_these": round(cpu, 2),
        "hours_for_every_row": round((both - read) / options.queries * features.shape[0] / 3600, 3),
    }


def hnsw(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from noisyctl.parts.neighbors import mine, mine_hnsw

    values = torch.from_numpy(np.concatenate(list(blocks(options))))
    wall, cpu = timed(lambda: mine(values, options.k, "faiss"))
    found: dict[str, Any] = {
        "exact": {"wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "recall": 1.0}
    }
    for graph in options.graphs:
        names = dict(zip(("links", "construction", "search"), graph, strict=True))
        recalls: list[float] = []
        rng = torch.Generator().manual_seed(0)
        wall, cpu = timed(lambda: recalls.append(mine_hnsw(values, options.k, rng, **names).recall))  # noqa: B023
        times = {"wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
        found["/".join(map(str, graph))] = times | {"recall": round(recalls[0], 4)}
    return {"links/construction/search": found}


def peak() -> float:
    """Largest memory of this process so far, in units of 10^9 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


def summary(values: list[float]) -> dict[str, float]:
    numbers = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in numbers.items()} | {"runs": len(values)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = {"pair": pair, "memory": memory, "hnsw": hnsw, "child": child}
    parser.add_argument("mode", choices=modes, help="child: what memory runs")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", choices=("faiss", "torch"), default="faiss")
    parser.add_argument("--repeats", type=int, default=5, help="of A B")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--spread", type=float, help="distance of a row from its cluster's center")
    parser.add_argument("--confidence", type=float, help="lead of a row's class among the logits")
    parser.add_argument("--features", type=Path, help=".npy of float32 [samples dim]")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    graph = "links,construction,search"
    parser.add_argument(
        "--graphs", nargs="*", metavar=graph, default=["16,100,60", "32,100,100", "32,200,200"]
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.graphs = [tuple(int(n) for n in text.split(",")) for text in options.graphs]
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import faiss
    import torch

    torch.set_num_threads(options.threads)
    measured = modes[options.mode](options)
    if options.mode != "child":
        versions = {"torch": torch.__version__, "faiss": faiss.__version__, "numpy": np.__version__}
        names = ("samples", "dim", "k", "threads", "engine", "spread", "confidence")
        shape = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        simd = torch.backends.cpu.get_cpu_capability()
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "instructions": simd}
        command = " ".join(["python", "benchmarks/knn.py", *sys.argv[1:]])
        measured = {"command": command} | shape | measured | versions | machine
    text = json.dumps(measured, indent=None if options.mode == "child" else 2)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
