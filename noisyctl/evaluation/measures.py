"""What a run is judged by: accuracies under named selection rules, and how well it finds wrong labels."""

import numpy as np
from jaxtyping import Bool, Float, Int

from noisyctl.artifacts.store import finite_or_none


def accuracies(predictions: Int[np.ndarray, "e n"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """Accuracy in percent, epoch by epoch."""
    return 100 * (predictions == labels[None, :]).mean(axis=1)


def selection_rules(
    curve: Float[np.ndarray, " e"], validation: Float[np.ndarray, " e"] | None = None
) -> dict[str, float | None]:
    """Last epoch, mean of the last ten, and, as an oracle that looks at the test labels, the best.

    With `validation`, accuracies on held-out noisy labels, also the epoch where that is highest (the first of equals).
    """
    rules = {
        "last": finite_or_none(curve[-1]),
        "mean_last_10": finite_or_none(curve[-10:].mean()),
        "best_on_test_oracle": finite_or_none(curve.max()),
        "gap_best_last": finite_or_none(curve.max() - curve[-1]),
    }
    if validation is not None:
        rules["best_on_noisy_validation"] = finite_or_none(curve[validation.argmax()])
    return rules


def detection(
    clean_probability: Float[np.ndarray, " n"],
    is_mislabeled: Bool[np.ndarray, " n"],
    called: Bool[np.ndarray, " n"] | None = None,
) -> dict[str, float | None]:
    """Precision and recall of calling a label wrong, and the AUC of the ranking.

    `called` is the method's own decision; without one, a label is called wrong where its clean probability is below 1/2.

    Where nothing is called wrong precision has no value; without both kinds of labels the AUC has none.
    """
    from sklearn.metrics import roc_auc_score

    called = clean_probability < 0.5 if called is None else called
    hits = int((called & is_mislabeled).sum())
    both = is_mislabeled.any() and not is_mislabeled.all()
    return {
        "precision": hits / int(called.sum()) if called.any() else None,
        "recall": hits / int(is_mislabeled.sum()) if is_mislabeled.any() else None,
        "auc": finite_or_none(roc_auc_score(is_mislabeled, 1 - clean_probability)) if both else None,
    }


def clustering_accuracy(clusters: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Percent right under the best one-to-one naming of clusters by classes (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((clusters.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (clusters, labels), 1)
    return float(100 * counts[linear_sum_assignment(-counts)].sum() / len(labels))
