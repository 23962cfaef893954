"""Every method through its command on features instead of images; what was trained on the one never meets the other."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import command as run
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from noisyctl import load_model, methods
from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import PATHS, TRACE
from noisyctl.errors import DataError
from noisyctl.nn.networks import NetworkSpec, spec_from_json
from noisyctl.runs.samples import VECTORS

ROOT = Path(__file__).parents[2]
CLASSES, ROWS, FEATURES = 4, 160, 12
SMALL = {
    "batch_size": 32, "cluster_batch_size": 32, "correction_epoch": 1, "ramp_epochs": 1, "start_epoch": 1,
    "stage1_epochs": 1, "retrain_epoch": 1, "finetune_epoch": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with own features of four classes, every eighth label wrong, and their two warm-ups."""
    folder = tmp_path_factory.mktemp("own")
    rng, truth = np.random.default_rng(0), np.arange(ROWS) % CLASSES
    vectors = 5 * np.eye(CLASSES, FEATURES)[truth] + rng.normal(size=(ROWS, FEATURES))
    np.save(folder / "x.npy", vectors.astype(np.float32))
    np.save(folder / "y.npy", np.where(np.arange(ROWS) % 8 == 0, (truth + 1) % CLASSES, truth))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NOISYCTL_SCRATCH", str(folder / "scratch"))
        made = ("prepare-data", "--dataset", "features", "--array", "x.npy", "--labels", "y.npy")
        assert run(*made, "--out", "data/own") == 0
        assert run("mine-knn", "--dataset", "own", "--k", "5") == 0
        assert run("cluster-scan", "--dataset", "own", "--epochs", "2", "--batch-size", "32") == 0
        for profile in ("default", "clustered"):
            small = ("--epochs", "2", "--batch-size", "32", "--profile", profile)
            assert run("warmup", "--dataset", "own", *small) == 0
    return folder


@pytest.fixture
def there(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(own)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(own / "scratch"))
    return own


