"""What the trace of a run says of its method: accuracies, how well wrong labels are found and corrected, its last word.

A trace is read by the names of its arrays (noisyctl/artifacts/kinds.py); what they mean is told in docs/metrics.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from noisyctl.artifacts import store
from noisyctl.errors import ArtifactError
from noisyctl.evaluation import measures, trust
from noisyctl.seeds import numpy_stream

ID, OOD = 1, 2  # verdicts of a trace
Curves = dict[str, np.ndarray]


@runtime_checkable
class Arrays(Protocol):
    """The arrays of a trace by name, each read when it is asked for; `path` is for messages."""

    @property
    def path(self) -> Path: ...
    @property
    def names(self) -> Iterable[str]: ...
    def __contains__(self, name: str, /) -> bool: ...
    def array(self, name: str, /) -> np.ndarray: ...


def known_labels(labels: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Labels of `classes` as positions in `names`; -1 where there is no such class (open set)."""
    place = {label: i for i, label in enumerate(names)}
    return np.array([place.get(label, -1) for label in classes])[labels]


def on_test_images(
    trace: Arrays, truth: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[dict[str, Any], Curves]:
    """Accuracies on every split of the truth, of its images whose class the run knows; by class in the last epoch."""
    validation, stage = on_validation(trace)
    curves: Curves = {}
    by_class: dict[str, Any] = {}
    for split, labels in truth.items():
        if f"{split}_predictions" not in trace:
            continue
        judged = labels >= 0
        predictions = trace.array(f"{split}_predictions")[:, judged]
        curves[f"{split}_accuracy"] = measures.accuracies(predictions, labels[judged])
        by_class[f"{split}_by_class"] = measures.recall_by_class(predictions[-1], labels[judged], class_names)
        if f"{split}_top5" in trace:
            places = trace.array(f"{split}_top5")[:, judged]
            curves[f"{split}_top5_accuracy"] = measures.top_accuracies(places, labels[judged])
    by_split: dict[str, Any] = {
        name: measures.selection_rules(curve, validation, stage) for name, curve in curves.items()
    }
    for name, curve in curves.items():
        if "val_accuracy" in curves:  # clean labels that a user owns: Clothing1M's
            by_split[name]["best_on_clean_validation"] = store.finite_or_none(
                curve[measures.best_epoch(curves["val_accuracy"])]
            )
    return by_split | by_class, curves


def of_further_classifiers(trace: Arrays, truth: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Accuracies on every split of what a method has beside its own predictions: a second network, prototypes.

    `both_networks` is the mean of the accuracies of two networks, epoch by epoch, as JoCoR's tables have it.
    """
    found: dict[str, Any] = {}
    for split, labels in truth.items():
        head = f"{split}_predictions_of_"
        of_split = {array.removeprefix(head): array for array in trace.names if array.startswith(head)}
        if not of_split:
            continue
        judged = labels >= 0
        curves = {
            who: measures.known_accuracies(trace.array(array)[:, judged], labels[judged])
            for who, array in of_split.items()
        }
        if "network2" in curves:
            first = measures.accuracies(trace.array(f"{split}_predictions")[:, judged], labels[judged])
            second = trace.array(of_split["network2"])[:, judged]
            curves["both_networks"] = (first + measures.accuracies(second, labels[judged])) / 2
        found[f"{split}_accuracy_of"] = {
            who: {"initial": store.finite_or_none(curve[0])} | measures.selection_rules(curve)
            for who, curve in curves.items()
            if len(curve)
        }
    return found


def on_validation(trace: Arrays) -> tuple[Curves, np.ndarray | None]:
    """By the name of a rule what it chooses an epoch by, and the method's stage in each epoch, if it has stages.

    Refined are the held-out labels that the method has selected in the end, as Two-Stage does.
    """
    found: Curves = {}
    if "validation_predictions" in trace:
        held_out, predictions = trace.array("validation"), trace.array("validation_predictions")
        given = trace.array("noisy_labels")[held_out]
        found["best_on_noisy_validation"] = measures.accuracies(predictions, given)
        if "scalar_validation_loss" in trace:
            found["least_noisy_validation_loss"] = -trace.array("scalar_validation_loss")
        refined = (
            trace.array("selected")[-1][..., held_out] if "selected" in trace else np.zeros(len(given), bool)
        )
        if refined.ndim == 1 and 0 < refined.sum() < len(refined):
            found["best_on_refined_validation"] = measures.accuracies(predictions[:, refined], given[refined])
    return found, trace.array("scalar_stage") if "scalar_stage" in trace else None


def on_training_images(
    trace: Arrays,
    clean: np.ndarray,
    *,
    class_names: Sequence[str],
    test: np.ndarray | None,
    told: np.ndarray | None,
) -> tuple[dict[str, Any], Curves]:
    """How well wrong labels are found and corrected, against the `clean` ones [n], -1 where the run knows no such class.

    Samples that are held out for validation do not count. Nor do those whose right label the run was `told` (a mask) count
    among the corrected ones; where it is unknown which, there is no such number. `test` is the curve of test accuracy.
    """
    suggested, probability = opinion(trace)
    given, trained = trace.array("noisy_labels"), trained_samples(trace)
    result: dict[str, Any] = {
        "suggested_label_accuracy": float(100 * (suggested == clean)[clean >= 0].mean()),
    }
    given, clean, probability = given[trained], clean[trained], probability[trained]
    wrong, curves = given != clean, Curves()
    called = probability < 0.5
    used = next((name for name in ("selected", "learned_from") if name in trace), None)
    if used:
        selected = trace.array(used)[..., trained]
        selected = selected.reshape(
            len(selected), -1, len(given)
        )  # a network axis of one where there is none
        if used == "selected":  # else agreement, say, left a sample out, and not its label
            called = selected[-1].mean(axis=0) < 0.5
        chosen, more = _selection(selected, wrong, test)
        result, curves = result | chosen, curves | more
    result["labels_given"] = measures.label_shares(np.ones((1, len(given)), bool), ~wrong)
    result["detection"] = measures.detection(probability, wrong, called)
    result["detection_by_class"] = measures.detection_by_class(given, wrong, called, class_names)
    if "verdict" in trace:
        found = _verdict_precisions(trace.array("verdict")[:, trained], wrong, clean)
        curves |= found
        result["verdicts"] = {n: measures.over_epochs(curve, test) for n, curve in found.items()}
    if "pseudo_labels" in trace and told is not None:
        labels, asked = trace.array("pseudo_labels")[:, trained], (clean >= 0) & ~told[trained]
        if asked.any():
            result["label_accuracy"] = measures.label_accuracy(labels[:, asked], given[asked], clean[asked])
            curves["label_accuracy"] = measures.accuracies(labels[:, asked], clean[asked])
    if "train_predictions" in trace:
        fitted = measures.group_accuracies(trace.array("train_predictions")[:, trained], given, clean)
        curves |= fitted
        result["groups"] = {n: store.finite_or_none(curve[-1]) for n, curve in fitted.items()}
    return result, curves


def _selection(
    selected: np.ndarray, wrong: np.ndarray, test: np.ndarray | None
) -> tuple[dict[str, Any], Curves]:
    """Precision and recall of the selection [epoch network sample], and the shares of labels that it kept in the end."""
    precision, recall = measures.selection_quality(selected, ~wrong)
    about = {
        "precision": measures.over_epochs(precision, test),
        "recall": measures.over_epochs(recall, test),
    }
    kept = measures.label_shares(selected[-1], ~wrong)
    return {"selection": about, "labels_kept": kept}, {
        "selection_precision": precision,
        "selection_recall": recall,
    }


def _verdict_precisions(verdict: np.ndarray, wrong: np.ndarray, clean: np.ndarray) -> Curves:
    """Precision of each verdict [epoch sample], per epoch, where there are samples that it is true of."""
    groups = {"id_precision": (ID, wrong & (clean >= 0)), "ood_precision": (OOD, clean < 0)}
    return {n: measures.verdict_precision(verdict, v, true) for n, (v, true) in groups.items() if true.any()}


def trusted(trace: Arrays, wrong: np.ndarray | None, *, by_neighbors: bool) -> dict[str, Any]:
    """Whether the run's list can be trusted: docs/metrics.md, noisyctl/evaluation/trust.py.

    `wrong` is which labels are wrong, where that is known; `by_neighbors` whether the run was given mined neighbors.
    """
    suggested, probability = opinion(trace)
    given = trace.array("noisy_labels")
    judged_by, unseen = None, np.ones(len(given), bool)
    if "train_probabilities" in trace:
        if "validation" in trace:
            judged_by, unseen = trust.HELD_OUT, trace.array("validation")
    elif by_neighbors:
        judged_by = trust.NEIGHBORS
    return trust.judge(given, suggested, probability, unseen=unseen, judged_by=judged_by, wrong=wrong)


def opinion(trace: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The run's last word on every training sample: suggested label, and probability that the given one is right.

    The method's own where it has them; else the network's prediction and its probability of the given label. Raises
    ArtifactError where the run trained no epoch.
    """
    given = trace.array("noisy_labels")
    if "clean_probability" in trace:
        probability = over_networks(trace.array("clean_probability")[-1])
        if (
            "validation" in trace and "train_probabilities" in trace
        ):  # held out: the method has no opinion on these
            held_out = trace.array("validation")
            probability[held_out] = trace.array("train_probabilities")[held_out, given[held_out]]
    elif "train_probabilities" in trace:
        probability = trace.array("train_probabilities")[np.arange(len(given)), given].astype(np.float64)
    else:
        raise ArtifactError(
            f"{trace.path} has neither clean probabilities nor predictions: the run trained no epoch; raise --epochs"
        )
    if "train_probabilities" in trace:
        return trace.array("train_probabilities").argmax(axis=1), probability
    return trace.array("pseudo_labels")[-1], probability


def ranking(trace: Arrays, given: np.ndarray, suggested: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Positions of the training samples, the label that is most probably wrong first.

    Of equal probabilities those come first whose suggestion is another label, of these the surer suggestion where the run
    has probabilities of classes; what is still equal is in an order drawn once and for all, so that no class or folder
    comes before another.
    """
    sureness = np.zeros(len(given))
    if "train_probabilities" in trace:
        sureness = trace.array("train_probabilities").max(axis=1)
    drawn = numpy_stream(0, "evaluate", "ties").permutation(len(given))
    return np.lexsort((drawn, -sureness, suggested == given, probability))


def trained_samples(trace: Arrays) -> np.ndarray:
    """The samples that are not held out for validation."""
    size = len(trace.array("noisy_labels"))
    return ~trace.array("validation") if "validation" in trace else np.ones(size, bool)


def over_networks(values: np.ndarray) -> np.ndarray:
    """One value a sample: the mean where there are two networks."""
    return values.astype(np.float64).mean(axis=tuple(range(values.ndim - 1)))
