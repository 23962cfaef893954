"""The installed package is whole: a wheel of this tree, installed elsewhere, does the main jobs in an empty folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import noisyctl

ROOT = Path(__file__).parent.parent
SOURCES = ("noisyctl", "stages", "pyproject.toml", "README.md", "LICENSE")


class Installed:
    """A wheel in an environment of its own, which finds all other packages where the tests do."""

    def __init__(self, home: Path) -> None:
        self.home, self.wheel = home, _build(home)
        self.bin = home / "venv" / "bin"
        _run(sys.executable, "-m", "venv", "--without-pip", str(home / "venv"))
        _pip("--python", str(self.bin / "python"), "install", "--no-deps", "--no-index", str(self.wheel))
        (site,) = (home / "venv" / "lib").glob("*/site-packages")
        # a folder that a .pth file names comes last, and the .pth files in it, such as that of an editable
        # installation of noisyctl, are not read
        (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def call(self, line: str, cwd: Path) -> str:
        """What a command of this environment prints on stdout; the test fails where the command does."""
        places = (str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"])
        own = {
            "PATH": os.pathsep.join(places),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "DVC_NO_ANALYTICS": "1",
        }
        others = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "NOISYCTL_SCRATCH")}
        done = subprocess.run(shlex.split(line), cwd=cwd, capture_output=True, text=True, env=others | own)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


def _run(*words: str, cwd: Path | None = None) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _pip(*words: str) -> None:
    _run(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words)


def _build(home: Path) -> Path:
    """The wheel of a copy of the sources: setuptools leaves folders behind where it builds."""
    tree = home / "tree"
    tree.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(home / "dist"), str(tree))
    (wheel,) = (home / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


def test_the_wheel_holds_every_file_of_the_packages(installed: Installed) -> None:
    held = set(zipfile.ZipFile(installed.wheel).namelist())
    files = {
        p.relative_to(ROOT)
        for room in ("noisyctl", "stages")
        for p in (ROOT / room).rglob("*")
        if p.is_file()
    }
    assert {str(p) for p in files if "__pycache__" not in p.parts} - held == set()


def test_there_is_one_version(installed: Installed, tmp_path: Path) -> None:
    assert installed.call("noisyctl --version", cwd=tmp_path).strip() == noisyctl.__version__
    about = "import importlib.metadata as m, noisyctl; print(m.version('noisyctl'), noisyctl.__file__)"
    version, place = installed.call(f'python -c "{about}"', cwd=tmp_path).split()
    assert version == noisyctl.__version__
    assert Path(place).is_relative_to(installed.home / "venv"), "another noisyctl was imported"
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == noisyctl.__version__
    assert re.search(rf"^## {re.escape(noisyctl.__version__)} ", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_papers_are_planned_and_compared_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    installed.call("dvc init -q --no-scm", cwd=tmp_path)
    stages = installed.call("noisyctl sweep two_stage --table 2 --budget smoke --dry-run", cwd=tmp_path)
    assert len(stages.splitlines()) == 6
    compared = json.loads(installed.call("noisyctl table --paper two_stage --json", cwd=tmp_path))
    assert compared["measured"] == 0 and compared["missing"] > 0


def test_photos_are_cleaned_and_a_project_begins_in_an_empty_folder(
    installed: Installed, tmp_path: Path
) -> None:
    digits = load_digits()
    for i in range(40):
        folder = tmp_path / "photos" / f"digit {digits.target[i] % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(folder / f"{i}.png")
    found = json.loads(installed.call("noisyctl clean photos --no-model --json", cwd=tmp_path))
    assert found["photos"] == 40
    page = (tmp_path / "photos-clean" / "report.html").read_text()
    assert "<script" in page and "digit 1" in page

    (tmp_path / "project").mkdir()
    installed.call("noisyctl init --photos ../photos --no-git", cwd=tmp_path / "project")
    pipeline = yaml.safe_load((tmp_path / "project" / "dvc.yaml").read_text())["stages"]
    assert {"cells.yaml": ["code.embed"]} in pipeline["embed"][
        "params"
    ]  # no file of the package is a dependency
