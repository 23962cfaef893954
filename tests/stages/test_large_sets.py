"""The three large sets from prepare-data to a warm-up's predictions, on look-alikes; and `check-data` on them."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lookalikes
import numpy as np
import pipeline
import pytest

from noisyctl import datasets
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, LABELS, PATHS, TRACE, TRUTH, VERIFIED
from noisyctl.cli import options
from noisyctl.datasets import ImageData, Split, clothing1m, food101n, mnist, webvision
from noisyctl.errors import DataError, ParamsError
from noisyctl.training.warmup import Params as Profile
from stages import check_data, evaluate, prepare_data, warmup

MODULES = {"clothing1m": clothing1m, "food101n": food101n, "webvision": webvision}
NAMES = "annotations/category_names_eng.txt"
SIZES = {  # of the look-alikes
    "clothing1m": {"train": 42, "val": 14, "test": 14},
    "food101n": {"train": 202, "test": 101},
    "webvision": {"train": 12, "test": 8},
}


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder: Path = getattr(lookalikes, request.param)(tmp_path / request.param)
    return folder


@pytest.mark.parametrize("root", MODULES, indirect=True)
def test_from_the_lists_to_predictions(root: Path, tmp_path: Path) -> None:
    name = root.name
    more: dict[str, Any] = {}
    if name == "webvision":
        more = {"classes": 4, "ilsvrc12": str(lookalikes.ilsvrc12(tmp_path / "ilsvrc12"))}
    home = tmp_path / "data"
    params = MODULES[name].Params(root=str(root), image_size=16, **more)
    counts = prepare_data.run(prepare_data.Inputs(name, home), params)
    assert {split: counts[f"{split} images"] for split in SIZES[name]} == SIZES[name]
    truth = store.read(home / "truth.zarr", TRUTH)
    assert "clean_labels" not in truth
    assert (home / "verified.zarr").exists() == (name != "webvision")
    profile = Profile(backbone="small_cnn", width=4, epochs=1, batch_size=32, networks=1)
    inputs = warmup.Inputs(home / "images.zarr", home / "labels.zarr", home / "warmup")
    warmup.run(inputs, profile, pipeline.session(tmp_path))
    trace = store.read(home / "warmup/trace.zarr", TRACE)
    for split in set(SIZES[name]) - {"train"} | ({"ilsvrc12_val"} if more else set()):
        assert trace.array(f"{split}_predictions").shape == (1, len(truth.array(f"{split}_labels")))
    labels = store.read(home / "labels.zarr", LABELS).array("noisy_labels")
    np.testing.assert_array_equal(trace.array("noisy_labels"), labels)
    evaluate.run(evaluate.Inputs((home / "warmup",), home / "results", home / "truth.zarr", ()))
    (run,) = json.loads((home / "results/metrics.json").read_text())["runs"].values()
    assert 0 <= run["test_accuracy"]["last"] <= 100
    assert "measured_noise" not in run  # nobody knows it


@pytest.mark.parametrize("root", ["clothing1m"], indirect=True)
def test_artifacts_carry_recipe_and_normalization(root: Path, tmp_path: Path) -> None:
    params = clothing1m.Params(root=str(root), image_size=16, normalization="dividemix")
    prepare_data.run(prepare_data.Inputs("clothing1m", tmp_path / "data"), params)
    about = store.read(tmp_path / "data/images.zarr", IMAGES).attributes
    assert about["views"] == {"crop": 14}
    assert about["mean"] == [0.6959, 0.6537, 0.6371]
    index = store.read(tmp_path / "data/verified.zarr", VERIFIED).array("index")
    paths = store.read(tmp_path / "data/paths.zarr", PATHS).array("train_path").tolist()
    assert [row for row, path in enumerate(paths) if "/both," in path] == index.tolist()


# check-data


def check(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As if the releases were as small as the look-alikes."""
    module: ModuleType = MODULES[root.name]
    sizes = SIZES[root.name]
    monkeypatch.setattr(module, "ORIGIN", dataclasses.replace(module.ORIGIN, sizes=sizes))
    return check_data.run(check_data.Inputs(root.name, root))


