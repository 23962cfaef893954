"""Shared by all tests: one thread each, no color, one small digits pipeline."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"

# pytest puts tests/ in front, whose folder stages must not pass for the package
sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
import torch

import stages

HERE = Path(__file__).parent
assert stages.__file__ == str(HERE.parent / "stages" / "__init__.py"), stages
torch.set_num_threads(1)
sys.path[:0] = [str(HERE / "stages"), str(HERE / "review"), str(HERE)]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, noise, features, neighbors and a warm-up; tests write elsewhere."""
    import pipeline

    return pipeline.prepare(tmp_path_factory.mktemp("home"))
