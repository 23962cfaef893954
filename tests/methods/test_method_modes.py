"""Every method in every mode of computing, step by step against the plain one; a new method is in without a line."""

import copy
from pathlib import Path
from typing import Any

import modes
import pytest
import tiny
import torch

from noisyctl import methods
from noisyctl.training import warmup

SIZE = 32
TRAINED = ["warmup", *(name for name in methods.available() if methods.load(name).NEEDS.networks)]


def trainer(name: str, folder: Path, device: str = "cpu", **values: Any) -> Any:
    """Runs of a method from the same networks, and the images. A fifth of the labels is wrong, a sixth held out."""
    method, every = warmup if name == "warmup" else methods.load(name), torch.arange(SIZE)
    labels = torch.where(every % 5 == 0, (every + 1) % tiny.CLASSES, every % tiny.CLASSES)
    task = modes.moved(tiny.task_of(labels, held_out=every[::6]), device)
    taught = tiny.taught_networks_of(method, tiny.task_of(every % tiny.CLASSES))
    networks = [network.to(device) for network in taught]
    params = (
        warmup.Params(epochs=2, batch_size=tiny.BATCH, **values)
        if name == "warmup"
        else tiny.params_of(name, **values)
    )
    count = iter(range(100))

    def train(epochs: int | None = None, **mode: Any) -> modes.Steps:
        fresh, about = (
            copy.deepcopy(networks),
            params.model_copy(update={} if epochs is None else {"epochs": epochs}),
        )
        return modes.steps(
            method, fresh, task, about, folder / str(next(count)), held_out={"test": task.images[:20]}, **mode
        )

    return train, task.images


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_is_float32_but_for_rounding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in modes.devices():
        train, _ = trainer(
            name, tmp_path / device, device, learning_rate=0.3
        )  # a step moves the weights visibly
        modes.require_rounding(train, train(epochs=0).arrays, monkeypatch)


@pytest.mark.parametrize("name", TRAINED)
def test_channels_last_is_the_plain_layout_but_for_rounding(name: str, tmp_path: Path) -> None:
    modes.require_same(trainer(name, tmp_path, learning_rate=0.05)[0])


@pytest.mark.parametrize("name", TRAINED)
def test_images_in_files_train_as_images_in_memory(name: str, tmp_path: Path) -> None:
    modes.require_equal(*trainer(name, tmp_path), tmp_path / "files")