@pytest.mark.parametrize("root", MODULES, indirect=True)
def test_a_whole_set_is_ok(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(root, monkeypatch)
    assert found["ok"], found["problems"]
    assert found["images"] == SIZES[root.name]
    assert found["checked"].endswith("images drawn at random; no checksums are published")
    assert found["next"] == f"noisyctl prepare-data --dataset {root.name} --root {root}"
    assert found["from"] and found["terms"]


@pytest.mark.parametrize("root", MODULES, indirect=True)
def test_a_small_set_is_not_the_release(root: Path) -> None:
    found = check_data.run(check_data.Inputs(root.name, root))
    sizes, release = SIZES[root.name], MODULES[root.name].ORIGIN.sizes
    assert found["problems"] == [
        f"{split}: {n:,} images are listed, {release[split]:,} in the release" for split, n in sizes.items()
    ]
    assert not found["ok"]


@pytest.mark.parametrize("root", ["clothing1m"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda root: (root / "annotations/clean_label_kv.txt").unlink(), "{}/annotations/clean_label_kv.txt is missing"),
        (lambda root: (root / "images/0/00/n1,0.jpg").unlink(), "train: 1 of 42 images are missing: 'images/0/00/n1,0.jpg'"),
        (lambda root: (root / "images/0/00/val,0.jpg").write_bytes(b""), "{}/images/0/00/val,0.jpg: the file is empty"),
        (lambda root: lookalikes.write(root / NAMES, "ab"), "{}/" + NAMES + " names 2 classes, not 14"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    root: Path, spoil: Callable[[Path], object], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(root)
    found = check(root, monkeypatch)
    assert found["problems"] == [problem.format(root)]
    assert not found["ok"]
    assert found["next"].startswith("get it from https://github.com/Cysu/noisy_label")


def test_a_set_with_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check_data.run(check_data.Inputs("mnist", tmp_path / "nowhere"))
    assert found["problems"] == [f"{tmp_path}/nowhere does not exist"]
    assert "f68b3c2dcbeaaa9fbdd348bbdeb94873" in found["next"]
    images = np.zeros((2, 28, 28, 1), np.uint8)
    split = Split(images, np.array(["0", "1"], np.dtypes.StringDType()))
    monkeypatch.setattr(mnist, "prepare", lambda params: ImageData({"train": split}, ("a", "b"), "mnist"))
    found = check_data.run(check_data.Inputs("mnist", tmp_path))
    assert found["ok"]
    assert found["images"] == {"train": 2}
    assert found["checked"] == "every byte, by published checksums"


def test_terms_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs/data.md").read_text()
    for name, module in ((name, datasets.load(name)) for name in datasets.available()):
        row = text.split(f"\n| `{name}` |")[1].split("\n")[0]
        if hasattr(module, "RELEASE"):
            assert row.endswith(f"| {check_data.TERMS[name]} |")
        if hasattr(module, "ORIGIN"):
            assert row.endswith(f"| {module.ORIGIN.terms} |")
            assert " + ".join(f"{size:,}" for size in module.ORIGIN.sizes.values()) in row


@pytest.mark.parametrize(
    ("name", "cure"), [("clothing1", "'clothing1m'"), ("folder", "one of: cifar10, cifar100,")]
)
def test_a_set_whose_files_nobody_knows(name: str, cure: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=f"no files of '{name}' can be checked; .*{cure}"):
        check_data.run(check_data.Inputs(name, tmp_path))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        options.click_command(check_data.STAGE).main(
            ["webvision", str(tmp_path), "--json"], standalone_mode=False
        )
    found = json.loads(capsys.readouterr().out)
    assert found["problems"][0] == f"{tmp_path}/info/synsets.txt is missing"


def test_prepare_data_names_the_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`noisyctl check-data webvision FOLDER` says what is missing"):
        webvision.prepare(webvision.Params(root=str(tmp_path)))
