"""Copies of the same picture: equal files, and pictures whose features are nearly equal.

Copies are kept together wherever a sample is judged by others, so that none vouches for itself.
"""

import re

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Cosine of normalized features (`preparation.normalized`). Among 713 photos of clothes the two most alike that show
# different things have 0.86. Copies of 60 of them, by their median: mirrored 0.95, brighter 0.95, turned by 3 degrees 0.93,
# saved with JPEG quality 50 0.91; cut by 5 % 0.88, of half the size 0.82: most of these two are not found.
NEARLY_EQUAL = 0.9
EQUAL = 1 - 1e-6  # of vectors of which it is not known what makes them alike: only equal ones are copies
CONTENT_ID = re.compile(
    r"([0-9a-f]{16})-\d+"
)  # of a further copy of the same bytes (section "ids" of docs/data.md)


def same_bytes(ids: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A number for every content: equal where two ids are DIGEST and DIGEST-2, which prepare-data gives to equal files."""
    contents = [found[1] if (found := CONTENT_ID.fullmatch(str(name))) else str(name) for name in ids]
    return np.unique(np.array(contents, np.dtypes.StringDType()), return_inverse=True)[1].reshape(len(ids))


def copies_of(
    indices: Int[np.ndarray, "n k"],
    similarity: Float[np.ndarray, "n k"],
    contents: Int[np.ndarray, " n"],
    threshold: float = NEARLY_EQUAL,
) -> Int[np.ndarray, " n"]:
    """A number for every set of copies: equal contents, and neighbors of at least this cosine, and copies of copies."""
    row, place = np.nonzero(similarity >= threshold)
    return joined(len(contents), [(row, indices[row, place])], [contents])


def joined(
    n: int,
    pairs: list[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]],
    sets: list[Int[np.ndarray, " n"]],
) -> Int[np.ndarray, " n"]:
    """A number for every set of samples that are connected by pairs, or by a number that they share in one of `sets`."""
    ends = list(pairs)
    for numbers in sets:
        _, first, member = np.unique(numbers, return_index=True, return_inverse=True)
        ends.append((np.arange(n), first[member]))
    one, other = (np.concatenate(side) for side in zip(*ends, strict=True))
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def conflicting(copies: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether the copies of a sample, itself included, have different labels."""
    order = np.argsort(copies, kind="stable")
    _, starts, member = np.unique(copies[order], return_index=True, return_inverse=True)
    lowest, highest = (least.reduceat(labels[order], starts) for least in (np.minimum, np.maximum))
    found = np.empty(len(labels), bool)
    found[order] = (lowest != highest)[member]
    return found


def originals(
    copies: Int[np.ndarray, " n"], clean_probability: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """For each sample that is a copy the position of the one to keep, else -1.

    Kept of a set of copies is the one whose label is most probably right, of equally probable ones the first.
    """
    n = len(copies)
    order = np.lexsort((np.arange(n), -clean_probability, copies))
    _, start, member = np.unique(copies[order], return_index=True, return_inverse=True)
    kept = np.empty(n, np.int64)
    kept[order] = order[start][member]
    return np.where(kept == np.arange(n), -1, kept)
