"""The table that compares: one row per printed number, with what was measured beside it and under what protocol."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from noisyctl.artifacts.csv_files import NOTHING
from noisyctl.evaluation.tables import dig, spread
from noisyctl.papers.printed import PrintedRow

RULES = {
    "test_accuracy.last": "last epoch",
    "test_accuracy.mean_last_10": "mean of last 10",
    "test_accuracy.best_on_test_oracle": "best on test (oracle)",
    "test_accuracy.best_on_noisy_validation": "best on noisy validation",
    "test_accuracy.least_noisy_validation_loss": "least loss on noisy validation",
    "test_accuracy.best_on_refined_validation": "best on refined validation",
    "test_accuracy.stage1_best_on_refined_validation": "stage 1, best on refined validation",
    "test_accuracy.best_on_clean_validation": "best on clean validation",
    "knn_probe.clustering_accuracy": "last epoch of clustering",
    "test_accuracy_of.both_networks.mean_last_10": "mean of last 10 and of both networks",
    "test_accuracy_of.prototypes.initial": "prototypes of the first correction",
}


@dataclass(frozen=True)
class Compared:
    """A printed number beside what was measured for it: the metrics of each seed that ran, of `num_seeds`.

    `in_place` is what a budget trains on instead of the printed data set: then there is no difference to print.
    """

    printed: PrintedRow
    metric: str = ""
    runs: tuple[Mapping[str, Any], ...] = ()
    num_seeds: int = 0
    budget: str = ""
    in_place: str | None = None
    deviations: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def values(self) -> list[float]:
        found = (dig(run, tuple(self.metric.split("."))) for run in self.runs)
        return [float(value) for value in found if isinstance(value, int | float)]


def comparison(numbers: Iterable[Compared]) -> list[list[str]]:
    """The head, then a row a printed number: paper, ours, difference, and under what protocol.

    What did not run, or cannot, is a dash with its reason in the last column.
    """
    head = [
        "method",
        "data set",
        "noise",
        "metric",
        "paper",
        "ours",
        "difference",
        "measured noise",
        "selection",
    ]
    head += ["seeds", "budget", "hardware", "deviations"]
    return [head, *(_compared(number) for number in numbers)]


def _compared(number: Compared) -> list[str]:
    printed, values = number.printed, number.values
    assert printed.value is not None, "a number is a row with a value"
    rate = "" if printed.rate is None else f" {printed.rate:g}"
    note = f" ({printed.note})" if printed.note and len(printed.note) < 40 else ""
    std = "" if printed.std is None else f" ± {printed.std:g}"
    row = [
        f"{printed.method}{note}",
        f"{number.in_place} for {printed.dataset}" if number.in_place else printed.dataset,
        f"{printed.noise}{rate}",
        printed.metric,
        f"{printed.value:g}{std}",
    ]
    if not values:
        why = number.missing or ("not run" if not number.runs else f"{number.metric} was not measured")
        return [
            *row,
            *3 * [NOTHING],
            RULES.get(number.metric, number.metric) or NOTHING,
            NOTHING,
            number.budget or NOTHING,
            NOTHING,
            why,
        ]
    wrong = [value for run in number.runs if isinstance(value := run.get("measured_noise"), float)]
    hardware = sorted({str(run["hardware"]) for run in number.runs if run.get("hardware")})
    return [
        *row,
        spread(values, 2),
        "-" if number.in_place else f"{statistics.fmean(values) - printed.value:+.2f}",
        spread(wrong, 3) if wrong else "-",
        RULES.get(number.metric, number.metric),
        str(len(values)) if len(values) == number.num_seeds else f"{len(values)} of {number.num_seeds}",
        number.budget,
        ", ".join(hardware) or "-",
        "; ".join(number.deviations) or "-",
    ]
