"""Images that stay in their files train as pixels do, and verified labels reach the method's door."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pipeline
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import LABELS, TRACE, VERIFIED
from noisyctl.datasets import folder
from noisyctl.errors import ArtifactError, DataError
from noisyctl.pretraining import scan, simclr
from noisyctl.training.warmup import Params
from stages import cluster_scan, mine_knn, prepare_data, pretrain, train_method, warmup


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    bunch = load_digits()
    rows = []
    for i in range(90):
        name = f"{bunch.target[i] % 3}/{i:02}.png"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((bunch.images[i] * 15.9).astype(np.uint8)).save(tmp_path / "photos" / name)
        rows.append((name, bunch.target[i] % 3))
    with (tmp_path / "checked.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows[10:20]])
    return tmp_path


def prepare(photos: Path, keep: str) -> Path:
    checked = str(photos / "checked.csv")
    params = folder.Params(root=str(photos / "photos"), image_size=8, keep=keep, verified_manifest=checked)  # type: ignore[arg-type]
    prepare_data.run(prepare_data.Inputs("folder", photos / keep), params)
    return photos / keep


def warm(home: Path) -> store.Artifact:
    params = Params(backbone="small_cnn", width=4, epochs=2, batch_size=32, networks=1)
    warmup.run(
        warmup.Inputs(home / "images.zarr", home / "labels.zarr", home / "warmup"),
        params,
        pipeline.session(home),
    )
    return store.read(home / "warmup/trace.zarr", TRACE)


def test_files_and_pixels_give_the_same_training(photos: Path) -> None:
    kept, streamed = (warm(prepare(photos, keep)) for keep in ("pixels", "files"))
    assert kept.names == streamed.names
    for name in kept.names:
        np.testing.assert_array_equal(kept.array(name), streamed.array(name))


def test_a_file_that_changed_and_a_folder_that_moved_are_named(photos: Path) -> None:
    home = prepare(photos, "files")
    changed = photos / "photos/0/00.png"
    whole = changed.read_bytes()
    shutil.copy(photos / "photos/1/01.png", changed)
    with pytest.raises(DataError, match=r"00\.png.*changed"):
        warm(home)
    changed.write_bytes(whole)
    (photos / "photos").rename(photos / "moved")
    with pytest.raises(
        ArtifactError, match="leads to no folder of images; remake it with `noisyctl prepare-data`"
    ):
        warm(home)


def test_verified_labels_are_an_artifact_of_these_images(photos: Path) -> None:
    home = prepare(photos, "pixels")
    verified = store.read(home / "verified.zarr", VERIFIED)
    assert len(verified.array("index")) == 10
    given = store.read(home / "labels.zarr", LABELS).array("noisy_labels")
    np.testing.assert_array_equal(given[verified.array("index")], verified.array("verified_labels"))
    assert train_method.Inputs("x", home, home).verified is None


def test_scanmix_on_a_graph_of_images_that_stay_in_their_files(photos: Path) -> None:
    """Mining reads features in blocks, and training decodes images ahead of use: nothing holds all pixels."""
    home = prepare(photos, "files")
    session = pipeline.session(home)
    small = {"backbone": "small_cnn", "width": 4}
    encoder = simclr.Params(**small, epochs=1, batch_size=16, embedding_size=8)
    pretrain.run(pretrain.Inputs("simclr", home / "images.zarr", home / "simclr"), encoder, session)
    mined = mine_knn.Inputs(home / "simclr/features.zarr", home / "neighbors.zarr")
    mine_knn.run(mined, mine_knn.Params(k=3), session)
    places = home / "images.zarr", home / "labels.zarr"
    made_from = (places[0], home / "simclr/encoder.safetensors", home / "neighbors.zarr")
    cluster_scan.run(
        cluster_scan.Inputs(*made_from, home), scan.Params(epochs=1, batch_size=16, num_clusters=3), session
    )
    clusters = home / "clusters.safetensors"
    profile = Params(**small, epochs=1, batch_size=16, start="clusters")
    warmup.run(warmup.Inputs(*places, home / "two", None, clusters), profile, session)
    params = methods.load("scanmix").Params(epochs=1, batch_size=8, cluster_batch_size=8)
    out = home / "run"
    inputs = train_method.Inputs(
        "scanmix", places[1], out, places[0], home / "two", home / "neighbors.zarr", clusters
    )
    train_method.run(inputs, params, session)
    trace = store.read(out / "trace.zarr", TRACE)
    assert np.isfinite(trace.array("losses")).all()
