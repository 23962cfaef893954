"""Finding data sets by name, and what every image data set carries."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noisyctl import datasets
from noisyctl.datasets import ImageData, Split, moments, value_counts
from noisyctl.errors import ParamsError
from noisyctl.params import module_spec


def image_data(images: np.ndarray) -> ImageData:
    ids = np.array([str(i) for i in range(len(images))], np.dtypes.StringDType())
    return ImageData({"train": Split(images, ids)}, ("a", "b"), "natural")


def test_files_of_the_folder_are_the_data_sets() -> None:
    assert {
        "cifar10",
        "cifar100",
        "clothing1m",
        "digits",
        "features",
        "folder",
        "food101n",
        "mnist",
        "webvision",
    } <= set(datasets.available())
    assert not [name for name in datasets.available() if name.startswith("_")]


@pytest.mark.parametrize("name", datasets.available())
def test_every_data_set_declares_params_that_can_be_read_without_importing_it(name: str) -> None:
    spec = module_spec(f"noisyctl.datasets.{name}")
    module = datasets.load(name)
    assert callable(module.prepare)
    assert spec.summary
    assert [field.name for field in spec.fields] == list(module.Params.model_fields)


def test_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(ParamsError, match=r"unknown data set 'digit'; did you mean 'digits'\?"):
        datasets.load("digit")
    with pytest.raises(ParamsError, match="unknown data set 'zzz'; one of: "):
        datasets.load("zzz")


def test_importing_a_data_set_does_not_import_slow_libraries() -> None:
    names = ", ".join(f"noisyctl.datasets.{name}" for name in datasets.available())
    code = f"import sys, {names}\n"
    code += "print([name for name in ('torch', 'torchvision', 'sklearn', 'pyarrow') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_mean_and_std_are_those_of_the_training_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 4, 3)).astype(np.uint8)
    data = image_data(images)
    fractions = images.astype(np.float64) / 255
    assert data.mean == pytest.approx(fractions.mean(axis=(0, 1, 2)), abs=1e-12)
    assert data.std == pytest.approx(fractions.std(axis=(0, 1, 2)), abs=1e-12)


def test_counts_cross_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).integers(0, 256, (23, 2, 2, 1)).astype(np.uint8)
    whole = value_counts(images)
    monkeypatch.setattr(datasets, "BLOCK", 5)
    assert (value_counts(images) == whole).all()
    assert whole.sum() == images.size


def test_moments_of_half_black_half_white_and_of_a_constant() -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 255]] = 3
    assert moments(counts) == (0.5, 0.5)
    counts[:] = 0
    counts[51] = 7
    assert moments(counts) == (0.2, 1.0)  # nobody divides by zero


def test_docs_name_every_data_set_with_its_command_and_its_files() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name in datasets.available():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"\n    noisyctl prepare-data --dataset {name}" in section
        for option in re.findall(r"--[a-z][a-z0-9-]*", section):
            fields = [field.option for field in module_spec(f"noisyctl.datasets.{name}").fields]
            assert option in ("--dataset", "--out", *fields)
        release = getattr(datasets.load(name), "RELEASE", None)
        for file in release.downloads if release else ():
            assert f"| `{file.name}` | {file.size:,} | {file.md5} |" in section
