"""Manifests with several people's labels of an image, and the one label that is made of them.

Long form: columns path, annotator, label, a row for each label. Wide form: columns path, label_ANNA, label_BEN, ... and no
column label; a cell is left empty where that person did not look at the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from noisyctl.datasets._labels import sorted_classes
from noisyctl.datasets._tables import Table
from noisyctl.errors import DataError, few
from noisyctl.parts import consensus
from noisyctl.parts.consensus import Votes

PREFIX = "label_"  # of the columns of the wide form
Rule = Literal["dawid_skene", "majority"]


@dataclass(frozen=True)
class Annotations:
    """Who gave which image which label: of each path its pairs (annotator, label), by annotator.

    `classes` are all labels that anybody gave, `annotators` all names; both in order.
    """

    by_path: Mapping[str, tuple[tuple[str, str], ...]]
    annotators: tuple[str, ...]
    classes: tuple[str, ...]

    def votes(self, paths: Sequence[str], classes: Sequence[str] | None = None) -> Votes:
        """The votes on these images, numbered as they stand here; a label that is none of `classes` gets the next number."""
        names = self.classes if classes is None else tuple(classes)
        who = {name: number for number, name in enumerate(self.annotators)}
        known = {name: number for number, name in enumerate(names)}
        found = [
            (row, who[annotator], known.get(label, len(names)))
            for row, path in enumerate(paths)
            for annotator, label in self.by_path[path]
        ]
        sample, annotator, label = np.array(found, np.int64).reshape(-1, 3).T
        return Votes(sample, annotator, label, len(paths), len(who), len(names))

    def labels(self, paths: Sequence[str], rule: Rule) -> list[str]:
        """One label of each of these images, made from their votes alone."""
        votes = self.votes(paths)
        chosen: Int[np.ndarray, " n"]
        chosen = consensus.majority(votes)[0] if rule == "majority" else consensus.dawid_skene(votes).labels
        return [self.classes[number] for number in chosen]


def is_annotated(header: Sequence[str]) -> bool:
    """Whether a manifest with these columns has several people's labels."""
    return "annotator" in header or ("label" not in header and bool(annotator_columns(header)))


def annotator_columns(header: Sequence[str]) -> list[str]:
    """The columns of the wide form, in their order."""
    return [name for name in header if name.startswith(PREFIX) and len(name) > len(PREFIX)]


def collected(table: Table, paths: Sequence[str]) -> Annotations:
    """The labels of a table of either form; `paths` are those of its rows. Raises DataError where they contradict."""
    said = _long(table, paths) if "annotator" in table.columns else _wide(table, paths)
    found: dict[str, dict[str, tuple[str, int]]] = {path: {} for path in paths}
    twice = []
    for path, annotator, label, row in said:
        earlier = found[path].setdefault(annotator, (label, row))
        if earlier[0] != label:
            twice.append(f"{path} by {annotator}: {earlier[0]} in row {earlier[1]}, {label} in row {row}")
    if twice:
        raise DataError(
            f"{table.path}: two labels of one annotator for one image, {few(twice)}; keep one of them"
        )
    if bare := [path for path, labels in found.items() if not labels]:
        raise DataError(
            f"{table.path}: {len(bare)} images have no label of anybody ({few(bare)}); label them, or remove their rows"
        )
    by_path = {
        path: tuple((annotator, label) for annotator, (label, _) in sorted(labels.items()))
        for path, labels in found.items()
    }
    annotators = sorted({annotator for labels in by_path.values() for annotator, _ in labels})
    classes = sorted_classes({label for labels in by_path.values() for _, label in labels}, table.path)
    return Annotations(by_path, tuple(annotators), classes)


def _long(table: Table, paths: Sequence[str]) -> list[tuple[str, str, str, int]]:
    names = table.columns["annotator"]
    if nameless := [row for row, name in zip(table.rows, names, strict=True) if not name.strip()]:
        raise DataError(
            f"{table.path}: annotator is missing in {len(nameless)} rows ({few(nameless)}); fill in or remove them"
        )
    rows = zip(paths, names, table.columns["label"], table.rows, strict=True)
    return [(path, name.strip(), label, row) for path, name, label, row in rows if label.strip()]


def _wide(table: Table, paths: Sequence[str]) -> list[tuple[str, str, str, int]]:
    return [
        (path, column.removeprefix(PREFIX), label, row)
        for column in annotator_columns(list(table.columns))
        for path, label, row in zip(paths, table.columns[column], table.rows, strict=True)
        if label.strip()
    ]


def counted(annotations: Annotations) -> str:
    """How many people gave how many labels, for messages."""
    labels = sum(map(len, annotations.by_path.values()))
    return f"{labels} labels of {len(annotations.by_path)} images by {len(annotations.annotators)} annotators"
