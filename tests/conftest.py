"""Shared by all tests: one thread each, no color, one small digits pipeline."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"

import pytest
import torch

torch.set_num_threads(1)
sys.path[:0] = [str(Path(__file__).parent / "stages"), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, noise, features, neighbors and a warm-up; tests write elsewhere."""
    import pipeline

    return pipeline.prepare(tmp_path_factory.mktemp("home"))
