"""Views of vectors: standardized, disturbed by the stated amounts, from the generator that is given."""

import pytest
import torch

from noisyctl.errors import DataError, ParamsError
from noisyctl.seeds import stream
from noisyctl.views.vectors import VectorViews

ROWS, FEATURES = 4000, 6


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    scale = torch.tensor([1.0, 10.0, 0.1, 100.0, 1.0, 0.0])
    return 5 + scale * torch.randn(ROWS, FEATURES, generator=stream(0, "vectors"))


@pytest.fixture(scope="module")
def views(vectors: torch.Tensor) -> VectorViews:
    return VectorViews(vectors.mean(0).tolist(), vectors.std(0).tolist())


def test_plain_is_standardized_and_shaped_as_an_image_of_one_pixel(
    vectors: torch.Tensor, views: VectorViews
) -> None:
    plain = views.plain(vectors)
    assert plain.shape == (ROWS, FEATURES, 1, 1)
    torch.testing.assert_close(plain.mean(0).ravel(), torch.zeros(FEATURES), atol=2e-4, rtol=0)
    expected = torch.tensor([1.0, 1, 1, 1, 1, 0])  # the constant feature is only centered
    torch.testing.assert_close(plain.std(0).ravel(), expected, atol=2e-3, rtol=0)


def test_noise_is_relative_to_each_features_deviation(vectors: torch.Tensor, views: VectorViews) -> None:
    added = (views.weak(vectors, stream(0, "weak")) - views.plain(vectors)).std(0).ravel()
    torch.testing.assert_close(added, torch.full((FEATURES,), views.weak_noise), atol=0.01, rtol=0)


def test_strong_drops_its_share_and_disturbs_the_rest(vectors: torch.Tensor, views: VectorViews) -> None:
    strong = views.strong(vectors, stream(0, "strong"))
    dropped = strong == 0
    assert dropped.float().mean().item() == pytest.approx(views.strong_drop, abs=0.01)
    added = (strong - views.plain(vectors))[~dropped]
    assert added.std().item() == pytest.approx(views.strong_noise, abs=0.01)


def test_the_same_generator_gives_the_same_view_and_each_row_its_own(
    vectors: torch.Tensor, views: VectorViews
) -> None:
    same = vectors[:1].repeat(2, 1)
    first, second = views.strong(same, stream(1, "rng"))
    again, _ = views.strong(same, stream(1, "rng"))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_input_is_left_as_it_was(vectors: torch.Tensor, views: VectorViews) -> None:
    before = vectors.clone()
    views.strong(vectors, stream(0, "rng"))
    assert torch.equal(vectors, before)


def test_bad_input_is_refused(vectors: torch.Tensor, views: VectorViews) -> None:
    with pytest.raises(DataError, match="have 5 features, these views 6"):
        views.plain(vectors[:, :5])
    with pytest.raises(ParamsError, match="2 means and 1 deviations"):
        VectorViews([0.0, 1.0], [1.0])
    with pytest.raises(ParamsError, match="trains an encoder on images"):
        views.simclr(vectors, stream(0, "rng"))
