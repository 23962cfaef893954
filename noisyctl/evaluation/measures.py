"""What a run is judged by, as the papers print it.

In `clean` labels -1 stands for a class that the labels do not know: such a sample is out of distribution, and its given
label is wrong. Measures over epochs are NaN in an epoch that has nothing to measure. Percentages, but for detection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator

from noisyctl.artifacts.store import finite_or_none
from noisyctl.seeds import draw_seed


def accuracies(predictions: Int[np.ndarray, "e n"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """Accuracy in percent, epoch by epoch; NaN in one without predictions, which has -1 throughout."""
    found = 100 * (predictions == labels[None, :]).mean(axis=1)
    return np.where((predictions >= 0).any(axis=1), found, np.nan) if predictions.size else found


def best_epoch(curve: Float[np.ndarray, " e"]) -> int:
    """The first epoch in which a measure is highest; one that was not measured is none."""
    return int(np.where(np.isnan(curve), -np.inf, curve).argmax())


def known_accuracies(
    predictions: Int[np.ndarray, "e n"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " f"]:
    """The same from the first epoch on that has predictions."""
    first = (predictions >= 0).any(axis=1).argmax() if predictions.size else 0
    found = accuracies(predictions[first:], labels)
    return found if np.isfinite(found).any() else found[:0]


def top_accuracies(
    places: Int[np.ndarray, "e n k"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " e"]:
    """Share of samples whose label is among the k likeliest classes."""
    found = 100 * (places == labels[None, :, None]).any(axis=2).mean(axis=1)
    return np.where((places >= 0).any(axis=(1, 2)), found, np.nan)


def recall_by_class(
    predictions: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> dict[str, Any]:
    """Percent right of each class, and their mean, the balanced accuracy: every class counts alike, however rare it is.

    A class without a sample has no recall, and does not count in the mean.
    """
    number = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels[predictions == labels], minlength=len(classes))
    recall = {name: _share(100 * int(r), int(n)) for name, r, n in zip(classes, right, number, strict=True)}
    known = [value for value in recall.values() if value is not None]
    return {"balanced_accuracy": float(np.mean(known)) if known else None, "recall": recall}


def detection_by_class(
    given: Int[np.ndarray, " n"],
    is_mislabeled: Bool[np.ndarray, " n"],
    called: Bool[np.ndarray, " n"],
    classes: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """By given label: how many are called wrong, the share of these that are, and of the wrong ones that are called so."""
    found: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(classes):
        inside = given == number
        calls, wrong = int((called & inside).sum()), int((is_mislabeled & inside).sum())
        hits = int((called & is_mislabeled & inside).sum())
        found[name] = {
            "called_wrong": calls,
            "precision": _share(hits, calls),
            "recall": _share(hits, wrong),
        }
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def selection_rules(
    curve: Float[np.ndarray, " e"],
    validation: Mapping[str, Float[np.ndarray, " e"]] | None = None,
    stage: Float[np.ndarray, " e"] | None = None,
) -> dict[str, float | None]:
    """Last epoch, mean of the last ten, and, as an oracle that looks at the test labels, the best.

    `validation` has by the name of a rule what that rule makes highest over the epochs (the first of equals), such as the
    accuracy on held-out noisy labels: the curve's value there. Of refined labels nearly all are soon predicted as they are,
    so that many epochs are equal: then the last of them. Where `stage` numbers a method's stages, those rules choose
    among the epochs of the last one; under `stage1_NAME` stands what they and `last` give for the first alone. Where not
    every epoch was tested the best is that of the tested ones, and what an untested epoch would say is None.
    """
    rules = {
        "last": finite_or_none(curve[-1]),
        "mean_last_10": finite_or_none(curve[-10:].mean()),
        "best_on_test_oracle": finite_or_none(curve[best_epoch(curve)]),
        "gap_best_last": finite_or_none(curve[best_epoch(curve)] - curve[-1]),
    }
    parts = {"": np.arange(len(curve))}
    if stage is not None:
        parts = {"": np.flatnonzero(stage == stage[-1])}
        if stage[0] != stage[-1]:
            parts["stage1_"] = np.flatnonzero(stage == stage[0])
            rules["stage1_last"] = finite_or_none(curve[parts["stage1_"][-1]])
    for prefix, among in parts.items():
        for name, values in (validation or {}).items():
            known = np.nan_to_num(values[among], nan=-np.inf)
            best = np.flatnonzero(known == known.max())
            place = best[-1] if name == "best_on_refined_validation" else best[0]
            rules[prefix + name] = finite_or_none(curve[among[place]])
    return rules


def detection(
    clean_probability: Float[np.ndarray, " n"],
    is_mislabeled: Bool[np.ndarray, " n"],
    called: Bool[np.ndarray, " n"],
) -> dict[str, float | None]:
    """Precision and recall of calling a label wrong, AUC and average precision of the ranking, from 0 to 1.

    Where nothing is called wrong precision has no value; without both kinds of labels the ranking has none.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    hits = int((called & is_mislabeled).sum())
    both = is_mislabeled.any() and not is_mislabeled.all()
    ranked = {"auc": roc_auc_score, "average_precision": average_precision_score}
    of_ranking = {
        name: finite_or_none(measure(is_mislabeled, 1 - clean_probability)) if both else None
        for name, measure in ranked.items()
    }
    return {
        "precision": hits / int(called.sum()) if called.any() else None,
        "recall": hits / int(is_mislabeled.sum()) if is_mislabeled.any() else None,
        **of_ranking,
    }


