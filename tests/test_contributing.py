"""The files that CONTRIBUTING.md shows work as they stand, from the place it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = re.findall(r"^```python (\S+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the files of the page."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES:
        assert not (ROOT / name).exists(), f"{name} exists: show another example"
        (folder / name).write_text(text)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def call(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_examples_keep_the_house_s_rules(checkout: Path) -> None:
    assert [Path(name).parent.name for name, _ in FILES] == ["methods", "noise", "datasets"]
    call(checkout, sys.executable, "-m", "ruff", "check", *(name for name, _ in FILES))
    call(checkout, sys.executable, "-m", "ruff", "format", "--check", *(name for name, _ in FILES))


def test_the_three_examples_run_together(checkout: Path) -> None:
    noisyctl = str(Path(sys.executable).with_name("noisyctl"))
    home = "data/small_digits"
    call(checkout, noisyctl, "prepare-data", "--dataset", "small_digits", "--out", home)
    noise = ("--kind", "to_one_class", "--rate", "0.3", "--out", f"{home}/labels.zarr")
    told = call(checkout, noisyctl, "inject-noise", "--dataset", "small_digits", *noise)
    assert "nominal_rate 0.3" in told.stderr
    small = ("--backbone", "small_cnn", "--width", "4", "--epochs", "1")
    call(checkout, noisyctl, "warmup", "--dataset", "small_digits", *small)
    call(checkout, noisyctl, "train-method", "mae", "--dataset", "small_digits", "--epochs", "1")
    call(checkout, noisyctl, "evaluate", "--dataset", "small_digits")
    assert (checkout / home / "results/samples/mae-given-s0.csv").exists()
