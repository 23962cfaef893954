"""The contract every label-free method keeps; a new file is in without a line."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from pydantic import ValidationError

from noisyctl import pretraining
from noisyctl.errors import TrainingError
from noisyctl.params import module_spec
from noisyctl.task import Method
from noisyctl.training.loop import fit
from noisyctl.training.scratch import Scratch

METHODS = pretraining.available()


def params_of(method: str):
    return pretraining.load(method).Params(epochs=4, batch_size=32, **sizes(method))


def sizes(method: str) -> dict[str, int]:
    wanted = {"embedding_size": 16, "queue_size": 50, "warmup_epochs": 1}
    fields = pretraining.load(method).Params.model_fields
    return {name: value for name, value in wanted.items() if name in fields}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_cut_in_two_equals_one_in_one_piece_though_global_generators_are_poisoned(
    method: str, tmp_path: Path
) -> None:
    module, params, task = pretraining.load(method), params_of(method), toys.digits_task(100)
    whole = toys.run(module, task, params, tmp_path / "whole")
    half = toys.run(module, task, params, tmp_path / "cut", epochs=2)
    torch.manual_seed(666)
    np.random.seed(666)  # noqa: NPY002  the poison
    again = toys.run(module, task, params, tmp_path / "cut")
    assert toys.equal(whole, again)
    assert not toys.equal(whole, half)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_images_than_a_batch_and_one_more_than_a_batch(method: str, tmp_path: Path) -> None:
    module = pretraining.load(method)
    for n in (10, 33):
        params = module.Params(epochs=1, batch_size=32, **sizes(method))
        state = toys.run(module, toys.digits_task(n), params, tmp_path / str(n))
        assert all(torch.isfinite(p).all() for p in state.network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_stops_the_run(method: str, tmp_path: Path) -> None:
    module, task = pretraining.load(method), toys.digits_task(40)
    network = toys.build(toys.SPEC, toys.stream(0, "init"))
    with torch.no_grad():
        network.head[0].bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite in epoch 0, batch 0"):
        fit(
            module,
            [network],
            task,
            params_of(method),
            name="t",
            epochs=1,
            seed=0,
            scratch=Scratch(tmp_path, ""),
        )


@pytest.mark.parametrize("method", METHODS)
def test_the_module_has_the_names_and_its_source_text_and_class_agree_on_the_params(method: str) -> None:
    module = pretraining.load(method)
    assert isinstance(module, Method)
    spec = module_spec(f"noisyctl.pretraining.{method}")
    assert [f.name for f in spec.fields] == list(module.Params.model_fields)
    assert [f.default for f in spec.fields] == [f.default for f in module.Params.model_fields.values()]
    assert all(f.source for f in spec.fields)
    with pytest.raises(ValidationError):
        module.Params(no_such_param=1)
