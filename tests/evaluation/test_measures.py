"""Selection rules and detection, by hand."""

import numpy as np
import pytest

from noisyctl.evaluation import measures


def test_accuracy_is_in_percent_epoch_by_epoch() -> None:
    predictions = np.array([[0, 1, 1, 1], [0, 0, 1, 1]])
    assert measures.accuracies(predictions, np.array([0, 0, 1, 1])).tolist() == [75.0, 100.0]


def test_each_rule_picks_its_epoch() -> None:
    curve = np.array([50.0, 90.0, *([70.0] * 8), 80.0, 60.0])
    rules = measures.selection_rules(curve, np.array([30.0, 40.0, *([41.0] * 2), *([10.0] * 8)]))
    assert rules["last"] == 60.0
    assert rules["mean_last_10"] == 70.0  # the oracle's epoch lies outside the last ten
    assert rules["best_on_test_oracle"] == 90.0
    assert rules["gap_best_last"] == 30.0
    assert rules["best_on_noisy_validation"] == 70.0  # epoch 2, the first of the two best ones
    assert "best_on_noisy_validation" not in measures.selection_rules(curve)


def test_detection_by_hand() -> None:
    # called wrong: the first three; two of them are; one wrong label of three is missed
    found = measures.detection(
        np.array([0.1, 0.2, 0.3, 0.9, 0.8]), np.array([True, True, False, True, False])
    )
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    # pairs of a wrong and a right label in the right order: (.1, .2) before both rights, .9 before none: 4 of 6
    assert found["auc"] == pytest.approx(4 / 6)


def test_what_cannot_be_measured_has_no_number() -> None:
    clean = measures.detection(np.ones(3), np.zeros(3, bool))
    assert clean == {"precision": None, "recall": None, "auc": None}
    noise = measures.detection(np.zeros(3), np.ones(3, bool))
    assert noise == {"precision": 1.0, "recall": 1.0, "auc": None}


def test_a_method_s_own_decision_counts_for_precision_and_recall() -> None:
    probability, wrong = (
        np.array([0.9, 0.8, 0.7]),
        np.array([False, True, True]),
    )  # all above 1/2, as Jo-SRC's are
    found = measures.detection(probability, wrong, called=np.array([False, False, True]))
    assert (found["precision"], found["recall"], found["auc"]) == (1.0, 0.5, 1.0)


def test_clusters_are_named_by_the_best_matching() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    # cluster 2 is class 0 (2 of 3), 0 is class 1 (2), 1 is class 2 (1): greedy by size would do as well, 5 of 6
    assert measures.clustering_accuracy(np.array([2, 2, 1, 0, 0, 1]), labels) == pytest.approx(100 * 5 / 6)
    # all in one cluster: the largest class is right
    assert measures.clustering_accuracy(np.zeros(6, int), labels) == 50.0
