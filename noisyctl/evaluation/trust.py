"""Whether a list of suspicious labels can be trusted, judged without the truth.

A list says for every training label how probable it is that the label is right, and calls it wrong below one half. It is
announced as untrustworthy where one of these holds:

  [1] something judged the labels without having learned them (mined neighbors, or a network on held-out samples), and it
      agrees with the given labels hardly more often than by chance: the features do not tell the classes apart
  [2] the list calls a third of all labels wrong, or more

The chance in [1] is how often suggestions would agree that know nothing of the sample: for each class the share of given
labels times the share of suggestions, summed over the classes. Agreement beyond chance is Cohen's kappa,
(agreement - chance) / (1 - chance) (Cohen, "A Coefficient of Agreement for Nominal Scales", 1960). It is 1 where every
suggestion is the given label. It is 0 for suggestions without knowledge, however unequal the classes are, and also where the
largest class is always suggested. The threshold is 0.2. Suggestions that are always right stay below it only where most
labels are wrong (72 % of them, spread evenly over ten equal classes), and then no list is to be believed either.

The threshold of [2] is a third. Of the labels that people gave in good faith seldom so many are wrong (17 to 18 % for
single annotators of CIFAR-10N), while features that confuse the classes call a third wrong on any data. Both thresholds are
ours. With fewer than 20 judged samples [1] is left out, for kappa would be off by a tenth and more. Where the truth is
known, a list is trusted if most of what it calls wrong is wrong, whatever [1] and [2] say.
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
    """How many labels a list calls wrong, how far its suggestions agree with the given labels, and a warning or None.

    `unseen` are the samples whose labels were judged by something that had not learned them, and `judged_by` says what that
    was; it is None where nothing did. `wrong` says which labels are wrong, where the truth is known.
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
    """The share of suggestions that are the given label, the share that chance would give, and Cohen's kappa; all up to 1.

    Where all labels and all suggestions are one class, chance alone gives 1 and nothing can be told: then kappa is 0.
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
