"""Audit: the sample, the exact bounds, and whether they cover as often as they say."""

import functools
import itertools
import math
from pathlib import Path

import folders
import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from noisyctl.errors import ArtifactError, DataError, OutputError
from noisyctl.review import audit, decisions, exact, result
from noisyctl.review.audit import Audited
from noisyctl.review.decisions import Decision
from noisyctl.review.exact import Stratum, least_total, least_wrong, most_total, most_wrong
from noisyctl.review.result import Listed, Result

REPEATS = 50


def test_bounds_by_hand() -> None:
    # 3 of 10 photos are looked at and all are wrong. With 5 wrong, 3 of 3 has the chance 10/120 = .083, with 4 4/120 = .033
    assert least_wrong(3, 3, 10, 0.05) == 5
    assert most_wrong(3, 3, 10, 0.05) == 10
    # none of 5 of 20 is wrong: with 8 wrong the chance is C(12,5)/C(20,5) = 792/15504 = .0511, with 9 462/15504 = .0298
    assert most_wrong(0, 5, 20, 0.05) == 8
    assert least_wrong(0, 5, 20, 0.05) == 0
    assert (least_wrong(4, 9, 9, 0.05), most_wrong(4, 9, 9, 0.05)) == (
        4,
        4,
    )  # all looked at: nothing is left to guess
    assert (least_wrong(0, 0, 9, 0.05), most_wrong(0, 0, 9, 0.05)) == (0, 9)


@pytest.mark.parametrize(("wrong", "asked"), [(0, 60), (7, 60), (60, 60)])
def test_of_very_many_photos_they_are_those_of_clopper_and_pearson(wrong: int, asked: int) -> None:
    photos, error = 2_000_000, 0.025
    low = beta.ppf(error, wrong, asked - wrong + 1) if wrong else 0.0
    high = beta.ppf(1 - error, wrong + 1, asked - wrong) if wrong < asked else 1.0
    assert least_wrong(wrong, asked, photos, error) / photos == pytest.approx(low, abs=1e-4)
    assert most_wrong(wrong, asked, photos, error) / photos == pytest.approx(high, abs=1e-4)


@pytest.mark.parametrize(("photos", "asked"), [(40, 12), (200, 50)])
def test_one_stratum_covers_exactly_as_it_says_whatever_is_true(photos: int, asked: int) -> None:
    x = np.arange(asked + 1)
    low = np.array([least_wrong(k, asked, photos, 0.025) for k in x.tolist()])
    high = np.array([most_wrong(k, asked, photos, 0.025) for k in x.tolist()])
    covered = [
        hypergeom.pmf(x, photos, true, asked)[(low <= true) & (true <= high)].sum()
        for true in range(photos + 1)
    ]
    assert min(covered) >= 0.95
    assert np.mean(covered) < 0.99  # and not by being endless


