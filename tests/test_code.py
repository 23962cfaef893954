"""Whose code decides a stage's result: what it imports, and of what it finds by name the one file."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noisyctl import code

ROOT = Path(__file__).parent.parent
SCRIPT = "import sys; from noisyctl import code; print(*(code.code_digest(stage) for stage in sys.argv[1:]))"


def digests(tree: Path, *stages: str) -> dict[str, str]:
    words = [sys.executable, "-c", SCRIPT, *stages]
    environment = {"PYTHONPATH": str(tree), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=tree, capture_output=True, text=True, check=True, env=environment)
    return dict(zip(stages, done.stdout.split(), strict=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def append(path: Path, text: str = "\n# changed\n") -> None:
    path.write_text((path.read_text() if path.exists() else "") + text)


def test_a_digest_changes_with_the_code_that_is_used_and_with_no_other(tree: Path) -> None:
    names = ("pretrain-simclr", "mine-knn", "train-method-elr", "train-method-gce", "evaluate")
    before = digests(tree, *names)
    append(tree / "noisyctl/methods/of_my_own.py")
    append(tree / "noisyctl/pretraining/moco.py")
    append(tree / "noisyctl/artifacts/store.py")
    append(tree / "noisyctl/datasets/digits.py")
    assert digests(tree, *names) == before
    append(tree / "noisyctl/methods/elr.py")
    after = digests(tree, *names)
    assert [name for name in names if after[name] != before[name]] == ["train-method-elr"]
    append(
        tree / "noisyctl/parts/_search.py"
    )  # mine-knn imports neighbors, which imports it inside a function
    after = digests(tree, *names)
    assert {"mine-knn", "evaluate"} <= {name for name in names if after[name] != before[name]}
    append(tree / "noisyctl/nn/resnet.py")  # a backbone, which the network's spec names
    assert digests(tree, "pretrain-simclr") != {"pretrain-simclr": before["pretrain-simclr"]}


def test_imports_of_every_form_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "__init__": "",
        "start": "import of_mine.plain\ndef f():\n    from of_mine import lazy\n    from . import beside\n",
        "plain": "from .deep.inner import value\n",
        "lazy": "import torch\nimport importlib\nimportlib.import_module(f'of_mine.named.{torch}')\n",
        "beside": "",
        "unused": "",
        "deep/__init__": "from ..above import x\n",
        "deep/inner": "from . import *\n",
        "above": "",
        "named/__init__": "",
        "named/one": "",
        "named/two": "",
    }
    for name, text in sources.items():
        path = tmp_path / "of_mine" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "starts", lambda stage: ("of_mine.start",))
    found = {
        str(path.relative_to(tmp_path / "of_mine").with_suffix("")) for path in code.files_of("x").values()
    }
    assert found == {*sources} - {"__init__", "unused", "named/__init__"}


def test_stages_start_at_their_module_and_at_what_they_find_by_name() -> None:
    assert code.starts("mine-knn") == ("stages.mine_knn",)
    assert code.starts("pretrain-moco") == ("stages.pretrain", "noisyctl.pretraining.moco")
    assert code.starts("train-method-elr_plus") == ("stages.train_method", "noisyctl.methods.elr_plus")
