"""Every label-free method in every mode of computing, step by step against the plain one; a new file is in at once."""

from pathlib import Path
from typing import Any

import modes
import pytest
import toys

from noisyctl import pretraining
from noisyctl.seeds import stream


def trainer(name: str, folder: Path, device: str = "cpu") -> Any:
    """Runs of a method from the same network, and the images."""
    module, task = pretraining.load(name), modes.moved(toys.digits_task(100), device)
    wanted = {"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "embedding_size": 16, "queue_size": 50}
    params = module.Params(**{k: v for k, v in wanted.items() if k in module.Params.model_fields})
    count = iter(range(100))

    def train(epochs: int | None = None, **mode: Any) -> modes.Steps:
        network = toys.build(toys.SPEC, stream(0, "init")).to(device)
        about = params.model_copy(update={} if epochs is None else {"epochs": epochs})
        return modes.steps(module, [network], task, about, folder / str(next(count)), **mode)

    return train, task.images


@pytest.mark.parametrize("name", pretraining.available())
def test_bfloat16_is_float32_but_for_rounding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in modes.devices():
        train, _ = trainer(name, tmp_path / device, device)
        modes.require_rounding(train, train(epochs=0).arrays, monkeypatch)


@pytest.mark.parametrize("name", pretraining.available())
def test_channels_last_is_the_plain_layout_but_for_rounding(name: str, tmp_path: Path) -> None:
    modes.require_same(trainer(name, tmp_path)[0])


@pytest.mark.parametrize("name", pretraining.available())
def test_images_in_files_train_as_images_in_memory(name: str, tmp_path: Path) -> None:
    modes.require_equal(*trainer(name, tmp_path), tmp_path / "files")
