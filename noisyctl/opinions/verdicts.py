"""What to do with a label: keep, relabel, look, drop or duplicate. The thresholds are ours."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

VERDICTS = ("keep", "relabel", "look", "drop", "duplicate")
SURE = 0.7  # of a clean probability: from here on the label is kept; of a suggestion: enough to relabel
FAR = 5.0  # robust deviations below the usual similarity to neighbors, for a sample that belongs to no class


def verdicts(
    clean_probability: Float[np.ndarray, " n"],
    suggestion_probability: Float[np.ndarray, " n"],
    foreign: Bool[np.ndarray, " n"],
    conflicting: Bool[np.ndarray, " n"],
    is_copy: Bool[np.ndarray, " n"],
) -> Shaped[np.ndarray, " n"]:
    """One of VERDICTS for every sample.

    keep: the label is right with probability SURE at least. relabel: it is more likely wrong than right, and the suggested
    class is the true one with probability SURE, given that. drop: `foreign`, so that no class is likely.
    look: whatever else is uncertain, and every copy whose label contradicts that of another copy. duplicate: a copy of a
    sample of the same label, of which one is enough.
    """
    wrong = clean_probability < 0.5
    found = np.full(len(wrong), "look", np.dtypes.StringDType())
    found[clean_probability >= SURE] = "keep"
    found[wrong & (suggestion_probability >= SURE)] = "relabel"
    found[foreign] = "drop"
    found[conflicting & (found == "keep")] = "look"
    found[is_copy & ~conflicting] = "duplicate"
    return found


def remote(similarity: Float[np.ndarray, "n k"], far: float = FAR) -> Bool[np.ndarray, " n"]:
    """Samples whose mean similarity to their nearest neighbors lies `far` robust deviations below the median.

    The robust deviation is 1.4826 times the median absolute deviation, which equals the standard deviation of normally
    distributed values.
    """
    mean = similarity.mean(axis=1)
    middle = np.median(mean)
    deviation = 1.4826 * np.median(np.abs(mean - middle))
    return mean < middle - far * max(float(deviation), 1e-12)


def ranks(
    clean_probability: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """1 for the least probable label; ties by the `second` probability, then by position. No two are equal."""
    order = np.lexsort((np.arange(len(second)), second, clean_probability))
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(1, len(order) + 1)
    return found