def population(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """1,500 photos: probabilities, and labels that are wrong as often as these say, a tenth less."""
    rng = np.random.default_rng(seed)
    probability = np.where(rng.random(1500) < 0.15, rng.beta(1, 4, 1500), rng.beta(12, 1, 1500))
    return probability, rng.random(1500) < 0.9 * (1 - probability)


def answers(probability: np.ndarray, wrong: np.ndarray, n: int, rng: np.random.Generator) -> Audited:
    part = audit.strata(probability)
    asked = np.zeros(len(part), bool)
    for h, size in enumerate(audit.allocation(probability, n).tolist()):
        asked[rng.choice(np.flatnonzero(part == h), size, replace=False)] = True
    return Audited(probability, part, asked, asked & wrong, np.zeros(len(part), bool))


def test_the_intervals_cover_as_often_as_they_say_within_the_error_of_the_simulation() -> None:
    probability, wrong = population()
    rate, listed = wrong.mean(), wrong[probability < 0.5].mean()
    rng = np.random.default_rng(0)
    covered, at_half = np.zeros(2), 0
    widths = []
    for _ in range(REPEATS):
        found = answers(probability, wrong, 60, rng)
        noise, precise = audit.noise_rate(found), audit.precision(found)
        assert precise is not None
        covered += (noise.low <= rate <= noise.high, precise.low <= listed <= precise.high)
        half = audit.noise_rate(found, level=0.5)
        at_half += half.low <= rate <= half.high
        widths.append(noise.high - noise.low)
    error = 3 * math.sqrt(0.95 * 0.05 / REPEATS)
    assert (covered / REPEATS >= 0.95 - error).all()
    assert (
        at_half / REPEATS < 0.85
    )  # an interval that is too narrow is seen here, and it is not much wider than it says
    alone = 2 * 1.96 * math.sqrt(rate * (1 - rate) / 60)  # of a simple random sample of as many
    assert np.mean(widths) < 1.1 * alone


def naive(strata: list[Stratum], error: float) -> list[int]:
    """The totals that some spread leaves a chance above `error`, by trying all spreads and all outcomes."""
    found = sum(s.photos * s.wrong / s.asked for s in strata)
    kept = set()
    # what was seen is possible with the spread
    for spread in itertools.product(*(range(s.wrong, s.photos - s.asked + s.wrong + 1) for s in strata)):
        chance = 0.0
        for outcome in itertools.product(*(range(s.asked + 1) for s in strata)):
            if sum(s.photos * x / s.asked for s, x in zip(strata, outcome, strict=True)) >= found - 1e-9:
                each = zip(strata, spread, outcome, strict=True)
                chance += math.prod(hypergeom.pmf(x, s.photos, k, s.asked) for s, k, x in each)
        if chance > error:
            kept.add(sum(spread))
    return sorted(kept)


def test_several_strata_against_all_spreads_and_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "SPENT", 1e-9)  # so that all spreads are tried
    strata = [Stratum(5, 3, 2), Stratum(4, 2, 1), Stratum(3, 2, 0)]
    assert least_total(strata, 0.1) == naive(strata, 0.1)[0]
    two = [Stratum(7, 4, 3), Stratum(8, 3, 1)]
    assert least_total(two, 0.05) == naive(two, 0.05)[0]
    turned = [Stratum(s.photos, s.asked, s.asked - s.wrong) for s in two]
    assert most_total(two, 0.05) == 15 - naive(turned, 0.05)[0]


def test_strata_of_which_all_or_nothing_is_known() -> None:
    whole, open_ = Stratum(9, 9, 4), Stratum(6, 0, 0)
    assert (least_total([whole], 0.05), most_total([whole], 0.05)) == (4, 4)
    assert (least_total([whole, open_], 0.05), most_total([whole, open_], 0.05)) == (4, 10)
    part = Stratum(40, 10, 3)
    assert least_total([whole, part], 0.025) >= 4 + 3


def test_a_threshold_is_named_wrongly_at_most_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    probability = np.concatenate(
        [rng.uniform(0, 0.3, 400), rng.uniform(0.3, 0.5, 300), rng.uniform(0.5, 1, 800)]
    )
    wrong = np.concatenate([rng.random(400) < 0.97, rng.random(300) < 0.6, rng.random(800) < 0.05])
    named = []
    for _ in range(REPEATS):
        threshold = audit.threshold_for(answers(probability, wrong, 250, rng), 0.2)
        if threshold is not None:
            named.append(1 - wrong[probability < threshold].mean())
    assert len(named) > REPEATS / 2  # it does find one
    assert sum(rate > 0.2 for rate in named) / REPEATS <= 0.05


def test_the_paired_interval_covers_and_mcnemar_is_exact() -> None:
    p, n = (0.12, 0.05, 0.83), 150
    draws = np.random.default_rng(2).multinomial(n, p, 2000)

    @functools.cache
    def covers(won: int, lost: int) -> bool:
        before = np.r_[np.zeros(won, bool), np.ones(lost, bool), np.ones(n - won - lost, bool)]
        after = np.r_[np.ones(won, bool), np.zeros(lost, bool), np.ones(n - won - lost, bool)]
        found = audit.paired(before, after)
        assert found.low <= found.difference <= found.high
        return found.low <= p[0] - p[1] <= found.high

    share = np.mean([covers(won, lost) for won, lost, _ in draws.tolist()])
    assert abs(share - 0.95) < 0.015
    found = audit.paired(np.r_[np.zeros(8, bool), True], np.r_[np.ones(8, bool), False])
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)  # 8 of 9 and more, both sides
    same = audit.paired(np.ones(50, bool), np.ones(50, bool))
    z2 = 1.959964**2
    assert same.high == pytest.approx(
        z2 / (50 + z2), abs=1e-4
    )  # as Tango's statistic gives for no difference
    assert same.low == pytest.approx(-same.high)
    with pytest.raises(DataError):
        audit.paired(np.ones(0, bool), np.ones(0, bool))


