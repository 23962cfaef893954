"""kill -9 at every publishing moment of every stage: nothing half-written is accepted, and a second run gives the bytes
of one that was never killed. Training methods are killed in tests/methods/test_every_method.py."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pipeline
import pytest

from noisyctl.artifacts import files
from noisyctl.datasets import digits
from noisyctl.noise import symmetric
from noisyctl.pretraining import simclr
from noisyctl.training.warmup import Params as WarmupParams
from stages import evaluate, inject_noise, mine_knn, prepare_data, pretrain, table, train_method, warmup

SMALL = {"backbone": "small_cnn", "width": 4, "epochs": 1, "batch_size": 64}


def stages(home: Path, out: Path) -> dict[str, Callable[[], object]]:
    """Each stage on the small pipeline, writing below `out`."""
    s = pipeline.session(out)
    images, labels = home / "images.zarr", home / "labels.zarr"
    noise = symmetric.Params(rate=0.3, include_true_class=True)
    knn = mine_knn.Inputs(home / "simclr/features.zarr", out / "neighbors.zarr")
    vote = train_method.Inputs("knn_vote", labels, out / "run", images, None, home / "neighbors.zarr")
    judged = evaluate.Inputs((home / "vote",), out / "results", home / "truth.zarr", (home / "noise.zarr",))
    return {
        "prepare-data": lambda: prepare_data.run(prepare_data.Inputs("digits", out), digits.Params()),
        "inject-noise": lambda: inject_noise.run(
            inject_noise.Inputs("symmetric", home / "truth.zarr", out / "labels.zarr"), noise, s
        ),
        "pretrain": lambda: pretrain.run(
            pretrain.Inputs("simclr", images, out / "simclr"), simclr.Params(**SMALL, embedding_size=8), s
        ),
        "mine-knn": lambda: mine_knn.run(knn, mine_knn.Params(k=5), s),
        "warmup": lambda: warmup.run(warmup.Inputs(images, labels, out / "warmup"), WarmupParams(**SMALL), s),
        "train-method": lambda: train_method.run(vote, pipeline.params_of("knn_vote"), s),
        "evaluate": lambda: evaluate.run(judged),
        "table": lambda: table.run(table.Inputs((home / "judged/metrics.json",), out / "t.md"), None, s),
    }


@pytest.fixture(scope="module")
def prepared(home: Path) -> Path:
    """A run and its metrics for evaluate and table."""
    if not (home / "judged").exists():
        pipeline.train(home, "knn_vote", home / "vote")
        evaluate.run(evaluate.Inputs((home / "vote",), home / "judged", home / "truth.zarr"))
    return home


def killed_at(moment: int, call: Callable[[], object]) -> bool:
    """Run `call` in a forked process that kills itself before its publish number `moment`; False if it got to the end."""
    child = os.fork()
    if child == 0:
        count = 0
        replace = files._replace

        def die_or_replace(partial: Path, path: Path, form: files.Form) -> None:
            nonlocal count
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            replace(partial, path, form)

        files._replace = die_or_replace
        try:
            sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  until it dies
            call()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def published(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in pipeline.tree(out).items() if not name.startswith("scratch/")}


@pytest.mark.parametrize("name", list(stages(Path(), Path())))
def test_killed_before_each_publish_and_run_again(name: str, prepared: Path, tmp_path: Path) -> None:
    stages(prepared, tmp_path / "whole")[name]()
    expected = published(tmp_path / "whole")
    moment = 0
    while killed_at(moment, stages(prepared, out := tmp_path / f"killed-{moment}")[name]):
        half = [p for p in published(out) if not any(part.startswith(".") for part in Path(p).parts)]
        assert set(half) < set(expected), "a killed stage shows only whole artifacts"
        stages(prepared, out)[name]()
        assert published(out) == expected
        moment += 1
    assert moment >= 1
