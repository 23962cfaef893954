"""annotators.csv: how far each of several people is right, where a manifest has labels of several."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from noisyctl.artifacts import csv_files, files
from noisyctl.artifacts.label_list import LabelList
from noisyctl.parts.consensus import Quality

FILE = "annotators.csv"
COLUMNS = ("annotator", "labels", "agreement", "right", "low", "high")
FORM = files.Text((",".join(COLUMNS),))
SHOWN = 5


def write(out: Path, names: Sequence[str], quality: Quality, rows: LabelList) -> None:
    """Publish annotators.csv in a folder: of each annotator the estimated share of right labels, the lowest first.

    `agreement` is the share of the annotator's labels that are those of the list.
    """
    same = dict.fromkeys(names, 0)
    for said, given in zip(rows.annotations, rows.given.tolist(), strict=True):
        for annotator, label in said:
            same[annotator] += label == given
    table = []
    for place in np.argsort(quality.right, kind="stable").tolist():
        name, number = names[place], int(quality.labels[place])
        shares = (same[name] / number, quality.right[place], quality.low[place], quality.high[place])
        table.append((name, number, *(f"{share:.4f}" for share in shares)))
    with files.publish(out / FILE, FORM) as partial:
        partial.write_text(csv_files.as_file_text([COLUMNS, *table]), encoding="utf-8", newline="")


def lines(out: Path) -> list[str]:
    """What annotators.csv of a folder says, in a line; nothing where there is none."""
    path = out / FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = ", ".join(map(_told, rows[:SHOWN]))
    more = f", and {len(rows) - SHOWN} more in {path}" if len(rows) > SHOWN else ""
    return [f"Annotators, by the share of their labels that look right: {shown}{more}"]


def _told(row: Mapping[str, str]) -> str:
    right, low, high = (f"{float(row[name]):.0%}" for name in ("right", "low", "high"))
    return f"{csv_files.unquoted(row['annotator'])} {right} ({low} to {high})"
