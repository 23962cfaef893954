"""Asymmetric noise: the published maps, the rates they measure, exact draws, maps that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.errors import DataError, ParamsError
from noisyctl.noise import asymmetric

CIFAR10, CIFAR100 = np.repeat(np.arange(10), 5000), np.repeat(np.arange(100), 500)
# Two superclasses of CIFAR-100 by their fine labels (Krizhevsky 2009): fish; large carnivores.
FISH = {"aquarium_fish": 1, "flatfish": 32, "ray": 67, "shark": 73, "trout": 91}
CARNIVORES = {"bear": 3, "leopard": 42, "lion": 43, "tiger": 88, "wolf": 97}


def corrupt(clean: np.ndarray, classes: int, seed: int = 0, **fields: object) -> np.ndarray:
    params = asymmetric.Params.model_validate(fields)
    return asymmetric.corrupt(clean, classes, params, np.random.default_rng(seed))


def targets(classes: int, **fields: object) -> list[int]:
    return asymmetric.targets(classes, asymmetric.Params.model_validate({"rate": 0.4, **fields})).tolist()


def test_maps_by_hand() -> None:
    # plane car bird cat deer dog frog horse ship truck: bird->plane, cat<->dog, deer->horse, truck->car
    assert targets(10, map="cifar10") == [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]
    # the same without dog->cat
    assert targets(10, map="cifar10_one_way") == [0, 1, 0, 5, 7, 5, 6, 7, 8, 1]
    # 2->7, 3->8, 5<->6, 7->1
    assert targets(10, map="mnist") == [0, 1, 7, 8, 4, 6, 5, 1, 8, 9]
    assert targets(4, map="custom", pairs={3: 0}) == [0, 1, 2, 0]


def test_cifar100_circles_in_true_superclasses() -> None:
    mapped = targets(100, map="cifar100_superclass")
    for group in (FISH, CARNIVORES):
        members = sorted(group.values())
        assert [mapped[a] for a in members] == [*members[1:], members[0]]
    # A permutation without a fixed point, each cycle of five.
    assert sorted(mapped) == list(range(100))
    for start in range(100):
        walk = [start]
        for _ in range(5):
            walk.append(mapped[walk[-1]])
        assert walk[5] == start
        assert len(set(walk)) == 5


def test_superclasses_are_twenty_of_five() -> None:
    assert np.bincount(asymmetric.SUPERCLASS).tolist() == [5] * 20
    for group in (FISH, CARNIVORES):
        assert len({asymmetric.SUPERCLASS[c] for c in group.values()}) == 1


def test_blocks_are_the_codes_map_and_keep_six_of_a_hundred_in_their_superclass() -> None:
    mapped = targets(100, map="cifar100_blocks")
    assert mapped == [5 * (i // 5) + (i % 5 + 1) % 5 for i in range(100)]
    same = [asymmetric.SUPERCLASS[i] == asymmetric.SUPERCLASS[j] for i, j in enumerate(mapped)]
    assert sum(same) == 6


@pytest.mark.parametrize(
    ("clean", "rate", "kind", "wrong"),
    [
        (CIFAR10, 0.4, "cifar10", 0.2),  # five of ten classes
        (CIFAR10, 0.6, "cifar10", 0.3),  # Two-Stage, Table 2
        (CIFAR10, 0.49, "cifar10", 0.245),  # ScanMix's file measures .2452
        (CIFAR10, 0.4, "cifar10_one_way", 0.16),  # four of ten
        (CIFAR10, 0.2, "mnist", 0.1),
        (CIFAR100, 0.4, "cifar100_superclass", 0.4),
        (CIFAR100, 0.4, "cifar100_blocks", 0.4),
    ],
)
def test_measured_rate_is_that_of_the_mapped_classes(
    clean: np.ndarray, rate: float, kind: str, wrong: float
) -> None:
    classes = int(clean.max()) + 1
    for draw in ("iid", "exact_total"):
        measured = (corrupt(clean, classes, rate=rate, map=kind, draw=draw) != clean).mean()
        assert abs(measured - wrong) < 5 * (wrong * (1 - wrong) / len(clean)) ** 0.5
    assert (corrupt(clean, classes, rate=rate, map=kind, draw="exact") != clean).mean() == pytest.approx(
        wrong
    )


def test_per_class_rates_of_each_draw() -> None:
    # exact: 40 % of each mapped class; exact_total: about that, as DivideMix's file (cat->dog .396, dog->cat .394).
    exact = corrupt(CIFAR10, 10, rate=0.4, map="cifar10", draw="exact")
    total = corrupt(CIFAR10, 10, rate=0.4, map="cifar10", draw="exact_total")
    for c in (2, 3, 4, 5, 9):
        assert (exact[c == CIFAR10] != c).mean() == 0.4
        assert 0 < abs((total[c == CIFAR10] != c).mean() - 0.4) < 5 * (0.24 / 5000) ** 0.5
    for noisy in (exact, total):
        untouched = np.isin(CIFAR10, [0, 1, 6, 7, 8])
        assert (noisy[untouched] == CIFAR10[untouched]).all()


@settings(max_examples=25, deadline=None)
@given(
    pairs=st.dictionaries(st.integers(0, 5), st.integers(0, 5), min_size=1),
    rate=st.floats(0, 1),
    draw=st.sampled_from(["iid", "exact", "exact_total"]),
)
def test_a_label_is_its_class_or_the_mapped_one(pairs: dict[int, int], rate: float, draw: str) -> None:
    clean = np.arange(60) % 6
    noisy = corrupt(clean, 6, rate=rate, map="custom", pairs=pairs, draw=draw)
    moved = np.array([pairs.get(int(c), int(c)) for c in clean])
    assert ((noisy == clean) | (noisy == moved)).all()
    if rate == 1:
        assert (noisy == moved).all()


@pytest.mark.parametrize(
    ("classes", "fields", "message"),
    [
        (
            100,
            {"map": "cifar10"},
            "map 'cifar10' is for 10 classes, but the data set has 100; choose another map",
        ),
        (10, {"map": "cifar100_blocks"}, "is for 100 classes, but the data set has 10"),
        (10, {"map": "custom"}, "map: custom goes with pairs"),
        (10, {"map": "mnist", "pairs": {1: 2}}, "map: custom goes with pairs"),
        (10, {"map": "custom", "pairs": {3: 10}}, r"class 10 lies outside 0\.\.9"),
        (10, {"map": "custom", "pairs": {-1: 3}}, r"class -1 lies outside 0\.\.9"),
    ],
)
def test_maps_that_do_not_fit_are_refused(classes: int, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        corrupt(np.arange(classes), classes, rate=0.2, **fields)


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"outside 0\.\.4"):
        corrupt(CIFAR10, 5, rate=0.2, map="custom", pairs={0: 1})
