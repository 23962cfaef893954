"""cluster-scan: what it reads and writes, that warm-up starts from it, and what it refuses."""

import shutil
from dataclasses import replace
from pathlib import Path

import pipeline
import pytest
import torch

from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import IMAGES
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.layout import Layout
from noisyctl.pretraining import scan
from noisyctl.runs import reading
from noisyctl.training import warmup as warmup_method
from stages import cluster_scan, warmup


def inputs(home: Path, out: Path) -> cluster_scan.Inputs:
    return cluster_scan.Inputs(
        home / "images.zarr", home / "simclr/encoder.safetensors", home / "neighbors.zarr", out
    )


def clustered(home: Path, out: Path, **params):
    chosen = scan.Params(**{"num_clusters": 10, "epochs": 2, "batch_size": 64, "views": "weak"} | params)
    return cluster_scan.run(inputs(home, out), chosen, pipeline.session(home))


def test_it_needs_no_label_and_the_same_seed_gives_the_same_bytes(home: Path, tmp_path: Path) -> None:
    clustered(home, tmp_path / "one")
    for name in ("images.zarr", "neighbors.zarr", "simclr"):
        shutil.copytree(home / name, tmp_path / "bare" / name)
    torch.manual_seed(666)
    clustered(tmp_path / "bare", tmp_path / "two")
    assert list(pipeline.tree(tmp_path / "one")) == ["clusters.safetensors"]
    assert pipeline.tree(tmp_path / "one") == pipeline.tree(tmp_path / "two")


def test_it_starts_from_the_encoder_s_backbone_with_a_head_of_its_own(home: Path, tmp_path: Path) -> None:
    result = clustered(home, tmp_path / "clusters", epochs=0)
    encoder = reading.read_networks(home / "simclr/encoder.safetensors", "")[0]["network"]
    found, header = reading.read_networks(tmp_path / "clusters/clusters.safetensors", "")
    network = found["network"]
    for name, tensor in encoder.features.state_dict().items():
        assert torch.equal(network.features.state_dict()[name], tensor)
    assert network.spec == replace(encoder.spec, head="linear", num_outputs=10)
    assert header.kind == "clusters"
    assert set(header.inputs) == {"images", "encoder", "neighbors"}
    assert result["clusters"] == 10
    assert 0 <= result["smallest"] <= pipeline.SIZE / 10 <= result["largest"] <= pipeline.SIZE


def test_the_number_of_clusters_is_that_of_the_classes_that_are_named_beside_the_images(
    home: Path, tmp_path: Path
) -> None:
    chosen = scan.Params(epochs=0, batch_size=64)
    given = vars(inputs(home, tmp_path / "clusters"))
    found = cluster_scan.STAGE.inputs(given, Layout(), {"params": chosen})
    assert cluster_scan.run(found, chosen, pipeline.session(home))["clusters"] == 10
    shutil.copytree(home / "images.zarr", tmp_path / "images.zarr")
    found = cluster_scan.STAGE.inputs(
        given | {"images": tmp_path / "images.zarr"}, Layout(), {"params": chosen}
    )
    with pytest.raises(
        ParamsError, match=r"neither labels.zarr nor truth.zarr lies beside .*; give --num-cl"
    ):
        cluster_scan.run(found, chosen, pipeline.session(home))


def test_the_number_of_clusters_can_be_given(home: Path, tmp_path: Path) -> None:
    assert clustered(home, tmp_path / "clusters", num_clusters=7)["clusters"] == 7
    tensors, _ = tensor_files.read(tmp_path / "clusters/clusters.safetensors", "")
    assert {len(tensor) for name, tensor in tensors.items() if name.startswith("network.head")} == {7}


def test_a_warm_up_starts_from_its_backbone_and_its_head(home: Path, tmp_path: Path) -> None:
    clustered(home, tmp_path / "clusters")
    clusters = tmp_path / "clusters/clusters.safetensors"
    profile = warmup_method.Params(backbone="small_cnn", width=4, epochs=0, start="clusters")
    given = warmup.Inputs(home / "images.zarr", home / "labels.zarr", tmp_path / "warm", clusters=clusters)
    warmup.run(given, profile, pipeline.session(home))
    start = reading.read_networks(clusters, "")[0]["network"].state_dict()
    for network in reading.read_networks(tmp_path / "warm/networks.safetensors", "")[0].values():
        assert all(torch.equal(tensor, start[name]) for name, tensor in network.state_dict().items())


def other_images(home: Path, path: Path) -> Path:
    """The images of `home` with one pixel changed."""
    images = store.read(home / "images.zarr", IMAGES)
    arrays = {name: images.array(name) for name in images.names}
    arrays["train"] = arrays["train"].copy()
    arrays["train"][0, 0, 0] += 1
    about = {name: images.attributes[name] for name in ("mean", "std", "views")}
    store.write(path, IMAGES, arrays, attributes=about)
    return path


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("images", "nowhere.zarr", "nowhere.zarr does not exist; make it with `noisyctl prepare-data`"),
        (
            "encoder",
            "nowhere.safetensors",
            "does not exist; make it with `noisyctl pretrain-simclr` or `noisyc",
        ),
        (
            "encoder",
            "warmup/networks.safetensors",
            "holds networks, not an encoder; make one with `noisyctl pr",
        ),
        ("neighbors", "nowhere.zarr", "nowhere.zarr does not exist; make it with `noisyctl mine-knn`"),
    ],
)
def test_what_is_missing_is_named_with_its_command(
    home: Path, tmp_path: Path, name: str, place: str, message: str
) -> None:
    given = cluster_scan.Inputs(**vars(inputs(home, tmp_path / "out")) | {name: home / place})
    with pytest.raises(ArtifactError, match=message):
        cluster_scan.run(given, scan.Params(), pipeline.session(home))
    assert not (tmp_path / "out").exists()


def test_an_encoder_and_neighbors_of_other_images_are_refused(home: Path, tmp_path: Path) -> None:
    other = other_images(home, tmp_path / "images.zarr")
    given = cluster_scan.Inputs(**vars(inputs(home, tmp_path / "out")) | {"images": other})
    with pytest.raises(
        ArtifactError, match=r"encoder.safetensors was made from other images than .*; run `noisyctl pret"
    ):
        cluster_scan.run(given, scan.Params(), pipeline.session(home))
    tensors, header = tensor_files.read(given.encoder, "")
    header["inputs"]["images"] = store.read(other, IMAGES).digest
    tensor_files.write(tmp_path / "encoder.safetensors", tensors, header)
    given = cluster_scan.Inputs(**vars(given) | {"encoder": tmp_path / "encoder.safetensors"})
    with pytest.raises(
        ArtifactError,
        match=r"neighbors.zarr was made from other images than .*images.zarr; run `noisyctl mine",
    ):
        cluster_scan.run(given, scan.Params(), pipeline.session(home))