@pytest.mark.parametrize("name", methods.available())
def test_a_method_trains_on_own_features(name: str, there: Path) -> None:
    fields = methods.load(name).Params.model_fields
    options = [word for key, value in SMALL.items() if key in fields
               for word in (f"--{key.replace('_', '-')}", str(value))]  # fmt: skip
    epochs = 1 if name == "knn_vote" else 3
    assert run("train-method", name, "--dataset", "own", "--epochs", str(epochs), *options) == 0
    out = there / "data/own/runs" / name / "given-s0"
    trace = store.read(out / "trace.zarr", TRACE)
    assert trace.array("train_id").tolist()[:2] == ["0", "1"]
    if methods.load(name).NEEDS.networks:
        assert trace.inputs["features"] == trace.inputs["images"]
        _, header = tensor_files.read(out / "networks.safetensors", "")
        built = [spec_from_json(about) for about in header["modules"].values()]
        assert {"mlp"} == {spec.backbone for spec in built if isinstance(spec, NetworkSpec)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with 48 photos of two colors, features by a SimCLR encoder and by one that came trained, and warm-ups."""
    pytest.importorskip("timm")
    import timm

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(48):
        pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[..., number % 2] += 120
        place = folder / "photos" / ("red", "green")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), folder / "weights.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NOISYCTL_SCRATCH", str(folder / "scratch"))
        (folder / "params.yaml").write_text("dataset: own\nprecision: float32\nthreads: 1\n")
        of_folder = ("--dataset", "folder", "--root", "photos", "--image-size", "16")
        assert run("prepare-data", *of_folder, "--out", "data/own") == 0
        assert run("prepare-data", *of_folder, "--keep", "files", "--out", "data/files") == 0
        small = ("--backbone", "small_cnn", "--width", "4", "--epochs", "1", "--batch-size", "16")
        assert run("pretrain-simclr", *small) == 0
        assert run("warmup", *small) == 0
        for name in ("own", "files"):
            where = ("--dataset", name, "--weights", "weights.safetensors")
            assert run("embed", *where, "--encoder", "timm:test_resnet", "--image-size", "32") == 0
    return folder


def python(*words: str) -> None:
    """In a process of its own: a state of networks alone does not pass the type checks of the tests."""
    call = "from noisyctl.cli.main import main; main()"
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", call, *words], env=place, check=True)


def predict(*words: str) -> None:
    python("predict", *words)


FAST = ("--epochs", "2", "--batch-size", "16")


@pytest.fixture
def project(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(photos / "scratch"))
    return photos


@pytest.mark.parametrize(
    ("dataset", "pretrain", "folder"),
    [
        ("own", "simclr", "simclr"),
        ("own", "timm:test_resnet", "timm-test_resnet"),
        ("files", "timm:test_resnet", "timm-test_resnet"),
    ],
)
def test_predict_embeds_and_says_what_the_run_says_of_its_own_photos(
    project: Path, dataset: str, pretrain: str, folder: str
) -> None:
    asked = ("--dataset", dataset, "--pretrain", pretrain, "--input", "features")
    assert run("warmup", *asked, *FAST) == 0
    assert run("train-method", "cross_entropy", *asked, *FAST) == 0
    out = project / "data" / dataset / folder / "runs/cross_entropy/given-s0"
    weights = () if pretrain == "simclr" else ("--weights", "weights.safetensors")
    predict("--run", str(out), "--root", "photos", "--out", "p.csv", *weights)
    with Path("p.csv").open(newline="") as file:
        said = {row["path"]: row["label"] for row in csv.DictReader(file)}
    Path("p.csv").unlink()
    trace = store.read(out / "trace.zarr", TRACE)
    names = trace.attributes["class_names"]
    given = trace.array("train_predictions")[-1]
    paths = store.read(project / "data" / dataset / "paths.zarr", PATHS).array("train_path")
    assert said == {path: names[label] for path, label in zip(paths, given, strict=True)}


@pytest.mark.parametrize("on", ["images", "simclr", "files"])
def test_a_model_as_onnx_labels_real_photos_as_predict_does(project: Path, on: str, tmp_path: Path) -> None:
    """Two photos of scikit-learn, through ONNX Runtime and through predict."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dataset, asked, run_at = {
        "images": ("own", (), "warmup/default/given-s0"),
        "simclr": ("own", ("--input", "features"), "simclr/warmup/default/given-s0"),
        "files": ("files", ("--input", "features", "--pretrain", "timm:test_resnet"),
                  "timm-test_resnet/warmup/default/given-s0"),
    }[on]  # fmt: skip
    if asked:
        assert run("warmup", "--dataset", dataset, *asked, *FAST) == 0
    place = project / "data" / dataset / run_at
    weights = ("--weights", "weights.safetensors") if on == "files" else ()
    out = tmp_path / "model.onnx"
    python("export", "--model", "onnx", "--run", str(place), "--out", str(out), *weights)
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["noisyctl"])
    assert about["class_names"] == ["green", "red"]
    side = session.get_inputs()[0].shape[1]
    (tmp_path / "real").mkdir()
    pictures = load_sample_images()
    for name, pixels in zip(pictures.filenames, pictures.images, strict=True):
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(
            tmp_path / "real" / f"{Path(name).stem}.png"
        )
    predict("--run", str(place), "--root", str(tmp_path / "real"), "--out", str(tmp_path / "p.csv"), *weights)
    files = sorted((tmp_path / "real").iterdir())
    batch = np.stack([np.asarray(Image.open(file)) for file in files])
    (found,) = session.run(None, {"images": batch})
    said = list(csv.DictReader((tmp_path / "p.csv").open(newline="")))
    assert [row["path"] for row in said] == [file.name for file in files]
    assert [about["class_names"][c] for c in found.argmax(axis=1)] == [row["label"] for row in said]
    assert found.max(axis=1) == pytest.approx([float(row["probability"]) for row in said], abs=1e-4)
    # the same model as one PyTorch module, on the photos as they were taken, which are wider than high
    (tmp_path / "whole").mkdir()
    for name, pixels in zip(pictures.filenames, pictures.images, strict=True):
        Image.fromarray(pixels).save(tmp_path / "whole" / f"{Path(name).stem}.png")
    predict(
        "--run", str(place), "--root", str(tmp_path / "whole"), "--out", str(tmp_path / "p.csv"), *weights
    )
    model = load_model(place, weights=weights[1] if weights else None)
    with torch.no_grad():
        found = model(model.read(sorted((tmp_path / "whole").iterdir()))).numpy()
    said = list(csv.DictReader((tmp_path / "p.csv").open(newline="")))
    assert [model.class_names[c] for c in found.argmax(axis=1)] == [row["label"] for row in said]
    assert found.max(axis=1) == pytest.approx([float(row["probability"]) for row in said], abs=1e-4)
    with pytest.raises(DataError, match=r"nowhere\.png cannot be used: the file does not exist"):
        model.read([tmp_path / "nowhere.png"])


