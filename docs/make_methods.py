"""Write docs/methods.md from the methods' sources and the results measured; and two tables of README.md.

    python docs/make_methods.py

Costs come from noisyctl/papers/data/costs.yaml (benchmarks/costs.py), accuracies from benchmarks/results/methods.json,
metrics of runs on the reference toy (benchmarks/methods.yaml); what was not measured is a dash. The README has a table of
the methods, and of the demonstration's results from data/digits/results/metrics.json.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import yaml

from noisyctl.artifacts import metrics
from noisyctl.evaluation import tables
from noisyctl.params import Needs
from stages import methods

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COSTS = ROOT / "noisyctl" / "papers" / "data" / "costs.yaml"
BEGIN = "<!-- methods: written by `python docs/make_methods.py` -->"
END = "<!-- end of methods -->"
DEMONSTRATION = ROOT / "data" / "digits" / "results" / "metrics.json"
BEGIN_RESULTS = "<!-- results of the demonstration: written by `python docs/make_methods.py` -->"
END_RESULTS = "<!-- end of results -->"
RESULTS_SHOWN = {  # columns of data/digits/table.md, and how the README calls them
    "method": "method",
    "last": "last",
    "mean of last 10": "mean of last 10",
    "best on test (oracle)": "best on test",
    "detection precision": "precision",
    "recall": "recall",
    "AUC": "AUC",
}
HEAD = """\
# Methods

Made by `python docs/make_methods.py` from the sources of the methods. `noisyctl methods` lists them, `noisyctl
train-method NAME --dry-run` shows every param with its source, and what differs from paper and authors' code stands in a
file's docstring.

*needs*: what a method starts from. *forward*, *backward*: images per training image and epoch that pass through a network
and that a gradient comes back from, in a method's main phase; counted on digits with 40 % wrong labels
(benchmarks/costs.py); where a method passes over the samples that it holds for clean, the numbers depend on their share.
*accuracy*: last epoch on the reference toy, percent, mean and deviation over seeds (benchmarks/methods.yaml);
*gain*: the mean of the seeds' differences to cross-entropy. No ranking: settings were chosen once for this toy.
"""


def text(results: Path = RESULTS, counted: Path = COSTS) -> str:
    """docs/methods.md."""
    costs, accuracies = measured_costs(counted), measured_accuracies(results)
    baseline = accuracies.get("cross_entropy", {})
    rows = methods.run()
    lines = [
        HEAD,
        "| method | paper | file | needs | forward | backward | accuracy | gain |",
        "| --- " * 8 + "|",
    ]
    for name, row in rows.items():
        counts = costs.get(name, {})
        cells = [f"{counts[key]:g}" if key in counts else "-" for key in ("forward", "backward")]
        of_seeds = accuracies.get(name, {})
        gains = [value - baseline[seed] for seed, value in of_seeds.items() if seed in baseline]
        cells += [_mean(list(of_seeds.values())), f"{statistics.mean(gains):+.1f}" if gains else "-"]
        lines.append(f"{_row(name, row)} {' | '.join(cells)} |")
    lines += ["", "## What each does", ""]
    for name, row in rows.items():
        cited = " ".join(f'{p["authors"]}, "{p["title"]}", {p["published"]}.' for p in row["papers"])
        lines.append(f"- `{name}`: {row['summary']} {cited}".rstrip())
    return "\n".join(lines) + "\n"


def table() -> str:
    """The table of the README."""
    rows = [_row(name, row) for name, row in methods.run().items()]
    return "\n".join(["| method | paper | file | needs |", "| --- | --- | --- | --- |", *rows])


def _row(name: str, row: methods.Row) -> str:
    paper = "; ".join(map(methods.short, row["papers"])) or "the baseline"
    needs = methods.needs_text(Needs(**row["needs"]))
    return f"| `{name}` | {paper} | noisyctl/methods/{name}.py | {needs} |"


def results() -> str:
    """The demonstration's results as the README shows them: some columns of data/digits/table.md."""
    head, *rows = tables.table(metrics.read(DEMONSTRATION)["runs"])
    places = [head.index(title) for title in RESULTS_SHOWN]
    shown = [list(RESULTS_SHOWN.values()), *([row[i] for i in places] for row in rows)]
    return tables.render(shown, "md").split("\n\n", 1)[1].rstrip()


def readme(old: str) -> str:
    """The README with new tables between their marks."""
    for begin, new, end in ((BEGIN_RESULTS, results(), END_RESULTS), (BEGIN, table(), END)):
        if begin in old:
            before, _, rest = old.partition(begin)
            _, _, after = rest.partition(end)
            old = f"{before}{begin}\n{new}\n{end}{after}"
    return old


def measured_costs(path: Path) -> dict[str, dict[str, float]]:
    """Of every method; empty without the file."""
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def measured_accuracies(results: Path) -> dict[str, dict[int, float]]:
    """The last epoch's test accuracy of each method and seed; empty without the file."""
    path, by_method = results / "methods.json", dict[str, dict[int, float]]()
    runs: dict[str, Any] = json.loads(path.read_text())["runs"] if path.exists() else {}
    for run in runs.values():
        if "last" in run.get("test_accuracy", {}):
            by_method.setdefault(run["method"], {})[run["seed"]] = run["test_accuracy"]["last"]
    return by_method


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" \u00b1 {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


if __name__ == "__main__":
    (ROOT / "docs" / "methods.md").write_text(text())
    (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text()))
