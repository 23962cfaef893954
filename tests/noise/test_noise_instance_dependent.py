"""Instance-dependent noise: against a loop over images, the expected rate, dependence on the image."""

import math

import numpy as np
import pytest

from noisyctl.noise import instance_dependent as idn

RNG = np.random.default_rng(7)
CLEAN = np.arange(5000) % 5
IMAGES = RNG.integers(0, 256, (5000, 4, 4, 1)).astype(np.uint8)


def corrupt(images: np.ndarray = IMAGES, seed: int = 0, **fields: float) -> np.ndarray:
    params = idn.Params(**fields)
    return idn.corrupt(CLEAN, 5, params, np.random.default_rng(seed), images=images)


def test_probabilities_equal_a_loop_over_images() -> None:
    images, projection = IMAGES[:6], RNG.standard_normal((16, 5))
    rates = np.array([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
    rows = idn.probabilities(images, 2, rates, projection)
    for image, rate, row in zip(images, rates, rows, strict=True):
        scores = [
            sum(x / 255 * w for x, w in zip(image.ravel().tolist(), column, strict=True))
            for column in projection.T
        ]
        total = sum(math.exp(s) for j, s in enumerate(scores) if j != 2)
        expected = [1 - rate if j == 2 else rate * math.exp(s) / total for j, s in enumerate(scores)]
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def truncated_mean(rate: float, deviation: float = 0.1) -> float:
    """Of a normal distribution on [0, 1], by its formula."""
    low, high = -rate / deviation, (1 - rate) / deviation
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (low, high)]
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    return rate + deviation * (density[0] - density[1]) / mass


@pytest.mark.parametrize(("rate", "printed"), [(0.1, 0.1288), (0.2, 0.2055), (0.4, 0.4), (0.5, 0.5)])
def test_measured_rate_is_the_mean_of_the_truncated_distribution(rate: float, printed: float) -> None:
    expected = truncated_mean(rate)
    assert expected == pytest.approx(printed, abs=1e-4)  # the docstring's numbers
    measured = (corrupt(rate=rate) != CLEAN).mean()
    assert abs(measured - expected) < 5 * (expected * (1 - expected) / len(CLEAN)) ** 0.5


def test_the_image_decides_where_a_wrong_label_goes() -> None:
    # All images alike: the wrong labels of a class follow one softmax row, far from even for bright images.
    alike = np.full_like(IMAGES, 255)
    noisy = corrupt(alike, rate=0.5)
    for c in range(5):
        wrong = noisy[(c == CLEAN) & (noisy != CLEAN)]
        assert np.bincount(wrong, minlength=5).max() > 0.5 * len(wrong)
    # Black images score 0 everywhere: wrong labels are even over the other classes.
    noisy = corrupt(np.zeros_like(IMAGES), rate=0.5)
    counts = np.bincount(noisy[(CLEAN == 0) & (noisy != CLEAN)], minlength=5)[1:]
    assert np.abs(counts - counts.mean()).max() < 5 * counts.mean() ** 0.5


def test_blocks_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    once = corrupt(rate=0.4)
    monkeypatch.setattr(idn, "BLOCK", 7)
    assert (corrupt(rate=0.4) == once).all()  # the block bounds the memory and changes nothing
    assert (corrupt(rate=0.4, seed=1) != once).any()
    assert once.dtype == np.int64


def test_no_matrix_is_promised() -> None:
    assert idn.transition_matrix(5, idn.Params(rate=0.4)) is None
