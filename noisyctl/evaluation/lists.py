"""samples.csv: the labels to look at, the most probably wrong first."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import csv_files
from noisyctl.evaluation.judging import Arrays, opinion, ranking

UNTRUSTWORTHY = "untrustworthy"  # in every row of a list that has a warning: sorting and filtering keep it
NUM_FIRST = 10


def write_list(
    path: Path, trace: Arrays, class_names: list[str], paths: np.ndarray | None, warning: str | None
) -> list[dict[str, Any]]:
    """Write every training sample with given and suggested label, and give the first rows by column.

    `paths` [n] are where the images lie. The whole warning of a list that cannot be trusted lies beside it in
    NAME-WARNING.txt, and no row of such a list says relabel.
    """
    suggested, probability = opinion(trace)
    given, names = trace.array("noisy_labels"), np.array(class_names)
    order = ranking(trace, given, suggested, probability)
    verdicts = np.where(probability >= 0.5, "keep", np.where(suggested == given, "look", "relabel"))
    if warning is not None:
        verdicts[verdicts == "relabel"] = "look"  # a script that applies the list changes nothing
    columns = (
        trace.array("train_id")[order],
        itertools.repeat("") if paths is None else paths[order],
        names[given[order]],
        names[suggested[order]],
        (f"{p:.6f}" for p in probability[order]),
        verdicts[order],
        range(1, len(order) + 1),
        itertools.repeat("" if warning is None else UNTRUSTWORTHY),
    )
    rows = zip(*columns, strict=False)
    first = [list(row) for row in itertools.islice(rows, NUM_FIRST)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv_files.write(file, itertools.chain([csv_files.SAMPLES], first, rows))
    if warning is not None:
        path.with_name(f"{path.stem}-WARNING.txt").write_text(f"{warning}.\n")
    return [dict(zip(csv_files.SAMPLES, row, strict=True)) for row in first]
