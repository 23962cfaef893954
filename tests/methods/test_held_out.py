"""No label of a held-out sample trains: it may validate only."""

import pytest
import tiny
import torch

from noisyctl import methods

OUT = torch.tensor([0, 5, 10, 15])
TRAINED = [name for name in methods.available() if methods.load(name).NEEDS.networks]


@pytest.mark.parametrize("name", TRAINED)
def test_other_held_out_labels_give_the_same_networks_and_trace(name: str) -> None:
    """Two-Stage's learning rate may follow them, but not within two epochs."""
    ends = []
    for shift in (0, 1):
        labels = tiny.TRUTH.clone()
        labels[OUT] = (labels[OUT] + shift) % tiny.CLASSES
        task = tiny.task_of(labels, held_out=OUT)
        state, records = tiny.train(name, task)
        vectors = records[-1].vectors
        ends.append((tiny.weights(state), {key: vectors[key][..., task.train_index] for key in vectors}))
    (weights, one), (other_weights, other) = ends
    assert torch.equal(weights, other_weights)
    assert all(torch.equal(one[key], other[key]) for key in one)
