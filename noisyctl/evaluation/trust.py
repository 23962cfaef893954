"""Whether a list of suspicious labels can be trusted, judged without the truth.

A list says for every training label how probable it is that the label is right, and calls it wrong below one half. It is
announced as untrustworthy where one of these holds:

  [1] what judged the labels without having learned them (mined neighbors, or a network on held-out samples) agrees with
      the given labels hardly more than chance: the features do not carry the classes
  [2] it calls a third of all labels wrong, or more

Chance in [1] is the agreement of suggestions that know nothing of the sample: sum over the classes of the share of given
labels times the share of suggestions. Agreement beyond chance is Cohen's kappa, (agreement - chance) / (1 - chance)
(Cohen, "A Coefficient of Agreement for Nominal Scales", 1960): 0 for suggestions without knowledge however unequal the
classes are (always the largest class, too), 1 where all labels are repeated. The threshold is 0.2: suggestions that are
always right are below it only where most labels are wrong (of ten equal classes: 72 % of the labels, spread evenly), and
then, too, no list is to be believed.

The threshold of [2] is a third: of labels that people gave in good faith seldom as many are wrong (of CIFAR-10N's single
annotators 17 to 18 %), while features that confuse the classes call that many wrong on any data. Both thresholds are ours.
Of fewer than 20 judged samples [1] says nothing: kappa would be off by a tenth and more. Where the truth is known nothing
need be guessed: a list whose calls are mostly right is trusted whatever [1] and [2] say.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

CALLED_WRONG = 0.5  # a label is called wrong where it is less probable than this to be right
LEAST_BEYOND_CHANCE = 0.2
LEAST_JUDGED = 20  # samples
MOST_CALLED_WRONG = 1 / 3
NEIGHBORS, HELD_OUT = "neighbors", "held-out network"  # what judged labels that it had not learned


def judge(
    given: Int[np.ndarray, " n"],
    suggested: Int[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    *,
    unseen: Bool[np.ndarray, " n"],
    judged_by: str | None,
    wrong: Bool[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """What a list calls wrong, how far its suggestions agree with the given labels, and a warning or None.

    `unseen` are the samples whose labels were judged by something that had not learned them, `judged_by` what that was; None
    where there is nothing of the kind. `wrong` says which labels are wrong, where the truth is known.
    """
    called = probability < CALLED_WRONG
    found: dict[str, Any] = {"samples": len(given), "called_wrong": int(called.sum())}
    reasons = []
    if judged_by is not None and unseen.any():
        found |= {"judged_by": judged_by, "judged": int(unseen.sum())}
        found |= agreement(given[unseen], suggested[unseen])
        if found["judged"] >= LEAST_JUDGED and found["beyond_chance"] < LEAST_BEYOND_CHANCE:
            reasons.append(_agrees_by_chance(found))
    if called.mean() >= MOST_CALLED_WRONG:
        reasons.append(_calls_too_many(found))
    proven = wrong is not None and called.any() and (called & wrong).sum() > called.sum() / 2
    found["warning"] = None if proven or not reasons else f"{'; '.join(reasons)}. {CURE}"
    return found


def agreement(given: Int[np.ndarray, " n"], suggested: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Share of suggestions that are the given label, the share that chance gives, and Cohen's kappa; from 0 to 1.

    Kappa is 0 where chance alone gives 1, which tells nothing: all labels and all suggestions are one class.
    """
    size = max(int(given.max()), int(suggested.max())) + 1
    of_given, of_suggested = (np.bincount(x, minlength=size) / len(x) for x in (given, suggested))
    observed, chance = float((given == suggested).mean()), float((of_given * of_suggested).sum())
    beyond = (observed - chance) / (1 - chance) if chance < 1 else 0.0
    return {"agreement": observed, "chance_agreement": chance, "beyond_chance": beyond}


CURE = (
    "Do not act on this list: give noisyctl features that tell your classes apart, of a pretrained encoder "
    "(`noisyctl prepare-data --dataset features --array X.npy --labels y.npy`) or of a longer pretraining "
    "(`noisyctl pretrain-simclr --epochs 500`, then `noisyctl mine-knn`), and check by hand whether its first rows are "
    "wrong before you use the others"
)


def _agrees_by_chance(found: dict[str, Any]) -> str:
    return (
        f"the {found['judged_by']} agree{'' if found['judged_by'] == NEIGHBORS else 's'} with "
        f"{100 * found['agreement']:.1f} % of {found['judged']} given labels, where chance alone gives "
        f"{100 * found['chance_agreement']:.1f} %: the features do not carry the classes"
    )


def _calls_too_many(found: dict[str, Any]) -> str:
    share = 100 * found["called_wrong"] / found["samples"]
    return f"{found['called_wrong']} of {found['samples']} labels are called wrong ({share:.1f} %), a third or more"
