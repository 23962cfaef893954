"""Networks of one training beside the trace of another, as a killed run leaves them, are refused by every reader."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pipeline
import pytest

from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ArtifactError
from noisyctl.runs import reading
from stages import evaluate, predict, train_method, warmup

MIXED = "holds the networks of one training and the trace of another; make the run again with `noisyctl "


@pytest.fixture(scope="module")
def mixed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is made again with another seed, and killed between its networks and its trace."""
    out = tmp_path_factory.mktemp("mixed") / "run"
    pipeline.train(home, "cross_entropy", out, epochs=1)
    child = os.fork()
    if child == 0:
        store.write = lambda *given, **more: os._exit(9)
        pipeline.train(home, "cross_entropy", out, seed=1, epochs=1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    return out


def judge(home: Path, run: Path, out: Path) -> object:
    return evaluate.run(evaluate.Inputs((run,), out / "results", home / "truth.zarr"))


def label(home: Path, run: Path, out: Path) -> object:
    return predict.run(predict.Inputs(run, out, out / "p.csv"))


def draw(home: Path, run: Path, out: Path) -> object:
    asked = evaluate.Inputs(
        (run,), out / "results", home / "truth.zarr", images=home / "images.zarr", tsne=20
    )
    return evaluate.run(asked)


@pytest.mark.parametrize("read", [judge, label, draw])
def test_a_mixed_run_is_refused(
    read: Callable[[Path, Path, Path], object], home: Path, mixed: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=f"{mixed} {MIXED}train-method NAME`"):
        read(home, mixed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mixed_warm_up_is_refused(home: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(home / "warmup", tmp_path / "warmup"))
    profile = warmup_params()
    places = home / "images.zarr", home / "labels.zarr", tmp_path / "other"
    warmup.run(warmup.Inputs(*places), profile, pipeline.session(tmp_path, seed=1))
    shutil.copy(tmp_path / "other/networks.safetensors", out)
    places = home / "labels.zarr", tmp_path / "run", home / "images.zarr", out
    with pytest.raises(ArtifactError, match=f"{out} {MIXED}warmup`"):
        train_method.run(
            train_method.Inputs("cross_entropy", *places),
            pipeline.params_of("cross_entropy"),
            pipeline.session(tmp_path),
        )


def warmup_params() -> object:
    from noisyctl.training.warmup import Params

    return Params(backbone="small_cnn", width=4, epochs=1, batch_size=64)


def test_the_same_command_again_makes_it_whole(home: Path, mixed: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(mixed, tmp_path / "run"))
    pipeline.train(home, "cross_entropy", again, seed=1, epochs=1)
    judge(home, again, tmp_path)
    trace = store.read(again / "trace.zarr", TRACE)
    assert trace.inputs["networks"] == tensor_files.digest_of(again / "networks.safetensors")
    reading.read_run(again, "")


def test_a_trace_or_networks_alone_are_read(home: Path, tmp_path: Path) -> None:
    pipeline.train(home, "cross_entropy", tmp_path / "run", epochs=1)
    (tmp_path / "run/networks.safetensors").rename(tmp_path / "networks.safetensors")
    judge(home, tmp_path / "run", tmp_path)
    built, _ = reading.read_run(tmp_path, "")
    assert built


def test_features_of_another_encoder_are_not_probed(home: Path, tmp_path: Path) -> None:
    encoder = Path(shutil.copytree(home / "simclr", tmp_path / "simclr"))
    tensors, header = tensor_files.read(encoder / "encoder.safetensors", "")
    header["params"]["seed"] = 1  # another encoder by its digest
    tensor_files.write(encoder / "encoder.safetensors", tensors, header)
    pipeline.train(home, "cross_entropy", tmp_path / "run", epochs=1)
    probed = {"encoder": encoder, "images": home / "images.zarr"}
    asked = evaluate.Inputs((tmp_path / "run",), tmp_path / "results", home / "truth.zarr", **probed)
    with pytest.raises(ArtifactError, match=r"features\.zarr was not made from .*encoder\.safetensors"):
        evaluate.run(asked)
