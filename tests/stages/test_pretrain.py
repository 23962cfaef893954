"""Pretraining publishes the encoder alone, whatever else the method holds."""

from pathlib import Path

import numpy as np
import pipeline
import pytest
import torch

from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.nn.inference import evaluating
from noisyctl.pretraining import moco
from noisyctl.runs import reading, tasks
from noisyctl.runs.samples import read_samples
from noisyctl.views import ImageViews
from stages import pretrain

PARAMS = moco.Params(
    backbone="small_cnn", width=4, epochs=2, batch_size=64, embedding_size=16, queue_size=100
)


@pytest.fixture(autouse=True)
def _moco_views(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(ImageViews, "moco"):
        monkeypatch.setattr(ImageViews, "moco", ImageViews.simclr, raising=False)


def pretrained(home: Path, out: Path) -> dict[str, bytes]:
    pretrain.run(pretrain.Inputs("moco", home / "images.zarr", out), PARAMS, pipeline.session(home))
    return pipeline.tree(out)


def test_moco_leaves_its_network_and_neither_teacher_nor_queue(home: Path, tmp_path: Path) -> None:
    written = pretrained(home, tmp_path / "moco")
    assert {name.split("/")[0] for name in written} == {"encoder.safetensors", "features.zarr"}
    tensors, header = tensor_files.read(tmp_path / "moco/encoder.safetensors", "")
    assert {name.split(".")[0] for name in tensors} == {"network"}
    assert header["kind"] == "encoder"
    assert list(header["modules"]) == ["network"]
    assert header["params"]["queue_size"] == 100


def test_its_features_are_what_the_encoder_gives(home: Path, tmp_path: Path) -> None:
    pretrained(home, tmp_path / "moco")
    built, header = reading.read_networks(tmp_path / "moco/encoder.safetensors", "")
    task, held_out = tasks.make_task(read_samples(home / "images.zarr", None), torch.device("cpu"))
    features = store.read(tmp_path / "moco/features.zarr", FEATURES)
    assert features.inputs["encoder"] == header.digest
    encoder = built["network"]
    for prefix, images in (("", task.images), ("test_", held_out["test"])):
        with evaluating(encoder):
            expected = encoder.features(task.views.plain(images)), encoder(task.views.plain(images))
        for name, values in zip(("features", "embeddings"), expected, strict=True):
            found = torch.as_tensor(features.array(prefix + name))
            torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes(home: Path, tmp_path: Path) -> None:
    expected = pretrained(home, tmp_path / "one")
    torch.manual_seed(666)
    np.random.seed(666)  # noqa: NPY002  the poison
    assert pretrained(home, tmp_path / "two") == expected
