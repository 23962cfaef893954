"""Everything on a GPU, where there is one: each stage and each method, in float32 and in bfloat16."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pipeline
import pytest
import torch

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import NEIGHBORS, TRACE
from noisyctl.pretraining import moco, scan, simclr
from noisyctl.training.warmup import Params as WarmupParams
from stages import cluster_scan, mine_knn, pretrain, train_method, warmup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
SMALL = {"backbone": "small_cnn", "width": 4, "epochs": 2, "batch_size": 64}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_label_free_stages(home: Path, tmp_path: Path, precision: str) -> None:
    session = replace(pipeline.session(tmp_path), device="cuda", precision=precision)
    images = home / "images.zarr"
    few = moco.Params(**SMALL, embedding_size=16, queue_size=128)
    pretrain.run(pretrain.Inputs("moco", images, tmp_path / "moco"), few, session)
    pretrain.run(
        pretrain.Inputs("simclr", images, tmp_path / "simclr"),
        simclr.Params(**SMALL, embedding_size=16),
        session,
    )
    found = {}
    for device in ("cuda", "cpu"):
        where = mine_knn.Inputs(tmp_path / "simclr/features.zarr", tmp_path / f"{device}.zarr")
        mine_knn.run(where, mine_knn.Params(k=10), replace(session, device=device))
        found[device] = store.read(tmp_path / f"{device}.zarr", NEIGHBORS).array("indices")
    np.testing.assert_array_equal(found["cuda"], found["cpu"])
    places = (images, tmp_path / "simclr/encoder.safetensors", tmp_path / "cuda.zarr", tmp_path / "clusters")
    cluster_scan.run(cluster_scan.Inputs(*places), scan.Params(epochs=1, batch_size=64), session)
    warm = warmup.Inputs(images, home / "labels.zarr", tmp_path / "warmup", places[1])
    warmup.run(warm, WarmupParams(**SMALL, start="encoder", views="strong"), session)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", methods.available())
def test_every_method(home: Path, tmp_path: Path, method: str, precision: str) -> None:
    session = replace(pipeline.session(tmp_path), device="cuda", precision=precision)
    train_method.run(pipeline.inputs(home, method, tmp_path / "run"), pipeline.params_of(method, 2), session)
    trace = store.read(tmp_path / "run/trace.zarr", TRACE)
    assert all(np.isfinite(trace.array(n)).all() for n in trace.names if trace.array(n).dtype.kind == "f")
