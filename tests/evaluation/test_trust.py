"""When a list of suspicious labels is announced as untrustworthy: by hand, without the truth, and with it."""

from typing import Any

import numpy as np
import pytest

from noisyctl.evaluation import trust

GIVEN = np.repeat(np.arange(10), 10)  # ten classes of ten samples


def judged(suggested: np.ndarray, called: int = 0, given: np.ndarray = GIVEN, **more: Any) -> dict[str, Any]:
    """Of these suggestions by neighbors, where the first `called` labels are called wrong."""
    probability = np.where(np.arange(len(given)) < called, 0.1, 0.9)
    asked: dict[str, Any] = {"unseen": np.ones(len(given), bool), "judged_by": trust.NEIGHBORS}
    return trust.judge(given, suggested, probability, **asked | more)


def test_agreement_beyond_chance_is_cohens_kappa_by_hand() -> None:
    given, suggested = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    # three of four agree; by chance 3/4 * 2/4 + 1/4 * 2/4 = 1/2; (3/4 - 1/2) / (1 - 1/2) = 1/2
    assert trust.agreement(given, suggested) == {
        "agreement": 0.75,
        "chance_agreement": 0.5,
        "beyond_chance": 0.5,
    }


def test_neighbors_that_know_nothing_are_announced_with_the_cure() -> None:
    suggested = np.tile(np.arange(10), 10)  # each class suggested for a tenth of every class
    found = judged(suggested)
    assert (found["agreement"], found["chance_agreement"], found["beyond_chance"]) == (
        0.1,
        pytest.approx(0.1),
        pytest.approx(0),
    )
    assert (
        "the neighbors agree with 10.0 % of 100 given labels, where chance alone gives 10.0 %"
        in found["warning"]
    )
    assert "the features do not carry the classes" in found["warning"]
    assert "noisyctl prepare-data --dataset features" in found["warning"]  # the cure


def test_the_largest_class_for_all_is_no_more_than_chance_however_often_it_is_right() -> None:
    given = np.array([0] * 90 + [1] * 10)
    found = judged(np.zeros(100, int), given=given)
    assert (found["agreement"], found["beyond_chance"]) == (0.9, 0.0)
    assert "90.0 % of 100 given labels, where chance alone gives 90.0 %" in found["warning"]


def test_neighbors_that_mostly_repeat_the_labels_are_trusted() -> None:
    suggested = GIVEN.copy()
    suggested[::5] = (suggested[::5] + 1) % 10  # a fifth of the labels looks wrong
    found = judged(suggested, called=20)
    assert found["warning"] is None
    assert found["beyond_chance"] == pytest.approx(7 / 9)  # (0.8 - 0.1) / (1 - 0.1)
    assert (found["samples"], found["called_wrong"]) == (100, 20)


@pytest.mark.parametrize("share, kappa, announced", [(71, 0.21, False), (73, 0.19, True)])
def test_the_threshold_is_where_72_percent_of_ten_classes_are_wrong(
    share: int, kappa: float, announced: bool
) -> None:
    """Suggestions that are always right, and labels that are wrong, evenly, in `share` percent: as the module says."""
    given = np.repeat(np.arange(10), 900)
    place = np.tile(np.arange(900), 10)
    right = np.where(place < 9 * share, (given + 1 + place % 9) % 10, given)
    found = judged(right, given=given)
    assert found["beyond_chance"] == pytest.approx(kappa, abs=0.005)
    assert (found["warning"] is not None) == announced


@pytest.mark.parametrize("called, announced", [(33, False), (34, True)])
def test_a_third_of_all_labels_called_wrong_is_announced(called: int, announced: bool) -> None:
    found = judged(GIVEN, called=called)
    assert (found["warning"] is not None) == announced
    if announced:
        assert "34 of 100 labels are called wrong (34.0 %), a third or more" in found["warning"]


def test_a_network_that_learned_the_labels_is_no_witness_but_on_held_out_samples() -> None:
    """It repeats what it learned, and knows nothing of the twenty samples that were held out."""
    suggested, unseen = GIVEN.copy(), np.zeros(100, bool)
    unseen[::10] = unseen[5::10] = True  # two of each class
    suggested[unseen] = (suggested[unseen] + 1) % 10
    assert judged(suggested, judged_by=None)["warning"] is None
    found = judged(suggested, judged_by=trust.HELD_OUT, unseen=unseen)
    assert (found["judged"], found["agreement"], found["judged_by"]) == (20, 0.0, "held-out network")
    assert "the held-out network agrees with 0.0 % of 20 given labels" in found["warning"]
    unseen[0] = False
    found = judged(suggested, judged_by=trust.HELD_OUT, unseen=unseen)
    assert (found["judged"], found["warning"]) == (19, None)  # too few to tell


def test_a_list_that_the_truth_proves_right_is_trusted_and_one_that_it_does_not_is_not() -> None:
    wrong = np.arange(100) < 60  # 60 % noise; the list calls 50 labels wrong
    assert judged(GIVEN, called=50, wrong=wrong)["warning"] is None
    assert (
        judged(GIVEN, called=50, wrong=np.arange(100) < 25)["warning"] is not None
    )  # half of the calls are right