def test_only_a_model_that_noisyctl_exported_is_replaced(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    mine = tmp_path / "model.onnx"
    mine.write_bytes(b"mine")
    place = str(project / "data/own/warmup/default/given-s0")
    assert run("export", "--model", "onnx", "--run", place, "--out", str(mine)) == 2
    assert mine.read_bytes() == b"mine"


def test_what_to_export_must_be_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "--out", "x") == 2
    assert "or --model onnx and --run DIR" in capsys.readouterr().err
    assert run("export", "--model", "onnx", "--to", "cvat", "--out", "x") == 2
    assert "give --run DIR" in capsys.readouterr().err


def test_a_run_on_vectors_whose_encoder_has_other_weights_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm

    asked = ("--pretrain", "timm:test_resnet", "--input", "features")
    assert run("warmup", *asked, *FAST) == 0
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), "other.safetensors")
    place = "data/own/timm-test_resnet/warmup/default/given-s0"
    assert run("predict", "--run", place, "--root", "photos", "--weights", "other.safetensors") == 1
    assert "give the file of those weights to --weights" in capsys.readouterr().err


def test_warmups_on_images_and_on_vectors_do_not_meet(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--pretrain", "simclr", "--input", "features")
    assert run("warmup", *asked, *FAST) == 0
    on_images, on_vectors = "data/own/warmup/default/given-s0", "data/own/simclr/warmup/default/given-s0"
    assert Path(on_images).is_dir() and Path(on_vectors).is_dir()
    assert run("train-method", "elr", *asked, *FAST, "--warmup", on_images) == 1
    said = capsys.readouterr().err
    assert (
        "elr is to be trained on vectors, and data/own/warmup/default/given-s0 was warmed up on images"
        in said
    )
    assert "`noisyctl warmup --profile default" in said and "--features data/own/simclr/features.zarr" in said
    assert run("train-method", "elr", *FAST, "--warmup", on_vectors) == 1
    assert "is to be trained on images, and" in capsys.readouterr().err
    others = ("--pretrain", "timm:test_resnet", "--input", "features")
    assert run("train-method", "elr", *others, *FAST, "--warmup", on_vectors) == 1
    assert "was warmed up on other vectors" in capsys.readouterr().err


def test_weights_for_images_are_refused_on_vectors(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("warmup", "--input", "features", "--start", "encoder", *FAST) == 2
    assert (
        "which an encoder has made already; give --start random, or --input images" in capsys.readouterr().err
    )
    assert run("warmup", "--input", "features", "--backbone", "small_cnn", *FAST) == 2
    assert "vectors of 32 features; give --backbone linear or mlp or mlp256" in capsys.readouterr().err
    assert run("warmup", "--input", "images", "--features", "data/own/simclr/features.zarr", *FAST) == 2
    assert "leave out one of them" in capsys.readouterr().err


def test_features_named_by_their_place_keep_what_is_trained_on_them_beside_them(project: Path) -> None:
    named = ("--features", "data/own/timm-test_resnet/features.zarr")
    assert run("warmup", *named, *FAST) == 0
    assert run("train-method", "elr", *named, *FAST) == 0
    _, header = tensor_files.read(
        project / "data/own/timm-test_resnet/runs/elr/given-s0/networks.safetensors", ""
    )
    assert header["views"] == VECTORS and header["encoder"]["encoder"] == "timm:test_resnet"


def test_vectors_of_other_images_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("embed", "--dataset", "own", "--encoder", "timm:test_resnet", "--weights", "weights.safetensors",
               "--image-size", "64", "--out", "data/elsewhere/features.zarr") == 0  # fmt: skip
    assert run("prepare-data", "--dataset", "digits", "--out", "data/other") == 0
    labels = ("--images", "data/other/images.zarr", "--labels", "data/own/labels.zarr")
    assert run("warmup", *labels, "--features", "data/elsewhere/features.zarr", *FAST) == 1
    assert "run `noisyctl" in capsys.readouterr().err
