"""Parts: golden rows, oracles in float64, properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.errors import DataError, ParamsError, TrainingError
from noisyctl.parts import mixing, mixture, neighbors, schedules, targets
from noisyctl.seeds import stream


def test_soft_cross_entropy_of_one_hot_rows_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4, generator=stream(0, "x")), torch.tensor([0, 1, 2, 3, 0, 1])
    soft = targets.soft_cross_entropy(logits, targets.one_hot(labels, 4))
    torch.testing.assert_close(soft, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))


def test_soft_cross_entropy_has_the_right_gradient() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.softmax(torch.randn(3, 4, dtype=torch.float64), dim=1)
    assert torch.autograd.gradcheck(lambda z: targets.soft_cross_entropy(z, rows), logits)


def test_running_average_weighs_the_old_value_with_the_momentum() -> None:
    torch.testing.assert_close(
        targets.running_average(torch.ones(2), torch.zeros(2), 0.9), torch.full((2,), 0.9)
    )


def test_mixing_with_weight_one_is_the_identity() -> None:
    own, others = torch.randn(3, 2, 5, 5), torch.randn(3, 2, 2, 5, 5)
    torch.testing.assert_close(mixing.mix(own, others, torch.ones(3), torch.zeros(3, 2)), own)


def test_mix_by_hand() -> None:
    mixed = mixing.mix(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor([0.75]), torch.tensor([[0.25]])
    )
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 0.25]]))


def test_small_losses_are_clean() -> None:
    losses = torch.cat(
        [
            torch.randn(200, generator=stream(0, "a")) * 0.1 + 0.2,
            torch.randn(100, generator=stream(0, "b")) * 0.1 + 3,
        ]
    )
    clean = mixture.clean_probability(losses, stream(0, "gmm"))
    assert (clean[:200] > 0.99).all()
    assert (clean[200:] < 0.01).all()


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-5, 5))
def test_clean_probability_is_unchanged_by_affine_maps(scale: float, shift: float) -> None:
    losses = torch.rand(100, generator=stream(0, "a")).double() ** 3
    a, b = (
        mixture.clean_probability(losses, stream(0, "g")),
        mixture.clean_probability(losses * scale + shift, stream(0, "g")),
    )
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_equal_losses_are_all_clean_and_nan_is_refused() -> None:
    assert mixture.clean_probability(torch.ones(5), stream(0, "g")).tolist() == [1.0] * 5
    with pytest.raises(TrainingError, match="not finite"):
        mixture.clean_probability(torch.tensor([1.0, math.nan]), stream(0, "g"))


def test_warm_restarts_equal_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, eta_min=0.001)
    for epoch in range(25):
        assert schedules.cosine_warm_restarts(epoch, 10, 0.02, 0.001) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()


def oracle(features: torch.Tensor, k: int) -> np.ndarray:
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    scores = (unit @ unit.T).numpy().round(6)
    found = []
    for i, row in enumerate(scores):
        found.append(sorted((j for j in range(len(row)) if j != i), key=lambda j, row=row: (-row[j], j))[:k])  # type: ignore[misc]
    return np.array(found)


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("n", [5, 200])
def test_neighbors_equal_the_oracle(engine: neighbors.Engine, n: int) -> None:
    features = torch.randn(n, 6, generator=stream(0, "f"))
    indices, similarity = neighbors.mine(features, 4, engine)
    assert (indices.numpy() == oracle(features, 4)).all()
    assert (similarity[:, :-1] >= similarity[:, 1:]).all()


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_many_duplicates_come_in_order_of_index_without_self(engine: neighbors.Engine) -> None:
    features = torch.randn(3, 8, generator=stream(0, "f")).repeat_interleave(40, dim=0)
    indices, _ = neighbors.mine(features, 5, engine)
    for i, row in enumerate(indices.tolist()):
        start = i // 40 * 40
        assert row == [j for j in range(start, start + 7) if j != i][:5]


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (9, 5)])
def test_k_out_of_range_names_the_largest(k: int, n: int) -> None:
    with pytest.raises(ParamsError, match="choose k from 1 to 4"):
        neighbors.mine(torch.randn(n, 3), k)


def test_bad_features_are_refused() -> None:
    features = torch.randn(6, 3)
    features[2, 1] = math.nan
    with pytest.raises(DataError, match=r"rows \[2\]"):
        neighbors.mine(features, 2)
    with pytest.raises(DataError, match="equal"):
        neighbors.mine(torch.ones(6, 3), 2)
    with pytest.raises(DataError, match="zero"):
        neighbors.mine(torch.zeros(6, 3), 2)


def test_nearest_is_euclidean_and_without_self() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [6.5, 0.0]])
    assert neighbors.nearest(points, 1)[:, 0].tolist() == [1, 0, 3, 2]


def test_votes_are_weighted_by_similarity() -> None:
    shares = neighbors.knn_vote(torch.tensor([[0, 1, 1]]), torch.tensor([[1.0, 0.0, 0.0]]), 3, 0.5)
    heavy = math.exp(2) / (math.exp(2) + 2)
    torch.testing.assert_close(shares, torch.tensor([[heavy, 1 - heavy, 0.0]]))
