"""What is stale is refused by every reader, which names the root and the command that comes first."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pipeline
import pytest

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, TRUTH
from noisyctl.errors import ArtifactError
from noisyctl.layout import Layout
from noisyctl.pretraining import scan
from noisyctl.runs import fresh
from noisyctl.training import warmup as warmup_method
from stages import cluster_scan, evaluate, mine_knn, status, train_method, warmup


@pytest.fixture
def twin(home: Path, tmp_path: Path) -> Path:
    """The small pipeline as the default layout has it: data/digits, noise sym40, seed 0."""
    at = tmp_path / "data/digits"
    for name in ("images.zarr", "truth.zarr", "simclr"):
        shutil.copytree(home / name, at / name)
    shutil.copytree(home / "neighbors.zarr", at / "simclr/neighbors.zarr")
    shutil.copy(home / "clusters.safetensors", at / "simclr")
    for name in ("labels.zarr", "noise.zarr"):
        shutil.copytree(home / name, at / "noise/sym40-s0" / name)
    shutil.copytree(home / "warmup", at / "warmup/default/sym40-s0")
    return at


def change_images(home: Path) -> None:
    """One pixel, and truth and labels for the new images."""
    images = store.read(home / "images.zarr", IMAGES)
    arrays = {name: images.array(name) for name in images.names}
    arrays["train"] = arrays["train"].copy()
    arrays["train"][0, 0, 0] += 1
    about = {name: images.attributes[name] for name in ("mean", "std", "views")}
    digest = store.write(home / "images.zarr", IMAGES, arrays, attributes=about)
    for path, kind in ((home / "truth.zarr", TRUTH), (home / "noise/sym40-s0/labels.zarr", LABELS)):
        held = store.read(path, kind)
        names = {"class_names": held.attributes["class_names"]}
        values = {name: held.array(name) for name in held.names}
        store.write(path, kind, values, inputs={"images": digest}, attributes=names)


def vote(home: Path) -> None:
    given = train_method.Inputs(
        "knn_vote",
        home / "noise/sym40-s0/labels.zarr",
        home / "runs/knn_vote/sym40-s0",
        home / "images.zarr",
        neighbors=home / "simclr/neighbors.zarr",
    )
    train_method.run(given, pipeline.params_of("knn_vote"), pipeline.session(home))


def test_a_reader_of_neighbors_names_the_pretraining_and_no_reader_makes_do(twin: Path) -> None:
    change_images(twin)
    root = r"simclr/encoder.safetensors was made from other images than .*digits/images.zarr; "
    both = root + "run `noisyctl pretrain-simclr`, then `noisyctl mine-knn`$"
    with pytest.raises(ArtifactError, match=f"neighbors.zarr cannot be used: .*{both}"):
        vote(twin)
    mining = mine_knn.Inputs(twin / "simclr/features.zarr", twin / "simclr/neighbors.zarr")
    with pytest.raises(
        ArtifactError, match=f"features.zarr cannot be used: .*{root}run `noisyctl pretrain-simclr`$"
    ):
        mine_knn.run(mining, mine_knn.Params(k=5), pipeline.session(twin))
    places = (
        twin / "images.zarr",
        twin / "simclr/encoder.safetensors",
        twin / "simclr/neighbors.zarr",
        twin / "c",
    )
    with pytest.raises(ArtifactError, match=f"{root}run `noisyctl pretrain-simclr`$"):
        cluster_scan.run(cluster_scan.Inputs(*places), scan.Params(num_clusters=10), pipeline.session(twin))
    for start, last in (
        ("encoder", "simclr`"),
        ("clusters", "simclr`, then `noisyctl mine-knn`, then `noisyctl cluster-scan`"),
    ):
        profile = warmup_method.Params(backbone="small_cnn", width=4, start=start)
        given = warmup.Inputs(
            twin / "images.zarr",
            twin / "noise/sym40-s0/labels.zarr",
            twin / "w",
            twin / "simclr/encoder.safetensors",
            twin / "simclr/clusters.safetensors",
        )
        with pytest.raises(ArtifactError, match=f"{root}run `noisyctl pretrain-{last}$"):
            warmup.run(given, profile, pipeline.session(twin))


def test_new_features_make_the_neighbors_stale(twin: Path) -> None:
    vote(twin)
    features = store.read(twin / "simclr/features.zarr", FEATURES)
    arrays = {name: features.array(name) * np.float32(2) for name in features.names}
    store.write(twin / "simclr/features.zarr", FEATURES, arrays, inputs=features.inputs)
    stale = (
        r"neighbors.zarr was made from other features than .*simclr/features.zarr; run `noisyctl mine-knn`$"
    )
    with pytest.raises(ArtifactError, match=stale):
        vote(twin)
    found = status.run(status.Inputs(Layout(noise="sym40", root=twin.parent)))
    assert found[str(twin / "simclr/neighbors.zarr")].startswith("stale: was made from other features than")
    assert found["next"] == "noisyctl mine-knn"


def test_what_its_sources_are_gone_of_stays_fresh(twin: Path) -> None:
    shutil.rmtree(twin / "simclr/features.zarr")
    (twin / "simclr/encoder.safetensors").unlink()
    vote(twin)
    change_images(twin)
    with pytest.raises(
        ArtifactError, match=r"encoder.safetensors does not exist; run `noisyctl pretrain-simclr`, then"
    ):
        vote(twin)


def test_evaluate_refuses_runs_on_other_labels_or_images_with_the_exact_command(twin: Path) -> None:
    vote(twin)
    nothing = dict.fromkeys(("run", "noise_facts", "labels"), ()) | dict.fromkeys(
        ("encoder", "truth", "images", "verified", "paths", "loss_epochs", "tsne")
    )
    layout = Layout(noise="sym40", root=twin.parent)
    inputs = evaluate.STAGE.inputs(nothing | {"out": twin / "results"}, layout, {})
    assert inputs.labels == (twin / "noise/sym40-s0/labels.zarr",)
    evaluate.run(inputs, None, pipeline.session(twin))
    labels = store.read(twin / "noise/sym40-s0/labels.zarr", LABELS)
    names = {"class_names": labels.attributes["class_names"]}
    values = {"noisy_labels": np.roll(labels.array("noisy_labels"), 1)}
    store.write(labels.path, LABELS, values, inputs=labels.inputs, attributes=names)
    again = "run `noisyctl train-method knn_vote --dataset digits --noise sym40 --seed 0`$"
    message = rf"sym40-s0/trace.zarr was made from other labels than .*sym40-s0/labels.zarr; {again}"
    with pytest.raises(ArtifactError, match=message):
        evaluate.run(inputs, None, pipeline.session(twin))
    given = evaluate.Inputs((twin / "runs",), twin / "r", labels=(labels.path,), labels_given=True)
    with pytest.raises(ArtifactError, match="was made from other labels than"):
        evaluate.run(given, None, pipeline.session(twin))
    change_images(twin)
    with pytest.raises(
        ArtifactError, match=rf"trace.zarr was made from other images than .*images.zarr; {again}"
    ):
        evaluate.run(inputs, None, pipeline.session(twin))


def test_a_root_comes_before_all_that_follows_from_it(twin: Path) -> None:
    change_images(twin)
    made = fresh.clustered(twin / "images.zarr", twin / "simclr/clusters.safetensors", None)
    found = fresh.findings(made)
    assert [f"{f.made.name} {f.state}" for f in found] == [
        "encoder stale",
        "features stale",
        "neighbors stale",
        "clusters stale",
    ]
    shutil.rmtree(twin / "images.zarr")
    assert fresh.findings(made) == [], "nothing to compare with"


def test_an_artifact_of_the_former_schema_is_refused_with_the_command(twin: Path) -> None:
    """Version 1 of images.zarr had class names and paths as ids."""
    import zarr

    group = zarr.open_group(twin / "images.zarr")
    header = dict(group.attrs) | {"schema_version": 1}
    header["digest"] = store.header_digest(header)
    group.attrs.update(header)
    zarr.consolidate_metadata(group.store)
    with pytest.raises(
        ArtifactError, match="has schema version 1, this noisyctl reads 2; make it with `noisyctl prep"
    ):
        vote(twin)


def test_the_command_line_says_the_command_for_the_data_set_the_noise_and_the_seed(twin: Path) -> None:
    shutil.rmtree(twin / "simclr/neighbors.zarr")
    twin.rename(twin.with_name("photos"))
    for words, cure in (
        (
            ("train-method", "cross_entropy", "--seed", "3"),
            "inject-noise --dataset photos --noise sym40 --seed 3",
        ),
        (("mine-knn", "--features", "f.zarr"), "pretrain-simclr --dataset photos --out ."),
        (("cluster-scan",), "mine-knn --dataset photos"),
    ):
        words = (*words, "--dataset", "photos", *(("--noise", "sym40") if "seed" in words[-2:][0] else ()))
        done = subprocess.run(
            [str(Path(sys.executable).parent / "noisyctl"), *words],
            cwd=twin.parent.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert f"`noisyctl {cure}`" in done.stderr, done.stderr
