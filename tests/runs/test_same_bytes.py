"""What artifacts hold stays what it was: digests where no processor decides them, names and shapes where one does."""

from pathlib import Path

import numpy as np
import pipeline
import pytest

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, NEIGHBORS, NOISE, TRACE, TRUTH
from noisyctl.noise import symmetric
from noisyctl.runs.inject_noise import Places, inject
from noisyctl.runs.prepare_data import prepare
from noisyctl.session import Session

DIGESTS = {  # of integers that numpy draws: made by the code of November 2026
    "images": "66c0a647522fc82056e83ad281762d69f215ba59767645445ebd315537defbdd",
    "truth": "779878de4d935298a5470553221079540238626e7665d63bc0d3872227c5aff4",
    "labels": "f6b08e3a97e3f4a0762a022e37f1168eacac05f38a8c17c70f5b24ddcca37a56",
    "noise": "06966d5521abf5e1e9ed5ca226719fd430dad03a109e7a329385f20f55fd73b5",
}
HEADER = {"digest", "epochs", "inputs", "kind", "method", "modules"}
PREPROCESSING = {"class_names", "mean", "size", "std", "views"}
LABEL_FREE = {"digest", "hardware", "inputs", "kind", "modules", "params"}


def test_data_and_labels_have_the_digests_that_they_always_had(tmp_path: Path) -> None:
    from noisyctl.datasets import digits

    prepare("digits", tmp_path, digits.Params(), Session())
    params = symmetric.Params(rate=0.4, include_true_class=True)
    inject("symmetric", Places(tmp_path / "truth.zarr", tmp_path / "labels.zarr"), params, Session())
    kinds = {"images": IMAGES, "truth": TRUTH, "labels": LABELS, "noise": NOISE}
    assert {
        name: store.read(tmp_path / f"{name}.zarr", kind).digest for name, kind in kinds.items()
    } == DIGESTS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.prepare(tmp_path_factory.mktemp("same"))


def test_label_free_artifacts_have_the_same_names(home: Path) -> None:
    features = store.read(home / "simclr/features.zarr", FEATURES)
    assert {name: features.array(name).shape for name in features.names} == {
        "features": (256, 32),
        "embeddings": (256, 16),
        "test_features": (100, 32),
        "test_embeddings": (100, 16),
    }
    assert set(features.inputs) == {"images", "encoder"}
    mined = store.read(home / "neighbors.zarr", NEIGHBORS)
    assert mined.array("indices").shape == (256, 10) and set(mined.inputs) == {"images", "features"}
    for place, inputs in {
        "simclr/encoder.safetensors": {"images"},
        "clusters.safetensors": {"images", "encoder", "neighbors"},
    }.items():
        header = files.networks_header(home / place)
        assert header is not None and set(header) == LABEL_FREE and set(header["inputs"]) == inputs
        assert list(header["modules"]) == ["network"]


def test_a_run_has_the_same_names(home: Path, tmp_path: Path) -> None:
    pipeline.train(home, "dividemix", tmp_path / "run", epochs=1)
    header = files.networks_header(tmp_path / "run/networks.safetensors")
    assert header is not None and set(header) == HEADER | PREPROCESSING
    assert set(header["inputs"]) == {"images", "labels", "warmup"}
    assert list(header["modules"]) == ["network1", "network2"]
    assert set(header["modules"]["network1"]) == {
        "backbone",
        "channels",
        "head",
        "num_outputs",
        "size",
        "width",
    }
    trace = store.read(tmp_path / "run/trace.zarr", TRACE)
    assert set(trace.attributes) == {
        *("arrays", "class_names", "digest", "hardware", "inputs"),
        *("kind", "method", "params", "schema_version"),
    }
    assert set(trace.inputs) == {"images", "labels", "networks", "warmup"}
    shapes = {name: trace.array(name).shape for name in trace.names if not name.startswith("scalar_")}
    assert shapes == {
        "clean_probability": (1, 2, 256),
        "losses": (1, 2, 256),
        "noisy_labels": (256,),
        "pseudo_labels": (1, 256),
        "selected": (1, 2, 256),
        "test_predictions": (1, 100),
        "test_probabilities": (100, 10),
        "train_id": (256,),
        "train_predictions": (1, 256),
        "train_probabilities": (256, 10),
    }
    assert np.isfinite(trace.array("losses")).all()
