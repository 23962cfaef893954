"""Tell what is installed, what is missing, what would be faster."""

import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

from noisyctl.cli.stage import Stage
from noisyctl.session import Session

PACKAGES = (
    "torch",
    "torchvision",
    "typer",
    "dvc",
    "zarr",
    "scikit-learn",
    "rich",
    "pydantic",
    "safetensors",
    "matplotlib",
)


def run(inputs: Any = None, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Versions, device, precision, whether gradients are computed right, cores, and advice."""
    import torch

    from noisyctl.nn import self_check
    from noisyctl.precision import resolve

    found: dict[str, Any] = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing: pip install " + package
    faiss = importlib.util.find_spec("faiss") is not None
    found["faiss"] = (
        "installed" if faiss else "missing: mining is slower on a CPU; pip install 'noisyctl[cpu]'"
    )
    found["device"] = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu only: torch sees no GPU"
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, why = resolve("auto", device)
    found["precision"] = f"auto is {precision}: {why}"
    found["gradients"] = self_check.told(device)
    found["cores"], found["torch threads"] = os.cpu_count(), torch.get_num_threads()
    return found


STAGE = Stage(
    "doctor",
    "Tell what is installed, what is missing, what would be faster.",
    "noisyctl doctor",
    run,
    lambda *_: None,
    answers=True,
)
