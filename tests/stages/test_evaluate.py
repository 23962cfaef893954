"""evaluate: what it can say with truth, with part of it, and without."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, TRACE, TRUTH
from noisyctl.errors import ArtifactError, ParamsError
from stages import evaluate, train_method
from stages.common import Layout


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


def judge(home: Path, truth_path: Path | None, **more: Any) -> dict[str, Any]:
    evaluate.run(evaluate.Inputs((home,), home / "results", truth_path, **more))
    metrics = json.loads((home / "results/metrics.json").read_text())
    return metrics["runs"]["elr/run"]


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
    assert found["test_accuracy"]["last"] == 100.0


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


def open_set_run(home: Path) -> Path:
    """Two classes; five samples of which the fourth is of no known class and the fifth is held out."""
    trace(
        home / "run",
        ["a", "b"],
        train_id=np.array(["v", "w", "x", "y", "z"]),
        noisy_labels=np.array([0, 1, 1, 0, 1]),
        validation=np.array([False, False, False, False, True]),
        validation_predictions=np.array([[0], [1]]),
        losses=np.array([[0.1, 0.2, 2.0, 3.0, 0.0], [0.2, 0.1, 1.0, 2.0, 0.0]]),
        clean_probability=np.array([[0.9, 0.8, 0.3, 0.2, 0.0]] * 2),
        selected=np.array([[1, 0, 1, 0, 0], [1, 1, 0, 0, 0]], bool),
        verdict=np.array([[0, 1, 0, 1, 0], [0, 0, 1, 2, 0]]),
        pseudo_labels=np.array([[0, 1, 1, 0, 0], [0, 1, 0, 1, 0]]),
        train_predictions=np.array([[0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]),
        train_probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [0.3, 0.7]]),
        test_predictions=np.array([[0, 1], [0, 0]]),
        test_top5=np.array([[[0, 1], [1, 0]], [[1, 0], [0, 1]]]),
        val_predictions=np.array([[1, 1], [0, 1]]),
    )
    path = home / "t.zarr"
    arrays = {
        "clean_labels": np.array([0, 1, 0, 2, 1]),
        "test_labels": np.array([0, 1]),
        "val_labels": np.array([0, 0]),
    }
    store.write(
        path, TRUTH, arrays, inputs={"images": "i"}, attributes={"class_names": ["a", "b", "unknown"]}
    )
    return path


def test_everything_that_a_trace_and_the_truth_allow(tmp_path: Path) -> None:
    found = judge(tmp_path, open_set_run(tmp_path), loss_epochs=(0,))
    # four samples count: v, w right, x a wrong label of a known class, y out of distribution
    assert found["selection"] == {
        "precision": {"last": 100.0, "best": 100.0, "at_best_on_test_oracle": 50.0},  # epoch 0: v and x
        "recall": {"last": 100.0, "best": 100.0, "at_best_on_test_oracle": 50.0},
    }
    assert found["labels_kept"] == {
        "pct_correct_labels": 50.0,
        "pct_incorrect_labels": 0.0,
        "pct_no_label": 50.0,
    }
    assert found["verdicts"] == {
        "id_precision": {"last": 100.0, "best": 100.0, "at_best_on_test_oracle": 0.0},  # epoch 0: w and y
        "ood_precision": {"last": 100.0, "best": 100.0, "at_best_on_test_oracle": None},
    }
    assert found["label_accuracy"] == {
        "original": pytest.approx(200 / 3),
        "initial": 100.0,
        "final": 100.0,
    }
    assert found["groups"] == {
        "clean_fitted": 50.0,
        "id_noise_fitted": 0.0,
        "ood_noise_fitted": 100.0,
        "id_noise_predicted_right": 100.0,
    }
    assert found["given_labels_fitted"] == 50.0  # v and y
    assert found["test_accuracy"]["best_on_test_oracle"] == 100.0
    assert found["test_top5_accuracy"]["last"] == 100.0  # of two classes two places hold both
    assert found["val_accuracy"]["last"] == 50.0
    results = tmp_path / "results"
    precision = (results / "plots/selection_precision.tsv").read_text()
    assert precision == "run\tepoch\tselection_precision\nelr/run\t0\t50.0000\nelr/run\t1\t100.0000\n"
    assert (
        "elr/run\t0\t\n" in (results / "plots/ood_precision.tsv").read_text()
    )  # nothing was called so: no number
    corrected = (results / "plots/elr-run-correction.tsv").read_text()
    assert corrected == "clean\tcorrected\tsamples\na\ta\t2\nb\tb\t1\n"
    bars = list(csv.DictReader((results / "plots/elr-run-epoch0-losses.tsv").open(), delimiter="\t"))
    # the held-out sample has no loss
    assert [sum(int(row[kind]) for row in bars) for kind in ("right", "wrong")] == [2, 2]
    for plot in (results / "plots").glob("*.tsv"):
        assert all((results / "figures" / f"{plot.stem}.{kind}").exists() for kind in ("png", "svg"))


def test_the_documentation_tells_every_key_and_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    found = judge(tmp_path, open_set_run(tmp_path))
    keys = {re.sub("^(test|val)_(top5_)?accuracy$", r"<split>_\2accuracy", key) for key in found}
    for group in ("selection", "labels_kept", "verdicts", "label_accuracy", "groups", "test_accuracy"):
        keys |= set(found[group])
    plots = {p.stem.replace("elr-run", "METHOD-RUN") for p in (tmp_path / "results/plots").glob("*.tsv")}
    plots = {re.sub("^(test|val)_", "<split>_", name) for name in plots}
    assert sorted(key for key in keys | plots if f"`{key}`" not in text and f"`{key}" not in text) == []


def test_features_are_drawn_where_asked(home: Path, tmp_path: Path) -> None:
    train_method.run(
        pipeline.inputs(home, "cross_entropy", tmp_path / "run"),
        pipeline.params_of("cross_entropy", 1),
        pipeline.session(home),
    )
    places = {"truth": home / "truth.zarr", "images": home / "images.zarr", "tsne": 30}
    drawn = []
    for name in ("one", "two"):
        evaluate.run(
            evaluate.Inputs((tmp_path / "run",), tmp_path / name, **places), None, pipeline.session(home)
        )
        drawn.append(pipeline.tree(tmp_path / name))
    assert drawn[0] == drawn[1]
    rows = list(csv.DictReader((tmp_path / "one/plots/cross_entropy-run-tsne.tsv").open(), delimiter="\t"))
    clean = dict(
        zip(
            store.read(home / "images.zarr", IMAGES).array("train_id"),
            store.read(home / "truth.zarr", TRUTH).array("clean_labels"),
            strict=True,
        )
    )
    assert len(rows) == 30 and all(int(row["label"]) == clean[row["id"]] for row in rows)
    with pytest.raises(ParamsError, match="--tsne: the images are not in the default place; give --images"):
        evaluate.run(evaluate.Inputs((tmp_path / "run",), tmp_path / "no", tsne=30))


def test_options_out_of_range_name_the_range(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"--loss-epochs 2: .*trace.zarr has epochs 0 to 1; choose among"):
        judge(tmp_path, open_set_run(tmp_path), loss_epochs=(2,))
    nothing = dict.fromkeys(("run", "noise_facts"), ()) | {
        "encoder": None,
        "truth": None,
        "images": None,
        "verified": None,
        "paths": None,
        "out": tmp_path,
    }
    layout = Layout(root=tmp_path)
    for option, text, message in (
        ("loss_epochs", "1,x", "--loss-epochs is '1,x'; write whole numbers from 0 on"),
        ("tsne", "2001", "--tsne is '2001'; write the number of samples, 4 to 2000"),
        ("tsne", "5,6", "--tsne is '5,6'; write"),
    ):
        given = nothing | {"loss_epochs": None, "tsne": None} | {option: text}
        with pytest.raises(ParamsError, match=message):
            evaluate.STAGE.inputs(given, layout, {})
    inputs = evaluate.STAGE.inputs(nothing | {"loss_epochs": "0, 4", "tsne": "50"}, layout, {})
    assert (inputs.loss_epochs, inputs.tsne) == ((0, 4), 50)
