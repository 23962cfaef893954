"""Prototypes: golden rows by hand, naive oracles in float64 written from the papers, degenerate classes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisyctl.parts import prototypes
from noisyctl.seeds import stream


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms


def densest_apart_oracle(features: Tensor, number: int, percent: int, limit: float) -> list[int]:
    """SMP 3.3, sample by sample: Eq. 5, 6, 7, then "ranking in the top with eta < 0.95"."""
    rows = features.tolist()
    m = len(rows)
    similarity = [[cosine(a, b) for b in rows] for a in rows]
    ascending = sorted(s for row in similarity for s in row)
    s_c = ascending[min(m * m * percent // 100, m * m - 1)]
    rho = [sum((s > s_c) - (s < s_c) for s in row) for row in similarity]
    eta = []
    for i in range(m):
        denser = [similarity[i][j] for j in range(m) if rho[j] > rho[i]]
        eta.append(max(denser) if rho[i] < max(rho) else min(similarity[i]))
    order = sorted(range(m), key=lambda i: (-rho[i], i))
    return ([i for i in order if eta[i] < limit] + [i for i in order if eta[i] >= limit])[:number]


def density_peaks_oracle(features: Tensor, number: int) -> list[int]:
    """Rodriguez and Laio: rho_i counts the d_ij < d_c, delta_i is the distance to the nearest denser, gamma = rho delta."""
    rows = features.tolist()
    m = len(rows)
    d = [[math.dist(a, b) for b in rows] for a in rows]
    pairs = sorted(d[i][j] for i in range(m) for j in range(i + 1, m))
    d_c = pairs[len(pairs) * 2 // 100]
    rho = [sum(x < d_c for x in row) for row in d]
    place = sorted(range(m), key=lambda i: (-rho[i], i))
    delta = [0.0] * m
    for rank, i in enumerate(place):
        delta[i] = min(d[i][j] for j in place[:rank]) if rank else max(d[i])
    return sorted(range(m), key=lambda i: (-rho[i] * delta[i], i))[:number]


def positions(chosen: Tensor, features: Tensor) -> list[int]:
    return [int((features == row).all(dim=1).nonzero()[0, 0]) for row in chosen]


def clusters(m: int, seed: int) -> Tensor:
    """Three lumps in five dimensions, in float64 so that both sides round alike."""
    rng = stream(seed, "clusters")
    centers = 3 * torch.randn(3, 5, generator=rng, dtype=torch.float64)
    noise = torch.randn(m, 5, generator=rng, dtype=torch.float64)
    return centers[torch.randint(3, (m,), generator=rng)] + noise


@pytest.mark.parametrize("percent", [40, 60])
@pytest.mark.parametrize(("m", "seed"), [(7, 0), (30, 1), (83, 2)])
def test_densest_apart_equals_the_oracle(m: int, seed: int, percent: int) -> None:
    features = clusters(m, seed)
    chosen = prototypes.densest_apart(features, 8, percent=percent, limit=0.95)
    assert positions(chosen, features) == densest_apart_oracle(features, 8, percent, 0.95)


@pytest.mark.parametrize(("m", "seed"), [(3, 0), (30, 1), (90, 2)])
def test_density_peaks_equal_the_oracle(m: int, seed: int) -> None:
    features = clusters(m, seed)
    assert positions(prototypes.density_peaks(features, 8), features) == density_peaks_oracle(features, 8)


def test_density_counts_the_more_similar_minus_the_less_similar() -> None:
    similarity = torch.tensor([[1.0, 0.9, 0.2], [0.9, 1.0, 0.5], [0.2, 0.5, 1.0]])
    # against 0.5: itself and 0.9 above, 0.2 below: +1; itself and 0.9 above, 0.5 equal counts nothing: +2; 1 - 1 = 0
    assert prototypes.density(similarity, torch.tensor(0.5)).tolist() == [1.0, 2.0, 0.0]


def test_closeness_is_to_the_most_similar_denser_sample() -> None:
    similarity = torch.tensor([[1.0, 0.9, 0.2], [0.9, 1.0, 0.5], [0.2, 0.5, 1.0]])
    # sample 1 is densest: its least similarity, 0.5; 0 sees only 1 denser: 0.9; 2 sees both: the larger of 0.2 and 0.5
    found = prototypes.closeness(similarity, torch.tensor([1.0, 2.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.9, 0.5, 0.5]))
    # all equally dense: nobody is denser, so everyone has its least similarity
    torch.testing.assert_close(prototypes.closeness(similarity, torch.ones(3)), torch.tensor([0.2, 0.5, 0.2]))


def test_trap_smp_percentile_both_readings_and_the_diagonal() -> None:
    similarity = torch.tensor([[1.0, 0.1], [0.3, 1.0]])
    # ascending 0.1, 0.3, 1, 1: 40% of four come before the second, 60% before the third, which is of the diagonal
    assert prototypes.ranked(similarity, 40).item() == pytest.approx(0.3)
    assert prototypes.ranked(similarity, 60).item() == 1.0
    ascending = torch.arange(100.0)
    assert prototypes.ranked(ascending, 40).item() == 40  # forty elements, 0 to 39, come before it
    assert prototypes.ranked(ascending, 60).item() == 60
    assert prototypes.ranked(torch.tensor([5.0]), 60).item() == 5.0


def test_trap_smp_fewer_than_p_are_apart() -> None:
    angles = torch.tensor([0.0, 0.02, -0.02, 0.05, 1.5])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    # the densest and the lonely one are apart (next test); the densest of the others, 1 and then 2, fill the places
    three = prototypes.densest_apart(features, 4, percent=60, limit=0.95)
    assert torch.equal(three, features[[0, 4, 1, 2]])
    # none is below a cosine of 0: the densest as they come; more places than samples: all of them
    assert torch.equal(prototypes.densest_apart(features, 2, percent=60, limit=0.0), features[:2])
    assert len(prototypes.densest_apart(features, 8, percent=60, limit=0.95)) == 5


def test_golden_the_densest_is_taken_and_its_near_copies_are_not() -> None:
    angles = torch.tensor([0.0, 0.02, -0.02, 0.05, 1.5])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    chosen = prototypes.densest_apart(features, 2, percent=60, limit=0.95)
    # S_c is the 16th of 25, of the pair 0.03 apart; rho is 1, 0, -1, -2, -3; all but the first and the last have a denser
    # sample within 0.03, which is a cosine above 0.999; the last one's nearest is cos 1.45 = 0.12
    assert torch.equal(chosen, features[[0, 4]])


CHOICES = {
    "densest_apart": lambda x, p, rng: prototypes.densest_apart(x, p, percent=40, limit=0.95),
    "density_peaks": lambda x, p, rng: prototypes.density_peaks(x, p),
    "kmeans": prototypes.kmeans_centers,
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("m", [1, 2, 3])
def test_tiny_classes_have_prototypes(name: str, m: int) -> None:
    features = torch.randn(m, 4, generator=stream(0, "tiny"))
    chosen = CHOICES[name](features, 8, stream(0, "rng"))
    assert 1 <= len(chosen) <= m
    assert torch.isfinite(chosen).all()


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_features_have_a_prototype_and_finite_similarities(name: str, value: float) -> None:
    features = torch.full((20, 4), value)
    chosen = CHOICES[name](features, 8, stream(0, "rng"))
    assert 1 <= len(chosen) <= 8
    direction = prototypes.mean_direction(chosen)[None]
    expected = torch.full((20, 1), value)  # zeros have no direction: 0; equal vectors: cosine 1
    torch.testing.assert_close(prototypes.class_similarity(features, direction), expected)


@pytest.mark.parametrize("name", CHOICES)
def test_three_lumps_give_a_prototype_near_each(name: str) -> None:
    angles = torch.tensor([0.0, 1.2, 2.4]).repeat(20) + 0.01 * torch.randn(60, generator=stream(1, "a"))
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    chosen = CHOICES[name](features, 3, stream(0, "rng"))
    found = torch.atan2(chosen[:, 1], chosen[:, 0])
    # lumps of one direction: what is chosen lies in a lump, and k-means, which spreads, finds all three
    assert ((found[:, None] - torch.tensor([0.0, 1.2, 2.4])).abs().amin(dim=1) < 0.05).all()
    if name == "kmeans":
        torch.testing.assert_close(found.sort().values, torch.tensor([0.0, 1.2, 2.4]), atol=0.02, rtol=0)


def test_class_similarity_is_the_mean_cosine_not_the_largest() -> None:
    right, up = [2.0, 0.0], [0.0, 3.0]
    directions = torch.stack(
        [
            prototypes.mean_direction(torch.tensor([right, up])),
            prototypes.mean_direction(torch.tensor([[1.0, 1.0]])),
        ]
    )
    # a sample at the right: (1 + 0) / 2 with the first class's two, cos 45 degrees with the second's one
    found = prototypes.class_similarity(torch.tensor([[5.0, 0.0]]), directions)
    torch.testing.assert_close(found, torch.tensor([[0.5, math.sqrt(0.5)]]))


def test_class_similarity_equals_the_oracle() -> None:
    features, sets = clusters(6, 3), [clusters(8, 4), clusters(3, 5)]
    directions = torch.stack([prototypes.mean_direction(s) for s in sets])
    expected = [[sum(cosine(x, z) for z in s.tolist()) / len(s) for s in sets] for x in features.tolist()]
    torch.testing.assert_close(
        prototypes.class_similarity(features, directions), torch.tensor(expected, dtype=torch.float64)
    )


def test_similarity_stays_precise_under_autocast() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.05]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prototypes.cosine_similarity(a, b)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(1 / math.sqrt(1 + 0.05**2), abs=1e-6)


def test_kmeans_draws_from_the_generator_alone() -> None:
    features = clusters(60, 6).float()
    torch.manual_seed(1)
    first = prototypes.kmeans_centers(features, 8, stream(0, "k"))
    torch.manual_seed(2)
    assert torch.equal(first, prototypes.kmeans_centers(features, 8, stream(0, "k")))


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 5))
def test_cosine_prototypes_do_not_change_with_the_scale(scale: float, seed: int) -> None:
    features = clusters(40, seed)
    chosen = prototypes.densest_apart(features, 8, percent=40, limit=0.95)
    scaled = prototypes.densest_apart(features * scale, 8, percent=40, limit=0.95)
    torch.testing.assert_close(scaled, chosen * scale)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 20))
def test_a_permutation_of_the_samples_permutes_density_and_closeness(seed: int) -> None:
    features = clusters(25, seed)
    order = torch.randperm(25, generator=stream(seed, "order"))
    similarity = prototypes.cosine_similarity(features, features)
    permuted = similarity[order][:, order]
    dense = prototypes.density(similarity, prototypes.ranked(similarity, 40))
    again = prototypes.density(permuted, prototypes.ranked(permuted, 40))
    assert torch.equal(again, dense[order])
    assert torch.equal(prototypes.closeness(permuted, again), prototypes.closeness(similarity, dense)[order])
