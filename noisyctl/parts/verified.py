"""Labels that the user has verified, and what they say about the given labels."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisyctl.task import Task


def verified_labels(task: Task) -> Int[Tensor, " n"]:
    """The verified label of each sample; -1 where there is none."""
    checked = torch.full_like(task.noisy_labels, -1)
    if task.verified is not None:
        checked[task.verified[0]] = task.verified[1]
    return checked


def judge(
    features: Float[Tensor, "n d"], given: Int[Tensor, " n"], verified: tuple[Tensor, Tensor]
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Judge given labels by binary classifiers, one for each class that verified samples are of.

    The classifier of a class is a logistic regression on the features of the verified samples: this class against all
    others. Returns two masks: the samples whose given class has a classifier, and those whose given label it affirms.
    """
    from sklearn.linear_model import LogisticRegression

    judged, affirmed = torch.zeros_like(given, dtype=torch.bool), torch.zeros_like(given, dtype=torch.bool)
    known, labels = features[verified[0]].cpu().numpy(), verified[1].cpu().numpy()
    for c in verified[1].unique().tolist():
        members = (given == c).nonzero()[:, 0]
        if len(members) and (labels != c).any():
            binary = LogisticRegression(class_weight="balanced", max_iter=1000).fit(known, labels == c)
            found = torch.from_numpy(binary.predict(features[members].cpu().numpy()))
            judged[members], affirmed[members] = True, found.to(given.device)
    return judged, affirmed
