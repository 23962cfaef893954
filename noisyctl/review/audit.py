"""Audit: what a person's look at a random sample of photos proves about all of them.

The photos are divided by their clean_probability into strata, and a simple random sample is drawn in each, without
replacement. The bounds for the number of wrong labels are exact (exact.py): they cover at least as often as they say,
whatever the strata hold.

Answers are taken in the order of the sample. Where a person stopped, what comes after does not count. A photo that was
passed over counts as right in lower bounds and as wrong in upper ones. The bounds hold for a number of answers that was
decided on beforehand, not for one at which the figures looked good.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from noisyctl.artifacts import csv_files, files
from noisyctl.errors import ArtifactError, DataError, ParamsError
from noisyctl.review import decisions, report
from noisyctl.review.decisions import Decision
from noisyctl.review.exact import Stratum, least_total, most_total
from noisyctl.review.result import Listed, Result

FOLDER = files.Folder("sample of an audit")
ANSWERS, DESIGN, REPORT = "audit.csv", "audit.json", "audit.html"
EDGES = (0.5, 0.9)  # between the strata of clean_probability; below the first lies what the list calls wrong
LISTED = 0.5  # the list calls a label wrong below this clean_probability
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)  # that are tried for a false-discovery rate
LEVEL = 0.95
CLOSE = 1e-10  # to which a limit is computed; at the estimate itself the statistic may be 0 / 0


@dataclass(frozen=True)
class Design:
    """Which photos were drawn: ids in the order in which they are to be answered."""

    result: str
    seed: int
    edges: tuple[float, ...]
    sample: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """An estimate, with an interval that covers with the level that was asked for; None where nothing was answered."""

    estimate: float | None
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Audited:
    """The photos of a list as an audit sees them, in the list's order.

    `asked` are those of the sample as far as it was answered; `wrong` and `skipped` are among these.
    """

    probability: Float[np.ndarray, " n"]
    stratum: Int64[np.ndarray, " n"]
    asked: Bool[np.ndarray, " n"]
    wrong: Bool[np.ndarray, " n"]
    skipped: Bool[np.ndarray, " n"]


def strata(probability: Float[np.ndarray, " n"], edges: Sequence[float] = EDGES) -> Int64[np.ndarray, " n"]:
    """The stratum of each photo: 0 below the first edge. A photo without a probability is in the last."""
    return np.searchsorted(np.asarray(edges), np.nan_to_num(probability, nan=1.0), side="right").astype(
        np.int64
    )


def allocation(
    probability: Float[np.ndarray, " n"], n: int, edges: Sequence[float] = EDGES
) -> Int64[np.ndarray, " h"]:
    """How many photos to draw in each stratum: at least an equal share of n / 2, the rest where it tells most.

    That is in proportion to size times the deviation that the list expects (Neyman's allocation). A stratum with fewer
    photos is taken whole.
    """
    part = strata(probability, edges)
    number = len(edges) + 1
    size = np.bincount(part, minlength=number)
    p = np.clip(np.nan_to_num(probability, nan=0.5), 0.01, 0.99)
    spread = np.sqrt(np.bincount(part, weights=p * (1 - p), minlength=number) * size)
    drawn = np.minimum(size, n // (2 * number))
    while (left := min(n, int(size.sum())) - int(drawn.sum())) > 0:
        weights = np.where(drawn < size, spread, 0.0)
        more = np.floor(left * weights / weights.sum()).astype(np.int64)
        if not more.any():
            more[np.argmax(np.where(drawn < size, weights, -1))] = 1
        drawn = np.minimum(size, drawn + more)
    return drawn.astype(np.int64)


def draw(result: Result, n: int, seed: int, rng: np.random.Generator) -> Design:
    """A stratified random sample of n photos, in random order. Raises ParamsError where n is none or the list is empty."""
    if n < 1 or not result.rows:
        raise ParamsError(f"--n is {n} of {len(result.rows)} photos; give a whole number from 1 on")
    probability = _probability(result.rows)
    part = strata(probability)
    drawn = [
        rng.choice(np.flatnonzero(part == h), size, replace=False)
        for h, size in enumerate(allocation(probability, n).tolist())
        if size
    ]
    order = rng.permutation(np.concatenate(drawn))
    return Design(result.digest, seed, EDGES, tuple(result.rows[k].id for k in order.tolist()))


def _probability(rows: Sequence[Listed]) -> Float[np.ndarray, " n"]:
    return np.array([row.clean_probability for row in rows], np.float64)


def write(result: Result, design: Design, out: Path) -> dict[str, Any]:
    """Write audit.csv to fill in, audit.html to answer in a browser, and the design, to the folder `out`."""
    sample = [result.by_id[id_] for id_ in design.sample]
    files.check([files.Writes({out: FOLDER})], [result.root, result.folder], ours=lambda path: False)
    empty = [(row.id, row.path, row.given, "", "", result.digest) for row in sample]
    with files.publish(out, FOLDER) as partial:
        partial.mkdir()
        text = csv_files.as_file_text([decisions.COLUMNS, *empty])
        (partial / ANSWERS).write_text(text, encoding="utf-8", newline="")
        about = {
            "kind": FOLDER.kind,
            "result": design.result,
            "seed": design.seed,
            "edges": list(design.edges),
            "sample": list(design.sample),
        }
        (partial / DESIGN).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        report.write_audit(result, partial / REPORT, out / REPORT, sample)
        FOLDER.seal(partial)
    counts = np.bincount(strata(_probability(sample)), minlength=len(EDGES) + 1)
    return {"photos": len(sample), "strata": counts.tolist(), "out": str(out)}


def read_design(path: Path, result: Result) -> Design:
    """Raises ArtifactError where there is none, or it is of another list."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        design = Design(
            str(about["result"]),
            int(about["seed"]),
            tuple(map(float, about["edges"])),
            tuple(map(str, about["sample"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is not the design of an audit ({error}); put the answers into the folder that `noisyctl audit --n` "
            "wrote, beside audit.json"
        ) from error
    if design.result != result.digest:
        raise ArtifactError(f"{path} was drawn from another list than {result.folder}; draw again with --n")
    return design


def answered(result: Result, design: Design, answers: Mapping[str, Decision]) -> Audited:
    """Bring the answers and the list together. Raises DataError for answers outside of the sample, or for none."""
    place = {id_: k for k, id_ in enumerate(design.sample)}
    others = [one for id_, one in answers.items() if id_ not in place]
    if others:
        raise DataError(
            f"{others[0].file}: row {others[0].row}: {others[0].photo.path} is not in the sample; answer the photos of "
            "audit.csv only"
        )
    if not answers:
        raise DataError(
            "no photo of the sample is answered yet; write keep, relabel or drop into the column decision"
        )
    last = max(place[id_] for id_ in answers)
    asked = set(design.sample[: last + 1])
    rows = result.rows
    return Audited(
        probability=_probability(rows),
        stratum=strata(_probability(rows), design.edges),
        asked=np.array([row.id in asked for row in rows], bool),
        wrong=np.array([row.id in answers and answers[row.id].outcome != row.given for row in rows], bool),
        skipped=np.array([row.id in asked and row.id not in answers for row in rows], bool),
    )


def wrong_among(audited: Audited, chosen: Bool[np.ndarray, " n"], error: float) -> Bounds:
    """How many of the chosen photos have a wrong label: an interval that fails with a chance of at most `error`.

    In each stratum the sampled photos that are chosen are a random sample of all that are.
    """
    seen = _seen(audited, chosen)
    estimate: float | None = 0.0
    for photos, asked, wrong, skipped in seen:
        known = asked - skipped
        estimate = estimate + photos * wrong / known if known and estimate is not None else None
    high = [Stratum(photos, asked, wrong + skipped) for photos, asked, wrong, skipped in seen]
    return Bounds(estimate, float(_least(seen, error / 2)), float(most_total(high, error / 2)))


def _seen(audited: Audited, chosen: Bool[np.ndarray, " n"]) -> list[tuple[int, int, int, int]]:
    """Of each stratum with chosen photos: how many these are, and how many of them were asked, wrong and skipped."""
    of_each = [chosen & (audited.stratum == part) for part in np.unique(audited.stratum[chosen])]
    marks = (audited.asked, audited.wrong, audited.skipped)
    return [(int(here.sum()), *(int((here & mark).sum()) for mark in marks)) for here in of_each]  # type: ignore[misc]


def _least(seen: Sequence[tuple[int, int, int, int]], error: float) -> int:
    """The fewest wrong labels, where what was skipped counts as right."""
    return least_total([Stratum(photos, asked, wrong) for photos, asked, wrong, _ in seen], error)


def noise_rate(audited: Audited, level: float = LEVEL) -> Bounds:
    """The share of wrong labels among all photos of the list."""
    return _share(wrong_among(audited, np.ones(len(audited.stratum), bool), 1 - level), len(audited.stratum))


def precision(audited: Audited, threshold: float = LISTED, level: float = LEVEL) -> Bounds | None:
    """The share of wrong labels among the photos below the threshold; None where there are none."""
    chosen = audited.probability < threshold
    if not chosen.any():
        return None
    return _share(wrong_among(audited, chosen, 1 - level), int(chosen.sum()))


def _share(bounds: Bounds, photos: int) -> Bounds:
    estimate = None if bounds.estimate is None else bounds.estimate / photos
    return Bounds(estimate, bounds.low / photos, bounds.high / photos)


def threshold_for(audited: Audited, rate: float, level: float = LEVEL) -> float | None:
    """The largest threshold below which at most `rate` of the photos have a right label (false discoveries).

    None where the answers prove it for none. THRESHOLDS are fixed before the answers are seen and share the error, so
    the statement on the one that is chosen fails with a chance of at most 1 - level.
    """
    error = (1 - level) / len(THRESHOLDS)
    for threshold in reversed(THRESHOLDS):
        chosen = audited.probability < threshold
        if chosen.any() and _least(_seen(audited, chosen), error) >= (1 - rate) * chosen.sum():
            return threshold
    return None


def summary(audited: Audited, rate: float, level: float = LEVEL) -> dict[str, Any]:
    """All that the answers prove, as numbers."""
    below = precision(audited, LISTED, level)
    threshold = threshold_for(audited, rate, level)
    return {
        "level": level,
        "photos": len(audited.asked),
        "answered": int(audited.asked.sum() - audited.skipped.sum()),
        "skipped": int(audited.skipped.sum()),
        "wrong": int(audited.wrong.sum()),
        "noise_rate": noise_rate(audited, level).as_dict(),
        "precision": None if below is None else below.as_dict(),
        "listed": int((audited.probability < LISTED).sum()),
        "false_discovery_rate": rate,
        "threshold": threshold,
        "below_threshold": 0 if threshold is None else int((audited.probability < threshold).sum()),
    }


def judge(
    result: Result,
    answers: Path,
    place: Path,
    *,
    rate: float,
    level: float = LEVEL,
    predictions: tuple[Path | None, Path | None] = (None, None),
) -> dict[str, Any]:
    """What the answers in a file prove. The design lies beside them, or in the folder `place`.

    `predictions` of a model before and after cleaning are compared on the answered photos.
    """
    beside = answers.parent / DESIGN
    design = read_design(beside if beside.is_file() else place / DESIGN, result)
    said = decisions.read(answers, result)
    numbers = summary(answered(result, design, said), rate, level)
    before, after = predictions
    if (before is None) != (after is None):
        raise ParamsError("--before and --after are compared with each other; give both, or neither")
    if before is not None and after is not None:
        right = [_right(path, said) for path in (before, after)]
        both = sorted(right[0].keys() & right[1].keys())
        first, second = (np.array([one[id_] for id_ in both], bool) for one in right)
        compared = paired(first, second, level)
        numbers["models"] = vars(compared).copy()
    return numbers


def _right(path: Path, said: Mapping[str, Decision]) -> dict[str, bool]:
    """Whether a predictions.csv has the label that the person gave, by id; photos that were dropped have none."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); give a predictions.csv of `noisyctl predict`"
        ) from error
    if not lines or not csv_files.is_ours(lines[0]) or tuple(lines[0]) != csv_files.PREDICTIONS:
        raise DataError(f"{path} is no predictions.csv; make it with `noisyctl predict`")
    predicted = {csv_files.unquoted(line[0]): csv_files.unquoted(line[1]) for line in lines[1:]}
    return {
        id_: predicted[one.photo.path] == one.outcome
        for id_, one in said.items()
        if one.outcome is not None and one.photo.path in predicted
    }


def lines(about: Mapping[str, Any]) -> list[str]:
    """What was drawn, or what the answers prove, for people."""
    if "noise_rate" not in about:
        return [
            f"{about['photos']} photos drawn ({', '.join(map(str, about['strata']))} by rising clean probability)",
            f"answer all of them in {Path(about['out']) / REPORT}, or in the column decision of {ANSWERS} beside it, then "
            "run the command again with --answers",
        ]
    level = f"{100 * about['level']:g} %"
    told = [
        f"{about['answered']} photos answered, {about['skipped']} skipped; {about['wrong']} labels are wrong",
        f"of all {about['photos']} labels {_interval(about['noise_rate'], level)} are wrong",
    ]
    if about["precision"] is not None:
        told.append(
            f"of the {about['listed']} that the list calls wrong {_interval(about['precision'], level)} are wrong"
        )
    share = f"{100 * about['false_discovery_rate']:g} %"
    if about["threshold"] is None:
        told.append(f"no threshold is proven to let at most {share} right labels pass; answer more photos")
    else:
        told.append(
            f"of the {about['below_threshold']} photos with a clean probability below {about['threshold']:g} at most "
            f"{share} have a right label ({level} sure)"
        )
    if "models" in about:
        one = about["models"]
        told.append(
            f"on {one['photos']} answered photos: accuracy {100 * one['before']:.1f} % before, {100 * one['after']:.1f} % "
            f"after; difference {100 * one['difference']:+.1f} points, {level} interval {100 * one['low']:+.1f} to "
            f"{100 * one['high']:+.1f}; McNemar's p = {one['p_value']:.3f}"
        )
    return told


def _interval(bounds: Mapping[str, float | None], level: str) -> str:
    low, high, estimate = bounds["low"], bounds["high"], bounds["estimate"]
    about = "" if estimate is None else f"about {100 * estimate:.1f} %, "
    return f"{about}{100 * (low or 0):.1f} to {100 * (high or 0):.1f} % ({level} sure)"


@dataclass(frozen=True)
class Paired:
    """Accuracies of two models on the same photos, all from 0 to 1, and the probability of McNemar's exact test."""

    photos: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float


def paired(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"], level: float = LEVEL) -> Paired:
    """Compare two models by whether each is right on the same photos.

    The interval of the difference is Tango's score interval for paired proportions (Statistics in Medicine 17, 1998,
    section 3): it keeps its level with few photos, and with none on which the two differ. The test is McNemar's, exact.
    Raises DataError without a photo.
    """
    from scipy.stats import binomtest, norm

    n = len(before)
    if n == 0 or len(after) != n:
        raise DataError(
            "no photo on which both models can be compared; give predictions of the audited photos"
        )
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    z = float(norm.ppf(1 - (1 - level) / 2))
    low, high = _tango(won, lost, n, z, -1), _tango(won, lost, n, z, 1)
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Paired(n, float(before.mean()), float(after.mean()), (won - lost) / n, low, high, p_value)


def _tango(won: int, lost: int, n: int, z: float, side: int) -> float:
    """A limit of the interval: the difference at which the score statistic is z away, above (side 1) or below (-1)."""
    from scipy.optimize import brentq

    def beyond(difference: float) -> float:
        b = -won - lost + (2 * n - won + lost) * difference
        c = -lost * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (
            4 * n
        )  # most likely share of `lost` given the difference
        variance = n * (2 * share + difference * (1 - difference))
        score = won - lost - n * difference
        return score + side * z * math.sqrt(max(variance, 0.0))

    estimate = (won - lost) / n
    start, end = estimate + side * CLOSE, side * (1 - CLOSE)
    if side * start >= side * end:
        return float(side)
    return float(brentq(beyond, start, end, xtol=CLOSE))
