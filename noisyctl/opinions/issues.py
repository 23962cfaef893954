"""`noisyctl.find_label_issues`: the list of `noisyctl clean` for features that are in memory, as a table."""

from typing import TYPE_CHECKING, Any

import numpy as np

from noisyctl.errors import DataError
from noisyctl.opinions import duplicates
from noisyctl.opinions.judgement import judge
from noisyctl.seeds import numpy_stream

if TYPE_CHECKING:
    import pyarrow


def find_label_issues(features: Any, labels: Any, *, groups: Any = None, seed: int = 0) -> "pyarrow.Table":
    """Judge every label by the features of all samples, and give one row per sample, the most suspicious first.

    `features` are n rows of d real numbers, and `labels` n whole numbers or texts: NumPy arrays, lists, data frames, series
    or torch tensors on the CPU. Samples with equal `groups`, such as those of one person, do not vouch for each other. The
    same arguments and `seed` give the same table. Columns: `row` (from 0), `given`, `suggested`, `clean_probability` (that
    the given label is right), `verdict` (keep, relabel, look, drop, duplicate: docs/labels.md), `rank`, the probability of
    each opinion, and `neighbors`, the rows of the most similar samples. Of samples with equal features all but one are
    duplicates.

    It is a pyarrow.Table: `to_pandas()` makes a data frame of it. Raises ValueError where features are not finite or not two
    axes, where lengths differ, or where there are fewer than ten samples or two classes.
    """
    rows, given = np.asarray(features), np.asarray(labels)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ValueError(
            f"features have the shape {rows.shape} and hold {rows.dtype}; give rows of real numbers"
        )
    if given.shape != (len(rows),):
        raise ValueError(
            f"labels have the shape {given.shape} for {len(rows)} samples; give one label for each"
        )
    if given.dtype.kind == "f" or any(label is None or label != label for label in given.tolist()):
        raise ValueError(f"labels hold {given.dtype}, or none for some samples; give whole numbers or texts")
    classes, positions = np.unique(given, return_inverse=True)
    numbers = np.array([str(row) for row in range(len(rows))], np.dtypes.StringDType())
    try:
        found = judge(
            rows,
            positions.astype(np.int64).reshape(len(rows)),
            tuple(str(name) for name in classes.tolist()),
            numbers,
            numbers,
            None if groups is None else np.asarray(groups),
            numpy_stream(seed, "clean"),
            alike=duplicates.EQUAL,
        )
    except DataError as error:
        raise ValueError(str(error)) from error
    order = np.argsort(found.rank, kind="stable")
    return _table(found, classes, order)


def _table(found: Any, classes: np.ndarray, order: np.ndarray) -> "pyarrow.Table":
    import pyarrow

    columns: dict[str, Any] = {
        "row": order,
        "given": classes[found.given[order]],
        "suggested": classes[found.suggested[order]],
        "clean_probability": found.clean_probability[order],
        "verdict": found.verdict[order].tolist(),
        "rank": found.rank[order],
    }
    columns |= {name: values[order] for name, values in found.opinions.items()}
    columns["neighbors"] = [[int(i) for i in near if i >= 0] for near in found.neighbors[order].tolist()]
    return pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
