"""What a run is judged by, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.evaluation import measures

NAN = float("nan")


def test_accuracy_is_in_percent_epoch_by_epoch() -> None:
    predictions = np.array([[0, 1, 1, 1], [0, 0, 1, 1]])
    assert measures.accuracies(predictions, np.array([0, 0, 1, 1])).tolist() == [75.0, 100.0]


def test_each_rule_picks_its_epoch() -> None:
    curve = np.array([50.0, 90.0, *([70.0] * 8), 80.0, 60.0])
    noisy = np.array([30.0, 40.0, *([41.0] * 2), *([10.0] * 8)])
    loss = np.array([9.0, 0.5, *([1.0] * 8), 0.7, 0.8])
    validation = {"best_on_noisy_validation": noisy, "least_noisy_validation_loss": -loss}
    rules = measures.selection_rules(curve, validation)
    assert rules["last"] == 60.0
    assert rules["mean_last_10"] == 70.0  # the oracle's epoch lies outside the last ten
    assert rules["best_on_test_oracle"] == 90.0
    assert rules["gap_best_last"] == 30.0
    assert rules["best_on_noisy_validation"] == 70.0  # epoch 2, the first of the two best ones
    assert rules["least_noisy_validation_loss"] == 90.0
    assert "best_on_noisy_validation" not in measures.selection_rules(curve)
    # of a method with two stages the second is judged: epochs 8 and later
    staged = measures.selection_rules(curve, validation, np.array([*([1.0] * 8), *([2.0] * 4)]))
    assert staged["best_on_noisy_validation"] == 70.0  # epoch 8
    assert staged["least_noisy_validation_loss"] == 80.0  # epoch 10
    assert staged["best_on_test_oracle"] == 90.0
    assert (
        staged["stage1_last"] == 70.0 and staged["stage1_least_noisy_validation_loss"] == 90.0
    )  # epochs 7 and 1
    refined = {"best_on_refined_validation": np.array([1.0, 2.0, *([2.0] * 8), 2.0, 1.0])}
    assert (
        measures.selection_rules(curve, refined)["best_on_refined_validation"] == 80.0
    )  # epoch 10, the last of equals
    one = measures.selection_rules(curve, validation, np.ones(12))
    assert one["best_on_noisy_validation"] == 70.0 and "stage1_last" not in one


def test_detection_by_hand() -> None:
    # called wrong: the first three; two of them are; one wrong label of three is missed
    probability = np.array([0.1, 0.2, 0.3, 0.9, 0.8])
    found = measures.detection(probability, np.array([True, True, False, True, False]), probability < 0.5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    # pairs of a wrong and a right label in the right order: (.1, .2) before both rights, .9 before none: 4 of 6
    assert found["auc"] == pytest.approx(4 / 6)
    # precision at each wrong label, by rank: 1 of 1, 2 of 2, 3 of 5
    assert found["average_precision"] == pytest.approx((1 + 1 + 3 / 5) / 3)


def test_what_cannot_be_measured_has_no_number() -> None:
    clean = measures.detection(np.ones(3), np.zeros(3, bool), np.zeros(3, bool))
    assert clean == {"precision": None, "recall": None, "auc": None, "average_precision": None}
    noise = measures.detection(np.zeros(3), np.ones(3, bool), np.ones(3, bool))
    assert noise == {"precision": 1.0, "recall": 1.0, "auc": None, "average_precision": None}


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


def test_top5_counts_any_of_the_places() -> None:
    # the label 3 is first, last, and absent; 7 is absent, in the middle, and first
    places = np.array([[[3, 1, 2], [1, 2, 4]], [[1, 2, 3], [1, 7, 2]], [[1, 2, 4], [7, 1, 2]]])
    assert measures.top_accuracies(places, np.array([3, 7])).tolist() == [50.0, 100.0, 50.0]


def test_the_best_value_is_not_the_value_at_the_best_epoch() -> None:
    curve, test = np.array([90.0, NAN, 70.0, 60.0]), np.array([1.0, 2.0, 8.0, 8.0])
    # the epoch that is best on the test labels is the first of the two with 8
    assert measures.over_epochs(curve, test) == {"last": 60.0, "best": 90.0, "at_best_on_test_oracle": 70.0}
    assert measures.over_epochs(np.array([NAN])) == {"last": None, "best": None}


def test_label_precision_and_recall_of_a_selection() -> None:
    right = np.array([True, True, True, False])
    one = np.array([[[1, 0, 0, 1]], [[1, 1, 1, 0]], [[0, 0, 0, 0]]], dtype=bool)
    precision, recall = measures.selection_quality(one, right)
    # a right and a wrong one of 3 right ones; all right ones; nothing selected
    assert precision.tolist()[:2] == [50.0, 100.0] and np.isnan(precision[2])
    assert recall.tolist() == pytest.approx([100 / 3, 100.0, 0.0])
    two = np.array([[[1, 0, 0, 0], [0, 0, 1, 1]], [[1, 0, 0, 0], [1, 1, 0, 1]]], dtype=bool)
    precision, recall = measures.selection_quality(two, right)
    # two networks together, epoch 0: one right; one right, one wrong. Epoch 1: one right; two right, one wrong
    assert precision.tolist() == pytest.approx([200 / 3, 75.0])
    assert recall.tolist() == pytest.approx([100 * 2 / 6, 50.0])


def test_id_and_ood_precision() -> None:
    verdict = np.array([[0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1]], dtype=np.uint8)
    # samples: clean, clean, ID noise, ID noise, OOD, OOD
    id_noise, ood = np.array([0, 0, 1, 1, 0, 0], bool), np.array([0, 0, 0, 0, 1, 1], bool)
    assert measures.verdict_precision(verdict, 1, id_noise).tolist() == [50.0, 0.0]
    precision = measures.verdict_precision(verdict, 2, ood)
    assert precision[0] == pytest.approx(200 / 3) and np.isnan(precision[1])  # nothing is judged OOD


def test_kept_wrong_and_dropped_labels_sum_to_a_hundred() -> None:
    # of five: two kept and right, one kept and wrong, two dropped
    selected, right = np.array([[1, 1, 1, 0, 0]], bool), np.array([1, 1, 0, 1, 0], bool)
    shares = measures.label_shares(selected, right)
    assert shares == {"pct_correct_labels": 40.0, "pct_incorrect_labels": 20.0, "pct_no_label": 40.0}


def test_label_accuracy_before_at_the_first_and_at_the_last_correction() -> None:
    given, clean = np.array([0, 1, 1, 0]), np.array([0, 0, 1, -1])  # the last is of no known class
    labels = np.array([[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    # epoch 0 differs only where no label can be right; epoch 1 has one of three right, epoch 2 two
    found = measures.label_accuracy(labels, given, clean)
    assert found == {
        "original": pytest.approx(200 / 3),
        "initial": pytest.approx(100 / 3),
        "final": pytest.approx(200 / 3),
    }
    assert measures.label_accuracy(given[None], given, clean)["initial"] is None  # nothing was ever corrected


def test_accuracy_of_each_group() -> None:
    given, clean = np.array([0, 1, 1, 0, 2]), np.array([0, 1, 0, 1, -1])
    predictions = np.array([[0, 0, 1, 1, 2]])
    # one of two clean ones; of two ID noise ones one is fitted to the wrong label, the other to the right one
    assert {k: v.tolist() for k, v in measures.group_accuracies(predictions, given, clean).items()} == {
        "clean_fitted": [50.0],
        "id_noise_fitted": [50.0],
        "ood_noise_fitted": [100.0],
        "id_noise_predicted_right": [50.0],
    }
    assert list(measures.group_accuracies(predictions, given, given)) == ["clean_fitted"]


def test_confusion_counts_rows_and_columns() -> None:
    counts = measures.confusion_counts(np.array([0, 0, 2]), np.array([1, 1, 0]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_tsne_keeps_clusters_apart_and_is_seeded() -> None:
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    features[20:] += 50
    points, again = (measures.embed(features, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (points == again).all()
    near = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(near, np.inf)
    assert ((near.argmin(axis=1) >= 20) == (np.arange(40) >= 20)).all()
    assert measures.embed(features[:4], torch.Generator()).shape == (4, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 12))
def test_measures_agree_with_loops_over_samples(seed: int, networks: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    given_labels, clean = rng.integers(0, 3, size), rng.integers(-1, 3, size)
    right = given_labels == clean
    selected = rng.random((2, networks, size)) < 0.5
    labels = rng.integers(0, 3, (2, size))
    precision, recall = measures.selection_quality(selected, right)
    for e in range(2):
        chosen = [i for m in range(networks) for i in range(size) if selected[e, m, i]]
        hits = sum(bool(right[i]) for i in chosen)
        assert precision[e] == pytest.approx(100 * hits / len(chosen) if chosen else NAN, nan_ok=True)
        wanted = networks * sum(map(bool, right))
        assert recall[e] == pytest.approx(100 * hits / wanted if wanted else NAN, nan_ok=True)
    shares = measures.label_shares(selected[0], right)
    assert sum(shares.values()) == pytest.approx(100)
    known = [i for i in range(size) if clean[i] >= 0]
    if known:
        found = measures.label_accuracy(labels, given_labels, clean)
        assert found["final"] == pytest.approx(
            100 * sum(labels[1, i] == clean[i] for i in known) / len(known)
        )
    groups = measures.group_accuracies(labels, given_labels, clean)
    for name, mine in (
        ("clean_fitted", [i for i in range(size) if right[i]]),
        ("id_noise_fitted", [i for i in known if not right[i]]),
        ("ood_noise_fitted", [i for i in range(size) if clean[i] < 0]),
    ):
        assert (name in groups) == bool(mine)
        for e in range(2 if mine else 0):
            fitted = sum(labels[e, i] == given_labels[i] for i in mine)
            assert groups[name][e] == pytest.approx(100 * fitted / len(mine))


def test_balanced_accuracy_is_the_mean_of_the_classes_recalls() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    predictions = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 0])
    found = measures.recall_by_class(predictions, labels, ["often", "rare", "never"])
    assert found["recall"] == {"often": 87.5, "rare": 50.0, "never": None}
    assert found["balanced_accuracy"] == 68.75  # 80 % are right
    none = measures.recall_by_class(labels[:0], labels[:0], ["often"])
    assert none == {"balanced_accuracy": None, "recall": {"often": None}}


def test_detection_of_each_given_class_by_hand() -> None:
    given = np.array([0, 0, 0, 1, 1, 1])
    wrong = np.array([1, 0, 0, 1, 1, 0], bool)
    called = np.array([1, 1, 0, 0, 1, 0], bool)
    assert measures.detection_by_class(given, wrong, called, ["a", "b", "c"]) == {
        "a": {"called_wrong": 2, "precision": 0.5, "recall": 1.0},
        "b": {"called_wrong": 1, "precision": 1.0, "recall": 0.5},
        "c": {"called_wrong": 0, "precision": None, "recall": None},
    }
