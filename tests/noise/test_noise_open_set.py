"""Open-set noise: CIFAR80N-O's measured rates, unknown classes uniform over the known, refusals."""

import numpy as np
import pytest

from noisyctl import noise
from noisyctl.errors import ParamsError
from noisyctl.noise import open_set

CIFAR100 = np.repeat(np.arange(100), 500)


@pytest.mark.parametrize(
    ("rate", "closed", "theirs"),
    [
        # Measured on the labels of the authors' code; promised is .2 + .8 n_c.
        (0.2, "symmetric", 0.361),
        (0.5, "symmetric", 0.602),
        (0.8, "symmetric", 0.841),
        (0.4, "pairflip", 0.517),
    ],
)
def test_measured_rates_are_jo_src_s(rate: float, closed: str, theirs: float) -> None:
    params = open_set.Params.model_validate({"rate": rate, "closed": closed})
    noisy = open_set.corrupt(CIFAR100, 100, params, np.random.default_rng(0))
    wrong, promised = (noisy != CIFAR100).mean(), 0.2 + 0.8 * rate
    # Only the 40,000 known labels are drawn right or wrong; their number is printed to three digits.
    deviation = 0.8 * (rate * (1 - rate) / 40000) ** 0.5
    assert abs(wrong - promised) < 5 * deviation
    assert abs(wrong - theirs) < 7 * deviation + 5e-4
    assert noisy.max() == 79
    assert (noisy[CIFAR100 >= 80] != CIFAR100[CIFAR100 >= 80]).all()


def test_matrices_by_hand() -> None:
    # Two of five classes unknown; half of the known labels wrong, shared by two others; unknown rows uniform.
    third = [1 / 3] * 3
    rows = open_set.transition_matrix(5, open_set.Params(rate=0.5, num_unknown=2))
    expected = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], third, third]
    np.testing.assert_allclose(rows, expected)
    # Pair flip: 2 goes to 0, not to the unknown 3.
    rows = open_set.transition_matrix(5, open_set.Params(rate=0.4, num_unknown=2, closed="pairflip"))
    np.testing.assert_allclose(rows, [[0.6, 0.4, 0], [0, 0.6, 0.4], [0.4, 0, 0.6], third, third])


def test_the_noisy_classes_are_the_known_ones() -> None:
    assert noise.num_noisy_classes(open_set, 100, open_set.Params(rate=0.2)) == 80


@pytest.mark.parametrize(("unknown", "known"), [(9, 1), (10, 0), (20, 0)])
def test_too_few_known_classes_are_refused(unknown: int, known: int) -> None:
    params = open_set.Params(rate=0.2, num_unknown=unknown)
    with pytest.raises(ParamsError, match=f"leaves {known} of 10 classes known; give at most 8"):
        open_set.corrupt(np.arange(10), 10, params, np.random.default_rng(0))
