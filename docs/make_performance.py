"""docs/performance.md and docs/performance.svg: what is gained per stage, from the results in benchmarks/results.

python docs/make_performance.py
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
VIEWS = {"plain": "plain", "weak": "weak", "simclr": "SimCLR's", "moco": "MoCo v2's", "strong": "strong"}


@dataclass(frozen=True)
class Gain:
    """How many times cheaper something is than something else, and where this was measured."""

    stage: str
    what: str
    than: str
    factor: float
    command: str
    file: str


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def gains() -> list[Gain]:
    """Every factor that the results hold, by stage."""
    return [*training(), *kept_memory(), *small_views(), *large_views(), *neighbors()]


def training() -> list[Gain]:
    found = read("precision_steps.json")
    command = f"benchmarks/precision.py steps --rounds {found['rounds']}"
    return [
        Gain(
            "training",
            f"an epoch of {name.replace(':', ', width ')}: channels_last and bfloat16",
            "float32 in the plain layout, one thread with AVX512_BF16 and AMX",
            modes["both"]["gain"][0],
            command,
            "precision_steps.md",
        )
        for name, modes in found["steps"].items()
    ]


def kept_memory() -> list[Gain]:
    found = read("kept_memory.json")
    return [
        Gain(
            "memory",
            f"{name}, freed memory kept",
            "glibc's usual thresholds",
            gain[0],
            found["command"].removeprefix("python "),
            "kept_memory.md",
        )
        for name, gain in found["gain"].items()
    ]


def small_views() -> list[Gain]:
    found = read("views.json")
    return [
        Gain(
            "views, 32 pixels",
            f"{VIEWS[row['view']]} view, batches of 256",
            "torchvision on Pillow images",
            row["ratio"],
            found["command"].removeprefix("python "),
            "views.md",
        )
        for row in found["rows"]
        if row["batch"] == 256
    ]


def large_views() -> list[Gain]:
    """Against the form for a batch that was used before, and against the fastest of the others."""
    found, others = (
        read("views_224.json"),
        {
            "pillow_us": "torchvision on Pillow images",
            "v2_us": "torchvision v2",
            "albumentations_us": "albumentations",
        },
    )
    rows = []
    for row in found["rows"]:
        best = min((name for name in others if name in row), key=lambda name: row[name])
        for name, than in (
            ("as_a_batch_us", "as a batch, as before"),
            (best, f"{others[best]}, the fastest"),
        ):
            factor = row[name] / row["noisyctl_us"]
            about = f"{VIEWS[row['view']]} view, batches of {row['batch']}"
            if row["view"] == "plain" and name == "as_a_batch_us":
                continue  # the same code
            rows.append(
                Gain(
                    "views, 224 pixels",
                    about,
                    than,
                    factor,
                    found["command"].removeprefix("python "),
                    "views_224.md",
                )
            )
    return rows


def neighbors() -> list[Gain]:
    rows = []
    for name, about in (
        ("knn_pair.json", "50,000 x 128, order and proof in float64"),
        ("knn_pair_512.json", "50,000 x 512, order and proof in float64"),
        ("knn_pair_tight_2.json", "20,000 x 512 in ten tight clusters, spread 2 %"),
        ("knn_pair_tight_1.json", "50,000 x 512 in ten tight clusters, spread 1 %"),
        ("knn_pair_softmax_5.json", "50,000 x 10, softmax features"),
    ):
        found = read(name)
        seconds = found["cpu_seconds"]
        factor = seconds["faiss_alone"]["median"] / seconds["mine"]["median"]
        rows.append(
            Gain(
                "mine-knn",
                about,
                "faiss IndexFlatIP alone",
                factor,
                found["command"].removeprefix("python "),
                name,
            )
        )
    found = read("knn_hnsw.json")
    ways = found["links/construction/search"]
    factor = ways["32/200/200"]["cpu_seconds"] / ways["exact"]["cpu_seconds"]
    than = f"an HNSW graph with recall {ways['32/200/200']['recall']:.3f}"
    about = "50,000 x 128, exact"
    command = found["command"].removeprefix("python ")
    return [*rows, Gain("mine-knn", about, than, factor, command, "knn_hnsw.json")]


def page() -> str:
    """The page as text."""
    lines = [
        "# Performance",
        "",
        "<!-- made by `python docs/make_performance.py`; a test keeps it in step -->",
        "",
        "What a user gains in each stage, on a processor. Every factor was measured with the command beside it, both sides",
        "in one run, in CPU seconds, on machines of two shared cores. It says how many times cheaper the left",
        "side is than the right one: below 1 noisyctl is the slower one. The files, in benchmarks/results/, also tell",
        "versions, processor and load. No GPU was measured.",
        "",
        "![How many times cheaper each stage is, on a logarithmic scale](performance.svg)",
        "",
        "| stage | what | than | times cheaper | command | file |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {gain.stage} | {gain.what} | {gain.than} | {gain.factor:.2f} | `{gain.command}` | "
        f"[{gain.file}](../benchmarks/results/{gain.file}) |"
        for gain in gains()
    ]
    return "\n".join([*lines, *notes()]) + "\n"


def notes() -> list[str]:
    """What no factor says: costs of large work."""
    table, evaluate, memory = (
        read(f) for f in ("scale_table.json", "scale_evaluate.json", "knn_memory.json")
    )
    ways = (
        (
            f"`noisyctl table` over {table['runs']} runs",
            min(r["cpu_seconds"] for r in table["repeats"]),
            max(r["peak_gb"] for r in table["repeats"]),
            "scale_table.json",
        ),
        (
            f"`noisyctl evaluate` of {evaluate['samples']} samples, {evaluate['epochs']} epochs, two networks",
            evaluate["repeats"][0]["cpu_seconds"],
            evaluate["repeats"][0]["peak_gb"],
            "scale_evaluate.json",
        ),
        (
            f"`noisyctl mine-knn`: {memory['samples']} x {memory['dim']} from a Zarr array, 2,000 of the queries",
            memory["cpu_seconds_of_these"],
            memory["peak_gb"],
            "knn_memory.json",
        ),
    )
    lines = [
        "",
        "What large work costs:",
        "",
        "| | CPU seconds | peak GB | file |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {a} | {s:.1f} | {gb:.2f} | [{f}](../benchmarks/results/{f}) |" for a, s, gb, f in ways]
    found = read("passes.json")
    lines += [
        "",
        "What the passes beside training are of an epoch, of five training images to each test image:",
        "",
    ]
    lines += ["| method | training set | test images | checkpoint |", "| --- | --- | --- | --- |"]
    for name, shares in found["shares"].items():
        lines.append(f"| {name} | {' | '.join(f'{100 * share:.1f} %' for share in shares.values())} |")
    return [
        *lines,
        "",
        f"(`{found['command'].removeprefix('python ')}`, [passes.md](../benchmarks/results/passes.md).) The pass over the",
        "training set is what DivideMix and ScanMix divide it by; `--test-every` thins out the one over test images.",
        "",
        "What each command costs to start: [startup.md](../benchmarks/results/startup.md). What a step of DivideMix",
        "consists of: [dividemix_step.md](../benchmarks/results/dividemix_step.md). That accuracies stay where they are",
        "with bfloat16: [results.md](results.md).",
    ]


def draw(place: Path) -> None:
    """A bar for each factor."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "performance"
    found = gains()[::-1]
    figure, panel = pyplot.subplots(figsize=(9, 0.26 * len(found) + 1))
    stages = list(dict.fromkeys(gain.stage for gain in gains()))
    colors = [f"C{stages.index(gain.stage)}" for gain in found]
    panel.barh(range(len(found)), [gain.factor - 1 for gain in found], left=1, color=colors)
    labels = [f"{g.stage}: {g.what.split(', ')[0]} / {g.than.split(', ')[0]}".replace("`", "") for g in found]
    panel.set_yticks(range(len(found)), labels, fontsize=7)
    panel.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16, 32]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.axvline(1, color="0.3", linewidth=1)
    panel.set_xlabel("times cheaper (CPU seconds)")
    figure.tight_layout()
    figure.savefig(place, metadata={"Date": None})


if __name__ == "__main__":
    (HERE / "performance.md").write_text(page())
    draw(HERE / "performance.svg")
