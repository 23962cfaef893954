"""What a run starts from must have seen what the run is to see."""

from pathlib import Path

import pytest

from noisyctl.layout import Layout
from noisyctl.runs import samples
from noisyctl.runs.needed import other_input


@pytest.mark.parametrize(
    ("made_from", "features", "other"),
    [
        ({}, None, ""),  # images, and images are to be seen
        ({"features": "f"}, "f", ""),
        ({}, "f", "images"),
        ({"features": "f"}, None, "vectors"),
        ({"features": "g"}, "f", "other vectors"),
    ],
)
def test_another_input_has_a_name(made_from: dict[str, str], features: str | None, other: str) -> None:
    assert other_input({"images": "i"} | made_from, features) == other


def test_images_may_be_missing_only_where_vectors_are_seen(tmp_path: Path) -> None:
    there, gone, features = tmp_path, tmp_path / "gone.zarr", tmp_path / "features.zarr"
    assert samples.images_at_hand(there, features) == samples.images_at_hand(there, None) == there
    assert samples.images_at_hand(gone, features) is None
    assert samples.images_at_hand(gone, None) == gone  # whoever reads them says that they are missing
    assert samples.images_at_hand(None, features) is None


def test_features_that_are_named_are_those_that_networks_see() -> None:
    named = Layout("x", named=Path("y/mine.zarr"), input="features")
    assert (named.vectors, named.encoder) == (Path("y/mine.zarr"), Path("y"))
    assert Layout("x", input="features").vectors == Path("data/x/simclr/features.zarr")
    assert Layout("x").vectors is None