def test_allocation_draws_all_and_never_more_than_there_are() -> None:
    probability, _ = population()
    sizes = np.bincount(audit.strata(probability), minlength=3)
    for n in (1, 5, 200, 1000, 1500, 9999):
        drawn = audit.allocation(probability, n)
        assert drawn.sum() == min(n, 1500)
        assert (drawn <= sizes).all()
    assert audit.allocation(np.full(9, 0.99), 5).tolist() == [0, 0, 5]
    assert audit.strata(np.array([0.0, 0.5, 0.9, 1.0, np.nan])).tolist() == [0, 1, 2, 2, 2]


def answer(row: Listed, label: str | None) -> Decision:
    return Decision(row, "drop" if label is None else "relabel", label or "", "a.csv", 2)


@pytest.fixture
def listed(tmp_path: Path) -> Result:
    return folders.make(tmp_path, 60)


def test_a_sample_is_drawn_once_for_a_seed_and_written(listed: Result, tmp_path: Path) -> None:
    design = audit.draw(listed, 20, 7, np.random.default_rng(7))
    assert design == audit.draw(listed, 20, 7, np.random.default_rng(7))
    assert len(set(design.sample)) == 20
    before = folders.tree(listed.root)
    audit.write(listed, design, tmp_path / "audit")
    assert folders.tree(listed.root) == before
    assert audit.read_design(tmp_path / "audit/audit.json", listed) == design
    assert decisions.read(tmp_path / "audit/audit.csv", listed) == {}  # to be filled in
    text = (tmp_path / "audit/audit.html").read_text(encoding="utf-8")
    assert design.sample[0] in text
    audit.write(listed, design, tmp_path / "audit")  # may be drawn again
    (tmp_path / "audit/audit.csv").write_text("answers")
    with pytest.raises(OutputError, match=r"audit\.csv, which was changed"):
        audit.write(listed, design, tmp_path / "audit")  # answers are not overwritten
    other = folders.make(tmp_path / "other", 16)
    with pytest.raises(ArtifactError, match="another list"):
        audit.read_design(tmp_path / "audit/audit.json", other)


def test_answers_count_as_far_as_they_go_and_skipped_ones_both_ways(listed: Result) -> None:
    design = audit.draw(listed, 20, 7, np.random.default_rng(7))
    rows = [listed.by_id[id_] for id_ in design.sample]
    said = {row.id: answer(row, row.suggested) for k, row in enumerate(rows[:12]) if k != 3}
    said[rows[5].id] = answer(rows[5], None)
    found = audit.answered(listed, design, said)
    true = {k for k, row in enumerate(rows[:12]) if k != 3 and (row.given != row.suggested or k == 5)}
    assert (found.asked.sum(), found.skipped.sum(), found.wrong.sum()) == (12, 1, len(true))
    numbers = audit.summary(found, 0.2)
    assert (numbers["answered"], numbers["skipped"]) == (11, 1)
    worse = audit.answered(listed, design, said | {rows[3].id: answer(rows[3], None)})
    better = audit.answered(listed, design, said | {rows[3].id: answer(rows[3], rows[3].given)})
    bounds = audit.noise_rate(found)
    assert bounds.low == audit.noise_rate(better).low
    assert bounds.high == audit.noise_rate(worse).high
    outside = next(row for row in listed.rows if row.id not in design.sample)
    with pytest.raises(DataError, match=r"a.csv: row 2: .* is not in the sample"):
        audit.answered(listed, design, said | {outside.id: answer(outside, None)})
    with pytest.raises(DataError, match="no photo of the sample is answered"):
        audit.answered(listed, design, {})


def test_all_photos_answered_leaves_no_doubt(listed: Result) -> None:
    design = audit.draw(listed, 60, 0, np.random.default_rng(0))
    said = {row.id: answer(row, row.suggested) for row in listed.rows}
    numbers = audit.summary(audit.answered(listed, design, said), 0.1)
    assert numbers["noise_rate"] == {"estimate": 0.25, "low": 0.25, "high": 0.25}
    assert numbers["precision"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert numbers["threshold"] == 0.5


def test_a_list_in_which_nothing_is_below_the_threshold(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    rows = [row for row in folders.rows(root, 12) if row.clean_probability > 0.5]
    listed = result.read(folders.write(tmp_path / "out", root, rows))
    design = audit.draw(listed, 5, 0, np.random.default_rng(0))
    numbers = audit.summary(audit.answered(listed, design, {design.sample[0]: answer(rows[0], None)}), 0.1)
    assert numbers["precision"] is None
    assert numbers["threshold"] is None
