"""evaluate: what it can say with truth, with part of it, and without."""

import csv
import json
from pathlib import Path

import numpy as np
import pipeline
import pytest

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE, TRUTH
from noisyctl.errors import ArtifactError
from stages import evaluate, train_method


def trace(out: Path, names: list[str], **arrays: np.ndarray) -> None:
    about = {"method": "elr", "class_names": names}
    store.write(
        out / "trace.zarr", TRACE, arrays, params={"seed": 0}, inputs={"images": "i"}, attributes=about
    )


def truth(out: Path, clean: list[int], test: list[int], names: list[str]) -> Path:
    arrays = {"clean_labels": np.array(clean), "test_labels": np.array(test)}
    store.write(out, TRUTH, arrays, inputs={"images": "i"}, attributes={"class_names": names})
    return out


def one_run(home: Path) -> None:
    trace(
        home / "run",
        ["a", "b"],
        train_id=np.array(["x", "y", "z", "=w"]),
        noisy_labels=np.array([0, 1, 1, 0]),
        clean_probability=np.array([[[0.9, 0.2, 0.8, 0.4], [0.7, 0.4, 0.8, 0.6]]]),
        train_probabilities=np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]]),
        test_predictions=np.array([[0, 1, 1]]),
    )


def judge(home: Path, truth_path: Path | None) -> dict[str, object]:
    evaluate.run(evaluate.Inputs((home,), home / "results", truth_path))
    metrics = json.loads((home / "results/metrics.json").read_text())
    return metrics["runs"]["elr/run"]  # type: ignore[no-any-return]


def test_classes_that_a_run_does_not_know_are_wrong_in_training_and_left_out_of_the_test(
    tmp_path: Path,
) -> None:
    one_run(tmp_path)
    # the images' classes are in another order, and c is of no known class: y is out of distribution
    found = judge(tmp_path, truth(tmp_path / "t.zarr", [1, 2, 0, 1], [1, 0, 2], ["b", "a", "c"]))
    assert found["measured_noise"] == 0.25
    assert found["suggested_label_accuracy"] == pytest.approx(
        100 * 2 / 3
    )  # x and z of the three that are known
    # predictions a, b, b for a, b, c: the last image is not judged
    assert found["test_accuracy"]["last"] == 100.0  # type: ignore[index]


def test_the_list_is_ranked_by_the_mean_of_two_networks(tmp_path: Path) -> None:
    one_run(tmp_path)
    found = judge(tmp_path, None)
    assert "measured_noise" not in found and "test_accuracy" not in found
    rows = list(csv.DictReader((tmp_path / "results/samples/elr-run.csv").open()))
    assert [(r["id"], r["given_label"], r["suggested_label"], r["rank"]) for r in rows] == [
        ("x", "a", "a", "3" if rows[0]["rank"] == "3" else "4"),
        ("y", "b", "a", "1"),
        ("z", "b", "b", "4" if rows[0]["rank"] == "3" else "3"),
        ("=w", "a", "b", "2"),
    ]
    assert [r["clean_probability"] for r in rows] == ["0.800000", "0.300000", "0.800000", "0.500000"]


def test_a_folder_without_runs_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no run; make one with `noisyctl train-method NAME`"):
        evaluate.run(evaluate.Inputs((tmp_path,), tmp_path / "results"))


def test_truth_of_other_images_is_refused(tmp_path: Path) -> None:
    one_run(tmp_path)
    other = truth(tmp_path / "t.zarr", [0], [0], ["a", "b"])
    store.write(
        other,
        TRUTH,
        {"clean_labels": np.zeros(4)},
        inputs={"images": "others"},
        attributes={"class_names": ["a", "b"]},
    )
    with pytest.raises(ArtifactError, match="was not made from"):
        judge(tmp_path, other)


def test_held_out_noisy_labels_select_an_epoch(home: Path, tmp_path: Path) -> None:
    params = pipeline.params_of("cross_entropy", 3).model_copy(update={"validation_rate": 0.25})
    train_method.run(pipeline.inputs(home, "cross_entropy", tmp_path / "run"), params, pipeline.session(home))
    made = store.read(tmp_path / "run/trace.zarr", TRACE)
    held_out = made.array("validation")
    assert held_out.sum() == round(0.25 * pipeline.SIZE)
    assert made.array("validation_predictions").shape == (3, held_out.sum())
    # a held-out sample is never trained on, so it has no loss in any epoch
    assert (made.array("losses")[:, held_out] == 0).all()
    assert (made.array("losses")[:, ~held_out] > 0).all()
    evaluate.run(evaluate.Inputs((tmp_path / "run",), tmp_path / "results", home / "truth.zarr"))
    (run,) = json.loads((tmp_path / "results/metrics.json").read_text())["runs"].values()
    assert 0 <= run["test_accuracy"]["best_on_noisy_validation"] <= 100
