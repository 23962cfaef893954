"""Tables of many runs as Markdown, CSV and LaTeX. A number that was not measured is a dash."""

import csv
import io
import statistics
from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "method": ("method",),
    "noise nominal": ("nominal_noise",),
    "measured": ("measured_noise",),
    "seeds": ("seeds",),
    "last": ("test_accuracy", "last"),
    "mean of last 10": ("test_accuracy", "mean_last_10"),
    "best on noisy validation": ("test_accuracy", "best_on_noisy_validation"),
    "best on test (oracle)": ("test_accuracy", "best_on_test_oracle"),
    "gap best - last": ("test_accuracy", "gap_best_last"),
    "detection precision": ("detection", "precision"),
    "recall": ("detection", "recall"),
    "AUC": ("detection", "auc"),
}


RARE = ("best on noisy validation",)  # shown where a run has it


def table(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The head, then a row a method and noise: mean, and standard deviation where there are several seeds."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name, run in sorted(runs.items()):
        groups.setdefault((run["method"], name.rsplit("-s", 1)[0]), []).append(run)
    columns = {
        title: [_cell(column, group) for group in groups.values()] for title, column in COLUMNS.items()
    }
    shown = {title: cells for title, cells in columns.items() if title not in RARE or set(cells) - {"-"}}
    return [list(shown), *(list(row) for row in zip(*shown.values(), strict=True))]


def _cell(column: tuple[str, ...], group: list[Mapping[str, Any]]) -> str:
    if column == ("method",):
        return str(group[0]["method"]) + (" + verified labels" if group[0].get("verified_labels") else "")
    if column == ("seeds",):
        return str(len(group))
    values = [value for run in group if isinstance(value := _dig(run, column), int | float)]
    if not values:
        return "-"
    digits = 2 if column[0] == "test_accuracy" else 3
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def _dig(run: Mapping[str, Any], column: tuple[str, ...]) -> Any:
    value: Any = run
    for key in column:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def render(table: list[list[str]], kind: str) -> str:
    """The table as `md`, `csv` or `tex`."""
    head, *body = table
    if kind == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(table)
        return out.getvalue()
    if kind == "tex":
        lines = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in table]
        return "\n".join([rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", *lines, r"\end{tabular}", ""])
    table = [head, ["---"] * len(head), *body]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in table) + "\n"
    )


def _tex(cell: str) -> str:
    for character in "&%$#_{}":
        cell = cell.replace(character, f"\\{character}")
    return cell.replace("±", r"$\pm$")
