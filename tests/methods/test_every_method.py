"""The contract every method file keeps; a new method is in without a line."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
import torch
from pydantic import ValidationError

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.params import module_spec
from noisyctl.training import scratch

METHODS = methods.available()


@pytest.fixture(scope="module", params=METHODS)
def reference(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp(request.param) / "run"
    return request.param, pipeline.train(home, request.param, out), out


def test_poisoned_generators_and_permuted_truth_change_no_byte(reference, home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    method, expected, _ = reference
    twin = Path(shutil.copytree(home, tmp_path / "home"))
    pipeline.permute_truth(twin, np.random.default_rng(0))
    torch.manual_seed(666)
    np.random.seed(666)  # noqa: NPY002  the poison
    random.seed(666)
    assert pipeline.train(twin, method, tmp_path / "run") == expected


def test_kill_9_and_run_again_without_truth_equals_uninterrupted(reference, home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Killed after some rows of the second epoch are written and before its checkpoint is."""
    method, expected, _ = reference
    twin = Path(shutil.copytree(home, tmp_path / "home"))
    shutil.rmtree(twin / "truth.zarr")
    shutil.rmtree(twin / "noise.zarr")
    epochs = pipeline.params_of(method).epochs
    if epochs > 1:
        status = killed_before_checkpoint(2, lambda: pipeline.train(twin, method, tmp_path / "run"))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert list(twin.glob("scratch/scratch/train-method-*/checkpoint.safetensors"))
        assert not (tmp_path / "run").exists()
    assert pipeline.train(twin, method, tmp_path / "run") == expected


def killed_before_checkpoint(number: int, work: Callable[[], object]) -> int:
    """The exit status of a process that does `work` and kills itself in place of its checkpoint `number`."""
    child = os.fork()
    if child == 0:
        save = scratch.Scratch.save

        def die_or_save(self: scratch.Scratch, epoch: int, *rest: Any) -> None:
            if epoch == number:
                os.kill(os.getpid(), signal.SIGKILL)
            save(self, epoch, *rest)

        scratch.Scratch.save = die_or_save  # type: ignore[method-assign]
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def test_metrics_are_finite(reference) -> None:  # type: ignore[no-untyped-def]
    _, _, out = reference
    trace = store.read(out / "trace.zarr", TRACE)
    for name in trace.names:
        values = trace.array(name)
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_unknown_params_are_refused(method: str) -> None:
    with pytest.raises(ValidationError):
        methods.load(method).Params(no_such_param=1)


@pytest.mark.parametrize("method", METHODS)
def test_the_source_text_and_the_class_agree_on_the_params(method: str) -> None:
    spec = module_spec(methods.modules()[method])
    fields = methods.load(method).Params.model_fields
    assert [f.name for f in spec.fields] == list(fields)
    assert [f.default for f in spec.fields] == [info.default for info in fields.values()]
    assert all(f.source for f in spec.fields)
