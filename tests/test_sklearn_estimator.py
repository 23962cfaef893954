"""`noisyctl.sklearn.RobustClassifier`: scikit-learn's own checks, and that it is what the commands train."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from noisyctl import prepare_data, train_method, warmup
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.runs import train
from noisyctl.sklearn import RobustClassifier
from noisyctl.training.scratch import Unkept

METHODS = ("smp", "two_stage", "jo_src", "mixnn", "scanmix", "dividemix")
# of scikit-learn's checks those that depend on what a method does with few samples, few classes or one column
OF_THE_METHOD = (
    "check_fit2d_1feature",
    "check_classifiers_one_label",
    "check_fit_idempotent",
    "check_estimators_pickle",
    "check_methods_sample_order_invariance",
)
SHORT: dict[str, Any] = {"warmup_epochs": 4, "epochs": 6, "threads": 1}


def blobs() -> tuple[np.ndarray, np.ndarray]:
    found: tuple[np.ndarray, np.ndarray] = make_blobs(90, 4, centers=3, cluster_std=0.5, random_state=0)
    return found


def name_of(check: Any) -> str:
    return str(getattr(check, "func", check).__name__)


@pytest.mark.parametrize("estimator, check", list(estimator_checks_generator(RobustClassifier(**SHORT))))
def test_scikit_learn_s_checks(estimator: RobustClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("method", METHODS)
def test_what_depends_on_the_method(method: str) -> None:
    ran = set()
    for estimator, check in estimator_checks_generator(RobustClassifier(method, **SHORT)):
        if name_of(check) in OF_THE_METHOD:
            check(estimator)
            ran.add(name_of(check))
    assert ran == set(OF_THE_METHOD)


def test_it_is_what_the_commands_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    X, y = make_blobs(
        90, 4, centers=3, cluster_std=4, random_state=0
    )  # they overlap: no probability is 0 or 1
    X = X.astype(np.float32)
    np.save("x.npy", X)
    np.save("y.npy", y)
    Path("params.yaml").write_text(
        "dataset: blobs\ndatasets:\n  blobs: {kind: features, array: x.npy, labels: y.npy}\n"
    )
    common: dict[str, Any] = {"dataset": "blobs", "features": "data/blobs/features.zarr", "batch_size": 16}
    numbers: dict[str, Any] = {"precision": "float32", "threads": 1, "seed": 3, "device": "cpu"}
    prepare_data(dataset="blobs")
    warmup(backbone="mlp", networks=1, epochs=4, **common, **numbers)
    made = train_method("cross_entropy", epochs=6, step_epochs=[2, 4], **common, **numbers)
    trace = store.read(Path(made["out"]) / "trace.zarr", TRACE)
    model = RobustClassifier("cross_entropy", random_state=3, params={"step_epochs": [2, 4]}, **SHORT).fit(
        X, y
    )
    expected = trace.array("train_probabilities")
    assert 0.5 < np.median(expected.max(axis=1)) < 0.99
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=2e-6)


def test_a_run_that_nobody_resumes_has_the_trace_of_one_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    fitted = [RobustClassifier("elr", **SHORT).fit(X, y)]
    kept: list[bool] = []

    def always(*given: Any) -> Any:
        kept.append(True)
        from noisyctl.training.scratch import hold

        return hold(*given)

    monkeypatch.setattr(train, "hold", always)
    monkeypatch.setattr(train, "nullcontext", lambda unkept: always(*held[-1]))
    held: list[Any] = []
    before = train.train_and_publish

    def noted(training: Any, out: Path, session: Any, publish: Any) -> Any:
        held.append((session.scratch, training.stage, {"n": len(held)}, out))
        return before(training, out, session, publish)

    monkeypatch.setattr("noisyctl.runs.train_method.train_and_publish", noted)
    monkeypatch.setattr("noisyctl.runs.warmup.train_and_publish", noted)
    fitted.append(RobustClassifier("elr", **SHORT).fit(X, y))
    assert kept == [True, True]
    assert np.array_equal(*(model.predict_proba(X) for model in fitted))


def test_rows_in_memory_are_those_that_were_written() -> None:
    rows = Unkept()
    rows.write_row("train_predictions", 0, np.array([1, 2]))
    values = np.array([3, 4])
    rows.write_row("train_predictions", 2, values)
    values[0] = 9  # the caller's own array may change
    assert rows.row_names() == ["train_predictions"] and rows.load() is None
    assert rows.rows("train_predictions", 3, -1).tolist() == [[1, 2], [-1, -1], [3, 4]]


def test_in_a_pipeline_in_a_search_and_in_cross_validation() -> None:
    X, y = blobs()
    names = np.array(["cat", "dog", "owl"])[y]
    model = make_pipeline(StandardScaler(), RobustClassifier(**SHORT))
    assert cross_val_score(model, X, names, cv=2).min() > 0.9
    search = GridSearchCV(RobustClassifier(**SHORT), {"backbone": ["linear", "mlp"]}, cv=2).fit(X, names)
    assert set(search.predict(X)) == {"cat", "dog", "owl"} and search.best_score_ > 0.9


def test_torch_tensors_a_seed_and_a_pickle() -> None:
    X, y = blobs()
    first = RobustClassifier(**SHORT).fit(X, y)
    again = RobustClassifier(**SHORT).fit(torch.tensor(X), torch.tensor(y))
    other = RobustClassifier(random_state=1, **SHORT).fit(X, y)
    assert np.array_equal(first.predict_proba(X), again.predict_proba(X))
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))
    assert np.array_equal(pickle.loads(pickle.dumps(first)).predict_proba(X), first.predict_proba(X))
    assert first.method_params_["epochs"] == 6 and first.classes_.tolist() == [0, 1, 2]


def test_wrong_labels_hurt_it_less_than_cross_entropy() -> None:
    X, y = load_digits(return_X_y=True)
    noisy, rng = y[:1000].copy(), np.random.default_rng(0)
    wrong = rng.permutation(1000)[:400]
    noisy[wrong] = (noisy[wrong] + rng.integers(1, 10, 400)) % 10
    score = {
        name: RobustClassifier(name, epochs=40, threads=1).fit(X[:1000], noisy).score(X[1000:], y[1000:])
        for name in ("elr", "cross_entropy")
    }
    assert score["elr"] > score["cross_entropy"] + 0.02


@pytest.mark.parametrize(
    "given, said",
    [
        ({"method": "elrr"}, "elr"),
        ({"method": "knn_vote"}, "trains no network"),
        ({"params": {"penalty": 1}}, "penalty_weight"),
        ({"epochs": -1}, "epochs"),
        ({"backbone": "resnet18"}, "resnet18"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_what_cannot_be_is_a_value_error(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match=said):
        RobustClassifier(**(SHORT | given)).fit(X, y)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    X, y = blobs()
    RobustClassifier(**SHORT).fit(X, y)
    with pytest.raises(ValueError, match="penalty_weight"):
        RobustClassifier(params={"penalty": 1}, **SHORT).fit(X, y)
    assert not list(tmp_path.iterdir())
