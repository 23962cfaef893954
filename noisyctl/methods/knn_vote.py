"""k-NN vote: the mined neighbors vote on every label; nothing is trained.

The labels of a sample's nearest neighbors, in the features of a pretrained network, are counted as votes for its class. A
label that few neighbors share is probably wrong, and the class with the most votes is suggested in its place. The method
only judges labels: it has no network and predicts nothing for new images.

The weighted vote is that of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018, section 3.4; its use on noisy labels follows Zhu et al., "Detecting Corrupted Labels Without Training a
Model to Predict" (SimiFeat), ICML 2022. Steps:

  [1] the share of each class among the k neighbors, each weighted by exp(similarity / temperature)
  [2] clean probability = the share of the given label;  suggested label = the class with the largest share

Differs from the authors' code:
  - SimiFeat ranks the samples of each class and removes as many as an estimated noise rate says. Here the share itself is
    the score.
"""

from torch import Generator, Tensor, nn

from noisyctl.parts.neighbors import knn_vote
from noisyctl.task import EpochRecord, MethodParams, Needs, Task, param, state

NEEDS = Needs(networks=0, warmup=False, neighbors=True)


class Params(MethodParams):
    """`methods.knn_vote` in params.yaml."""

    epochs: int = param(1, "always 1: nothing is trained", source="ours: nothing is trained", ge=1, le=1)
    validation_rate: float = param(0.0, "always 0: nothing is trained that could be validated", ge=0, le=0)
    temperature: float = param(
        0.07,
        "temperature of the votes' weights exp(similarity / temperature); lower values favor the nearest "
        "neighbors",
        source="Wu et al. 3.4",
        gt=0,
    )


@state
class State:
    """Empty: there is no network, so nothing has to survive an epoch."""


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    return State()


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    assert task.neighbors is not None and task.similarity is not None
    record = EpochRecord(task)
    for index in task.in_order():
        labels = task.noisy_labels[task.neighbors[index]]
        shares = knn_vote(labels, task.similarity[index], task.num_classes, params.temperature)  # [1]
        clean = shares.gather(1, task.noisy_labels[index][:, None])[:, 0]  # [2]
        record.add(index, clean_probability=clean, pseudo_labels=shares.argmax(dim=1), predictions=shares)
    return record


def predict(state: State, images: Tensor) -> Tensor:
    raise NotImplementedError("knn_vote trains no network")
