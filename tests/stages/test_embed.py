"""`noisyctl embed`: features of every split; the same bytes after a stop; downstream by the encoder's name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import command as run
from safetensors.torch import save_file

from noisyctl import embedding
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, NEIGHBORS
from noisyctl.errors import DataError

timm = pytest.importorskip("timm")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 pictures in their files, and the weights of a small encoder; the current folder is theirs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), "weights.safetensors")
    assert run("prepare-data", "--dataset", "folder", "--root", "photos", "--keep", "files", "--image-size", "16",
               "--out", "data/own") == 0  # fmt: skip
    return tmp_path


EMBED = ("embed", "--dataset", "own", "--encoder", "timm:test_resnet", "--weights", "weights.safetensors")


def test_features_lie_in_the_encoders_folder_and_everything_downstream_finds_them(photos: Path) -> None:
    assert run(*EMBED, "--image-size", "32") == 0
    place = photos / "data/own/timm-test_resnet/features.zarr"
    features = store.read(place, FEATURES)
    images = store.read(photos / "data/own/images.zarr", IMAGES)
    assert features.inputs == {"images": images.digest} and "embeddings" not in features
    assert features.array("features").shape[0] == 12 and np.isfinite(features.array("features")).all()
    assert features.attributes["weights"].startswith("sha256 ")
    assert features.attributes["params"]["precision"] in ("float32", "bfloat16")
    assert run("mine-knn", "--dataset", "own", "--pretrain", "timm:test_resnet", "--k", "3") == 0
    mined = store.read(place.with_name("neighbors.zarr"), NEIGHBORS)
    assert mined.attributes["space"] == "features" and mined.inputs["features"] == features.digest


def test_a_stopped_command_goes_on_and_gives_the_same_bytes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK", 4)
    monkeypatch.setattr("noisyctl.runs.embedding.BLOCK", 4)
    assert run(*EMBED, "--out", "whole.zarr") == 0
    plain, seen = embedding.Encoder.prepared, []

    def stops(encoder: embedding.Encoder, images: torch.Tensor) -> torch.Tensor:
        if len(seen) == 2:
            raise DataError("stopped by the test")
        seen.append(len(images))
        return plain(encoder, images)

    monkeypatch.setattr(embedding.Encoder, "prepared", stops)
    assert run(*EMBED, "--out", "stopped.zarr") == 1
    assert not Path("stopped.zarr").exists()
    seen.clear()
    monkeypatch.setattr(embedding.Encoder, "prepared", lambda e, i: (seen.append(len(i)), plain(e, i))[1])
    assert run(*EMBED, "--out", "stopped.zarr") == 0
    assert seen == [4]  # the first two blocks were there
    whole, stopped = (store.read(Path(name), FEATURES) for name in ("whole.zarr", "stopped.zarr"))
    assert whole.digest == stopped.digest
    assert not list(Path("scratch").rglob("*.safetensors"))


def test_what_is_missing_is_made_by_embed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--dataset", "own", "--pretrain", "efficientnet_lite0", "--json") in (0, 1)
    assert "noisyctl embed" in capsys.readouterr().out


def test_an_unknown_encoder_is_refused_before_any_work(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", "--dataset", "own", "--encoder", "efficientnet_lite9") == 2
    assert "did you mean 'efficientnet_lite0'" in capsys.readouterr().err


def test_files_that_have_changed_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(photos / "photos/a/0.png")
    assert run(*EMBED) == 1
    assert "the file has changed since prepare-data read it" in capsys.readouterr().err