def over_epochs(
    curve: Float[np.ndarray, " e"], test: Float[np.ndarray, " e"] | None = None
) -> dict[str, float | None]:
    """A measure in the last epoch, its highest value, and its value in the epoch that is best on the test labels.

    Jo-SRC's Table 5 prints "the best and last epoch": the third of these and the first.
    """
    found = {"last": finite_or_none(curve[-1])}
    found["best"] = None if np.isnan(curve).all() else finite_or_none(np.nanmax(curve))
    if test is not None:
        found["at_best_on_test_oracle"] = finite_or_none(curve[best_epoch(test)])
    return found


def selection_quality(
    selected: Bool[np.ndarray, "e m n"], right: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Label precision and recall: of the selected labels the right ones, of the right labels the selected ones.

    Over the m networks' selections together (Co-teaching's label precision; Jo-SRC Fig. 4).
    """
    hits = (selected & right).sum(axis=(1, 2))
    return _percent(hits, selected.sum(axis=(1, 2))), _percent(hits, int(right.sum()) * selected.shape[1])


def verdict_precision(
    verdict: UInt8[np.ndarray, "e n"], called: int, true: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " e"]:
    """Of the samples that are called so, those that are.

    Jo-SRC's Table 5 defines neither ID nor OOD precision. Its numbers at 80 % noise (72.84 and 24.60 in the last epoch)
    are near the shares of ID noise and of OOD among all wrong labels, 76 % and 24 %, so "ID" means a wrong label of a
    known class; counting right labels as ID would give more than 80 % for 20 % noise, where 42.62 is printed.
    """
    chosen = verdict == called
    return _percent((chosen & true).sum(axis=1), chosen.sum(axis=1))


def label_shares(selected: Bool[np.ndarray, "m n"], right: Bool[np.ndarray, " n"]) -> dict[str, float]:
    """Labels that are kept and right, kept and wrong, and dropped (Two-Stage Table 2); they sum to 100."""
    return {
        "pct_correct_labels": float(100 * (selected & right).mean()),
        "pct_incorrect_labels": float(100 * (selected & ~right).mean()),
        "pct_no_label": float(100 * (~selected).mean()),
    }


def label_accuracy(
    labels: Int[np.ndarray, "e n"], given: Int[np.ndarray, " n"], clean: Int[np.ndarray, " n"]
) -> dict[str, float | None]:
    """Share of right labels: the given ones, the method's in the first epoch where any differs, and in the last.

    SMP Table 2 (Original, Correct Initial, Correct Final); the last is MixNN's correction accuracy (Table V). Samples out
    of distribution have no right label and do not count.
    """
    known = clean >= 0
    corrected = (labels != given)[:, known].any(axis=1)
    curve = accuracies(labels[:, known], clean[known])
    return {
        "original": finite_or_none(100 * (given == clean)[known].mean()),
        "initial": finite_or_none(curve[corrected.argmax()]) if corrected.any() else None,
        "final": finite_or_none(curve[-1]),
    }


def group_accuracies(
    predictions: Int[np.ndarray, "e n"], given: Int[np.ndarray, " n"], clean: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " e"]]:
    """How far each group of training samples is fitted, epoch by epoch (the four plots of Jo-SRC Fig. 5).

    A group without samples is left out.
    """
    mislabeled = (given != clean) & (clean >= 0)
    groups = {
        "clean_fitted": (given == clean, given),
        "id_noise_fitted": (mislabeled, given),
        "ood_noise_fitted": (clean < 0, given),
        "id_noise_predicted_right": (mislabeled, clean),
    }
    return {
        name: accuracies(predictions[:, of], labels[of]) for name, (of, labels) in groups.items() if of.any()
    }


def confusion_counts(
    rows: Int[np.ndarray, " n"], columns: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "c c"]:
    """How many samples have each pair of classes."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (rows, columns), 1)
    return counts


def embed(features: Float[np.ndarray, "n d"], rng: Generator) -> Float[np.ndarray, "n 2"]:
    """t-SNE in the plane, perplexity 30 where there are enough samples (MixNN Fig. 9)."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    made = TSNE(init="pca", perplexity=perplexity, random_state=draw_seed(rng))
    return np.asarray(made.fit_transform(features), np.float64)


def _percent(part: np.ndarray, whole: np.ndarray | int) -> Float[np.ndarray, " e"]:
    """100 * part / whole; NaN where there is no whole."""
    with np.errstate(invalid="ignore"):
        return 100 * np.asarray(part, float) / whole


def clustering_accuracy(clusters: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Percent right under the best one-to-one naming of clusters by classes (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((clusters.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (clusters, labels), 1)
    return float(100 * counts[linear_sum_assignment(-counts)].sum() / len(labels))
