"""A judgement as the rows of labels.csv."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from noisyctl.artifacts.label_list import Annotations, LabelList
from noisyctl.opinions import Judgement


def listed(judgement: Judgement, annotations: Sequence[Annotations] = ()) -> LabelList:
    """Names in the place of positions, for every sample; `annotations` are several people's labels of each."""
    names = np.array(judgement.class_names, np.dtypes.StringDType())
    ids, given = judgement.ids, names[judgement.given]
    return LabelList(
        ids=ids,
        paths=judgement.paths,
        given=given,
        suggested=names[judgement.suggested],
        clean_probability=judgement.clean_probability,
        verdict=judgement.verdict,
        rank=judgement.rank,
        opinions=judgement.opinions,
        neighbors=tuple(
            tuple((str(ids[i]), str(given[i])) for i in row if i >= 0) for row in judgement.neighbors.tolist()
        ),
        duplicate_of=_named(judgement.duplicate_of, ids),
        group=_group_names(judgement.group, ids),
        annotations=tuple(annotations),
    )


def _named(positions: Int[np.ndarray, " n"], ids: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    found = np.full(len(ids), "", np.dtypes.StringDType())
    found[positions >= 0] = ids[positions[positions >= 0]]
    return found


def _group_names(group: Int[np.ndarray, " n"], ids: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """The id of a group's first sample, "" for a sample that stands alone."""
    _, first, member, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    return _named(np.where(size > 1, first, -1)[member], ids)
