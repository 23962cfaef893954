"""The contract every method file keeps; a new method is in without a line."""

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pipeline
import pytest
import torch
from pydantic import ValidationError

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.params import module_spec

METHODS = methods.available()


@pytest.fixture(scope="module", params=METHODS)
def reference(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp(request.param) / "run"
    return request.param, pipeline.train(home, request.param, out), out


def test_same_seed_gives_same_bytes_though_global_generators_are_poisoned(reference, home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    method, expected, _ = reference
    torch.manual_seed(666)
    np.random.seed(666)  # noqa: NPY002  the poison
    assert pipeline.train(home, method, tmp_path / "run") == expected


def test_permuted_or_deleted_truth_changes_no_byte(reference, home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    method, expected, _ = reference
    twin = tmp_path / "home"
    shutil.copytree(home, twin)
    pipeline.permute_truth(twin, np.random.default_rng(0))
    assert pipeline.train(twin, method, tmp_path / "permuted") == expected
    shutil.rmtree(twin / "truth.zarr")
    shutil.rmtree(twin / "noise.zarr")
    assert pipeline.train(twin, method, tmp_path / "deleted") == expected


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


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m != "knn_vote"]
)  # which has one epoch of a few milliseconds
def test_kill_9_and_run_again_equals_uninterrupted(method: str, home: Path, tmp_path: Path) -> None:
    expected = pipeline.train(home, method, tmp_path / "whole", epochs=40)
    script = f"""
        import sys; sys.path.insert(0, {str(Path(pipeline.__file__).parent)!r})
        import torch; torch.set_num_threads(1)
        from pathlib import Path
        import pipeline
        pipeline.train(Path({str(home)!r}), {method!r}, Path({str(tmp_path / "killed")!r}), epochs=40)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    pattern = f"scratch/scratch/train-method-{method}-*/rows/*-3.npy"
    while not list(home.glob(pattern)) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed" / "trace.zarr").exists()
    assert pipeline.train(home, method, tmp_path / "killed", epochs=40) == expected
