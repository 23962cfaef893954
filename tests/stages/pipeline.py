"""A small digits pipeline through the stages' functions, for tests."""

from pathlib import Path

import numpy as np
import pytest

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, LABELS, TRUTH
from noisyctl.cli.main import main
from noisyctl.datasets import digits
from noisyctl.noise import symmetric
from noisyctl.pretraining import scan, simclr
from noisyctl.session import Session
from noisyctl.training import warmup as warmup_method
from stages import (
    cluster_scan,
    evaluate,
    inject_noise,
    mine_knn,
    prepare_data,
    pretrain,
    train_method,
    warmup,
)

SIZE = 256


def command(*words: str) -> int:
    """The exit code of a command that is called in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["noisyctl", *words])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def session(home: Path, seed: int = 0) -> Session:
    about = {"device": "cpu", "precision": "float32", "threads": 1, "quiet": True}
    return Session(**about, seed=seed, scratch=home / "scratch")


def prepare(home: Path) -> Path:
    """256 training and 100 test digits with noisy labels, features, neighbors and a warm-up."""
    prepare_data.run(prepare_data.Inputs("digits", home / "all"), digits.Params())
    images, truth = store.read(home / "all/images.zarr", IMAGES), store.read(home / "all/truth.zarr", TRUTH)
    cut = {"train": SIZE, "test": 100}
    arrays = {n + s: images.array(n + s)[:k] for n, k in cut.items() for s in ("", "_id")}
    about = {k: images.attributes[k] for k in ("mean", "std", "views")}
    digest = store.write(home / "images.zarr", IMAGES, arrays, attributes=about)
    labels = {
        "clean_labels": truth.array("clean_labels")[:SIZE],
        "test_labels": truth.array("test_labels")[:100],
    }
    names = {"class_names": truth.attributes["class_names"]}
    store.write(home / "truth.zarr", TRUTH, labels, inputs={"images": digest}, attributes=names)
    s = session(home)
    params = symmetric.Params(rate=0.4, include_true_class=False)
    inject_noise.run(inject_noise.Inputs("symmetric", home / "truth.zarr", home / "labels.zarr"), params, s)
    small = {"backbone": "small_cnn", "width": 4}
    tiny = simclr.Params(**small, epochs=2, batch_size=64, embedding_size=16)
    pretrain.run(pretrain.Inputs("simclr", home / "images.zarr", home / "simclr"), tiny, s)
    mine_knn.run(
        mine_knn.Inputs(home / "simclr/features.zarr", home / "neighbors.zarr"), mine_knn.Params(k=10), s
    )
    profile = warmup_method.Params(**small, epochs=1, batch_size=64)
    warmup.run(warmup.Inputs(home / "images.zarr", home / "labels.zarr", home / "warmup"), profile, s)
    few = scan.Params(num_clusters=10, epochs=1, batch_size=64)
    places = (home / "images.zarr", home / "simclr/encoder.safetensors", home / "neighbors.zarr", home)
    cluster_scan.run(cluster_scan.Inputs(*places), few, s)
    clustered = warmup_method.Params(**small, epochs=1, batch_size=64, start="clusters", train="head")
    where = (
        home / "images.zarr",
        home / "labels.zarr",
        home / "clustered",
        None,
        home / "clusters.safetensors",
    )
    warmup.run(warmup.Inputs(*where), clustered, s)
    return home


def inputs(home: Path, method: str, out: Path) -> train_method.Inputs:
    return train_method.Inputs(
        method,
        home / "labels.zarr",
        out,
        home / "images.zarr",
        home / ("clustered" if methods.spec_of(method).needs.pretrained else "warmup"),
        home / "neighbors.zarr",
        home / "clusters.safetensors",
    )


def params_of(method: str, epochs: int = 3):  # type: ignore[no-untyped-def]
    model = methods.load(method).Params
    wanted = {
        "epochs": min(epochs, 1 if method == "knn_vote" else epochs),
        "batch_size": 64,
        "correction_epoch": 2,
        "cluster_batch_size": 64,
        "ramp_epochs": 1,
        "start_epoch": 3,
        "stage1_epochs": 2,
        "retrain_epoch": 3,
        "finetune_epoch": 3,
    }
    return model(**{k: v for k, v in wanted.items() if k in model.model_fields})


def train(home: Path, method: str, out: Path, seed: int = 0, epochs: int = 3) -> dict[str, bytes]:
    """Train and give the bytes of everything that was published."""
    train_method.run(inputs(home, method, out), params_of(method, epochs), session(home, seed))
    return tree(out)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def judge(home: Path, runs: Path, out: Path) -> dict[str, object]:
    return evaluate.run(evaluate.Inputs((runs,), out, home / "truth.zarr", (home / "noise.zarr",)))


def permute_truth(home: Path, rng: np.random.Generator) -> None:
    truth = store.read(home / "truth.zarr", TRUTH)
    arrays = {name: rng.permutation(truth.array(name)) for name in truth.names}
    about = {"class_names": truth.attributes["class_names"]}
    store.write(home / "truth.zarr", TRUTH, arrays, inputs=truth.inputs, attributes=about)


__all__ = ["LABELS", "inputs", "judge", "params_of", "permute_truth", "prepare", "session", "train", "tree"]
