"""Tables of many runs as Markdown, CSV and LaTeX. A number that was not measured is a dash."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from noisyctl.artifacts import csv_files
from noisyctl.artifacts.csv_files import NOTHING

COLUMNS = {
    "method": ("method",),
    "noise nominal": ("nominal_noise",),
    "measured": ("measured_noise",),
    "seeds": ("seeds",),
    "last": ("test_accuracy", "last"),
    "last, balanced": ("test_by_class", "balanced_accuracy"),
    "mean of last 10": ("test_accuracy", "mean_last_10"),
    "best on noisy validation": ("test_accuracy", "best_on_noisy_validation"),
    "best on refined validation": ("test_accuracy", "best_on_refined_validation"),
    "best on test (oracle)": ("test_accuracy", "best_on_test_oracle"),
    "gap best - last": ("test_accuracy", "gap_best_last"),
    "detection precision": ("detection", "precision"),
    "recall": ("detection", "recall"),
    "AUC": ("detection", "auc"),
}


BALANCED = "last, balanced"  # shown where a run's test classes are of unequal size, so that it is not `last`
LEAST_GAP = 0.5  # between the two, in points
RARE = ("best on noisy validation", "best on refined validation")  # shown where a run has it
WITHOUT_TRUTH = {  # of own photos, whose right labels nobody knows
    "method": ("method",),
    "seeds": ("seeds",),
    "samples": ("list", "samples"),
    "called wrong": ("list", "called_wrong"),
    "list": ("list", "warning"),
    "given labels fitted": ("given_labels_fitted",),
}


def table(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The head, then one row per method and noise: the mean, and the standard deviation where there are several seeds.

    Runs without any truth have nothing that could be right or wrong: their table tells how many labels each calls wrong.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name, run in sorted(runs.items()):
        groups.setdefault((run["method"], name.rsplit("-s", 1)[0]), []).append(run)
    found = _columns(COLUMNS, groups)
    facts = ("method", "noise nominal", "seeds")
    if all(set(cells) <= {NOTHING} for title, cells in found.items() if title not in facts):
        without = _columns(WITHOUT_TRUTH, groups)
        found = {title: cells for title, cells in without.items() if set(cells) - {NOTHING}}
    shown = {title: cells for title, cells in found.items() if title not in RARE or set(cells) - {NOTHING}}
    if not any(map(_is_imbalanced, runs.values())):
        shown.pop(BALANCED, None)
    return [list(shown), *(list(row) for row in zip(*shown.values(), strict=True))]


def _is_imbalanced(run: Mapping[str, Any]) -> bool:
    """Whether it matters that classes are of unequal size: the balanced accuracy differs by half a point or more."""
    last, balanced = (dig(run, COLUMNS[title]) for title in ("last", BALANCED))
    return isinstance(last, float) and isinstance(balanced, float) and abs(last - balanced) >= LEAST_GAP


def _columns(
    columns: Mapping[str, tuple[str, ...]], groups: Mapping[tuple[str, str], list[Mapping[str, Any]]]
) -> dict[str, list[str]]:
    """The cells of each column, by its title."""
    return {title: [_cell(column, group) for group in groups.values()] for title, column in columns.items()}


def _cell(column: tuple[str, ...], group: list[Mapping[str, Any]]) -> str:
    if column == ("method",):
        assumed = [
            f"{name.removeprefix('assumed_').replace('_', ' ')} (oracle if true)"
            for name in group[0].get("assumed", ())
        ]
        added = (["verified labels"] if group[0].get("verified_labels") else []) + assumed
        return " + ".join([str(group[0]["method"]), *added])
    if column == ("seeds",):
        return str(len(group))
    if column == ("list", "warning"):
        lists = [run["list"] for run in group if run.get("list")]
        return NOTHING if not lists else "untrustworthy" if any(one.get("warning") for one in lists) else "ok"
    values = [float(value) for run in group if isinstance(value := dig(run, column), int | float)]
    if not values:
        return NOTHING
    if column[0] == "list":
        return spread(values, 0)
    return spread(values, 2 if column[0] in ("test_accuracy", "test_by_class") else 3)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation where there are several."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def dig(run: Mapping[str, Any], column: tuple[str, ...]) -> Any:
    """The value under several keys, one within the other; None where there is none."""
    value: Any = run
    for key in column:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


WRITTEN = "written by noisyctl table"


def render(table: list[list[str]], kind: str) -> str:
    """The table as `md`, `csv` or `tex`."""
    head, *body = table
    if kind == "csv":
        return csv_files.as_text(table)
    if kind == "tex":
        lines = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in table]
        return "\n".join(
            [f"% {WRITTEN}", rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", *lines, r"\end{tabular}", ""]
        )
    table = [head, ["---"] * len(head), *body]
    return f"<!-- {WRITTEN} -->\n\n" + (
        "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in table) + "\n"
    )


def _tex(cell: str) -> str:
    for character in "&%$#_{}":
        cell = cell.replace(character, f"\\{character}")
    return cell.replace("±", r"$\pm$")
