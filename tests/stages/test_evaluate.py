"""evaluate: what it can say with truth, with part of it, and without."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
import torch
from click.testing import CliRunner

from noisyctl.artifacts import label_list, store
from noisyctl.artifacts.kinds import IMAGES, TRACE, TRUTH, VERIFIED
from noisyctl.cli import options
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.layout import Layout
from noisyctl.nn.inference import evaluating
from noisyctl.runs import reading, tasks
from noisyctl.runs.samples import Samples
from noisyctl.session import Session
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


def test_the_list_is_sorted_by_the_mean_of_two_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_run(tmp_path)
    found = judge(tmp_path, None)
    assert "measured_noise" not in found and "test_accuracy" not in found
    path = tmp_path / "results/samples/elr-run.csv"
    rows = list(csv.DictReader(path.open()))
    assert tuple(rows[0]) == (*label_list.FIRST, "warning")  # as in labels.csv, in the same order
    as_list = label_list.read(path)  # and what reads labels.csv reads it
    assert as_list.given.tolist() == ["b", "a", "a", "b"] or as_list.given.tolist() == ["b", "a", "b", "a"]
    assert as_list.ids.tolist()[:2] == ["y", "=w"]
    assert [(r["id"], r["given"], r["suggested"], r["verdict"], r["rank"]) for r in rows[:2]] == [
        ("y", "b", "a", "relabel", "1"),
        # an apostrophe: no spreadsheet computes it
        ("'=w", "a", "b", "keep", "2"),
    ]
    assert {(r["id"], r["given"], r["suggested"], r["verdict"]) for r in rows[2:]} == {
        ("x", "a", "a", "keep"),
        ("z", "b", "b", "keep"),
    }
    assert [r["clean_probability"] for r in rows] == ["0.300000", "0.500000", "0.800000", "0.800000"]
    assert [r["rank"] for r in rows] == ["1", "2", "3", "4"]
    said = capsys.readouterr().err
    assert f"elr/run: 1 of 4 labels look wrong; the list, by rank: {path}" in said
    assert "0.300000" in said and "WARNING" not in said


def neighbors_run(home: Path, suggested: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """100 samples of two classes, the first fifty a and the others b, judged by neighbors."""
    given = np.repeat([0, 1], 50)
    store.write(
        home / "run" / "trace.zarr",
        TRACE,
        {
            "train_id": np.array([f"{'ab'[c]}/{i:02}\x1b.jpg" for i, c in enumerate(given)]),
            "noisy_labels": given,
            "clean_probability": probability[None],
            "pseudo_labels": suggested[None].astype(np.int32),
        },
        params={"seed": 0},
        inputs={"images": "i", "neighbors": "n"},
        attributes={"method": "elr", "class_names": ["a", "b"]},
    )
    return given


def test_a_worthless_list_says_so_wherever_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    neighbors_run(tmp_path, np.tile([0, 1], 50), np.tile([0.9, 0.0], 50))
    result = evaluate.run(evaluate.Inputs((tmp_path,), tmp_path / "results"), None, Session(quiet=True))
    found = json.loads((tmp_path / "results/metrics.json").read_text())["runs"]["elr/run"]["list"]
    assert (
        "the neighbors agree with 50.0 % of 100 given labels, where chance alone gives 50.0 %"
        in found["warning"]
    )
    assert "50 of 100 labels are called wrong (50.0 %), a third or more" in found["warning"]
    path = tmp_path / "results/samples/elr-run.csv"
    assert result["lists"] == {"elr/run": found | {"path": str(path)}}
    assert json.dumps(result)  # for --json
    rows = list(csv.DictReader(path.open()))
    assert {row["warning"] for row in rows} == {"untrustworthy"}
    assert {row["verdict"] for row in rows} == {"keep", "look"}  # nothing that a script would relabel
    assert found["warning"] in (tmp_path / "results/samples/elr-run-WARNING.txt").read_text()
    assert capsys.readouterr().err == ""
    evaluate.run(evaluate.Inputs((tmp_path,), tmp_path / "again"))
    said = capsys.readouterr().err
    assert f"WARNING: this list is untrustworthy: {found['warning']}" in said
    assert "\x1b" not in said and "?.jpg" in said  # a name from data steers no terminal


def test_a_good_list_has_no_warning_and_the_truth_outranks_a_guess(tmp_path: Path) -> None:
    given = np.repeat([0, 1], 50)
    suggested, probability = given.copy(), np.full(100, 0.9)
    suggested[::2], probability[::2] = 1 - given[::2], 0.1  # half of the labels called wrong
    neighbors_run(tmp_path, suggested, probability)
    assert judge(tmp_path, None)["list"]["warning"] is not None
    path = truth(tmp_path / "t.zarr", suggested.tolist(), [0], ["a", "b"])
    store.write(
        tmp_path / "run" / "trace.zarr",
        TRACE,
        {
            name: store.read(tmp_path / "run/trace.zarr", TRACE).array(name)
            for name in ("train_id", "noisy_labels", "clean_probability", "pseudo_labels")
        }
        | {"test_predictions": np.array([[0]])},
        params={"seed": 0},
        inputs={"images": "i", "neighbors": "n"},
        attributes={"method": "elr", "class_names": ["a", "b"]},
    )
    assert judge(tmp_path, path)["list"]["warning"] is None
    assert not (tmp_path / "results/samples/elr-run-WARNING.txt").exists()
    rows = list(csv.DictReader((tmp_path / "results/samples/elr-run.csv").open()))
    assert {row["warning"] for row in rows} == {""}
    assert [row["verdict"] for row in rows] == ["relabel"] * 50 + ["keep"] * 50


def test_equal_probabilities_are_not_in_the_order_of_files_or_classes(tmp_path: Path) -> None:
    neighbors_run(tmp_path, np.repeat([1, 0], 50), np.zeros(100))
    judge(tmp_path, None)
    rows = list(csv.DictReader((tmp_path / "results/samples/elr-run.csv").open()))
    first = [row["given"] for row in rows[:20]]
    assert 5 <= first.count("a") <= 15  # by file name all twenty were a
    ids = [row["id"] for row in rows]
    assert ids != sorted(ids)
    judge(tmp_path, None)
    assert ids == [row["id"] for row in csv.DictReader((tmp_path / "results/samples/elr-run.csv").open())]


def test_of_equal_probabilities_the_surer_suggestion_of_another_label_comes_first(tmp_path: Path) -> None:
    trace(
        tmp_path / "run",
        ["a", "b", "c"],
        train_id=np.array(["same", "unsure", "sure", "right"]),
        noisy_labels=np.array([0, 0, 0, 0]),
        clean_probability=np.array([[0.2, 0.2, 0.2, 0.9]]),
        train_probabilities=np.array([[0.9, 0.1, 0], [0.1, 0.5, 0.4], [0.1, 0.8, 0.1], [0.9, 0.1, 0]]),
    )
    judge(tmp_path, None)
    rows = list(csv.DictReader((tmp_path / "results/samples/elr-run.csv").open()))
    assert [(row["id"], row["verdict"]) for row in rows] == [
        ("sure", "look"),
        ("unsure", "look"),
        ("same", "look"),
        ("right", "keep"),
    ]  # three of four called wrong: a list with a warning


def test_of_many_runs_the_paths_are_printed_and_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        one_run(tmp_path / f"{i}")
        (tmp_path / f"{i}" / "run").rename(tmp_path / f"{i}" / f"run{i}")
    evaluate.run(evaluate.Inputs((tmp_path,), tmp_path / "results"))
    said = capsys.readouterr().err
    assert said.count("1 of 4 labels look wrong") == 4
    assert "0.300000" not in said


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


def test_refined_held_out_labels_and_their_loss_select_an_epoch(tmp_path: Path) -> None:
    """Of three held-out samples the method trusts two in the end; stages 1 and 2 have two epochs each."""
    trace(
        tmp_path / "run",
        ["a", "b"],
        train_id=np.array(["w", "x", "y", "z"]),
        noisy_labels=np.array([0, 0, 1, 1]),
        clean_probability=np.ones((4, 4), np.float32),
        train_probabilities=np.full((4, 2), 0.5),
        train_predictions=np.zeros((4, 4)),
        selected=np.array([[1, 1, 1, 1]] * 3 + [[1, 1, 0, 1]], bool),
        validation=np.array([False, True, True, True]),
        validation_predictions=np.array([[0, 1, 1], [0, 1, 1], [0, 1, 0], [0, 0, 1]]),
        scalar_validation_loss=np.array([0.1, 0.2, 0.5, 0.7]),
        scalar_stage=np.array([1.0, 1.0, 2.0, 2.0]),
        test_predictions=np.array([[0, 0], [0, 0], [1, 0], [1, 1]]),
    )
    found = judge(tmp_path, truth(tmp_path / "t.zarr", [0, 0, 1, 1], [0, 0], ["a", "b"]))["test_accuracy"]
    # given labels a b b, trusted the first and the last: epoch 2 has one of them, epoch 3 both; by loss it is epoch 2
    assert found["best_on_refined_validation"] == 0.0
    assert found["least_noisy_validation_loss"] == 50.0
    assert found["best_on_noisy_validation"] == 50.0  # both have two of three: the first
    assert found["last"] == 0.0 and found["best_on_test_oracle"] == 100.0


def test_a_second_network_and_prototypes_are_judged_beside_the_predictions(tmp_path: Path) -> None:
    trace(
        tmp_path / "run",
        ["a", "b"],
        train_id=np.array(["x"]),
        noisy_labels=np.array([0]),
        clean_probability=np.array([[0.9]] * 3),
        train_probabilities=np.array([[0.9, 0.1]]),
        test_predictions=np.array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 0, 1]]),
        test_predictions_of_network2=np.array([[1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 1]]),
        test_predictions_of_prototypes=np.array([[-1, -1, -1, -1], [0, 0, 0, 0], [0, 0, 0, 1]]),
    )
    found = judge(tmp_path, truth(tmp_path / "t.zarr", [0], [0, 1, 0, 1], ["a", "b"]))["test_accuracy_of"]
    assert found["network2"]["last"] == 75.0  # 0, 75, 75
    assert found["both_networks"]["last"] == 87.5  # 50, 75, 100 and these
    assert found["both_networks"]["mean_last_10"] == pytest.approx((25 + 75 + 87.5) / 3)
    # the epoch before the first correction has no prototypes
    assert (found["prototypes"]["initial"], found["prototypes"]["last"]) == (50.0, 75.0)
    assert found["prototypes"]["mean_last_10"] == 62.5


def test_a_second_network_s_predictions_are_its_own(home: Path, tmp_path: Path) -> None:
    """Through the runner: what the saved second network says of the test images is the last row of the trace."""
    params = pipeline.params_of("decoupling", 2)
    train_method.run(pipeline.inputs(home, "decoupling", tmp_path / "run"), params, pipeline.session(home))
    made = store.read(tmp_path / "run/trace.zarr", TRACE)
    images = reading.read_images(home / "images.zarr")
    task, held_out = tasks.make_task(Samples.of_images(images), torch.device("cpu"))
    networks, _ = reading.read_networks(tmp_path / "run/networks.safetensors", "")
    for field, array in (("network1", "test_predictions"), ("network2", "test_predictions_of_network2")):
        with evaluating(networks[field]):
            said = networks[field](task.views.plain(held_out["test"])).argmax(dim=1)
        assert (made.array(array)[-1] == said.numpy()).all()
        assert made.array(array).shape == (2, len(said))
    assert (made.array("test_predictions") != made.array("test_predictions_of_network2")).any()


def verified_run(home: Path, inputs: dict[str, str]) -> tuple[Path, str]:
    """Four samples, of which the user has checked the first two; the method corrected all of them."""
    path = home / "verified.zarr"
    checked = {"index": np.array([0, 1]), "verified_labels": np.array([1, 1])}
    digest = store.write(
        path, VERIFIED, checked, inputs={"images": "i"}, attributes={"class_names": ["a", "b"]}
    )
    arrays = {
        "train_id": np.array(["w", "x", "y", "z"]),
        "noisy_labels": np.array([0, 1, 0, 1]),
        "clean_probability": np.full((1, 4), 0.9),
        "pseudo_labels": np.array([[1, 1, 1, 0]]),
        "test_predictions": np.array([[0]]),
    }
    known = {"images": "i"} | {name: digest if value == "these" else value for name, value in inputs.items()}
    about = {"method": "elr", "class_names": ["a", "b"]}
    store.write(home / "run/trace.zarr", TRACE, arrays, params={"seed": 0}, inputs=known, attributes=about)
    return path, digest


@pytest.mark.parametrize(
    "inputs, clean, expected",
    [
        ({}, None, (50.0, 100.0)),  # the checked ones, w wrong as given: both right in the end
        ({"verified": "these"}, None, None),  # told: nothing is left to ask
        ({}, [1, 1, 1, 1], (50.0, 75.0)),  # all four
        ({"verified": "these"}, [1, 1, 1, 1], (50.0, 50.0)),  # y and z alone
        ({"verified": "others"}, [1, 1, 1, 1], None),  # told some that are not at hand
    ],
)
def test_samples_whose_labels_a_run_was_told_do_not_count_as_corrected(
    tmp_path: Path,
    inputs: dict[str, str],
    clean: list[int] | None,
    expected: tuple[float, float] | None,
) -> None:
    """SMP Tables 2 and 3: in its second setting the checked samples choose the prototypes."""
    verified, _ = verified_run(tmp_path, inputs)
    known = {"test_labels": np.array([0])} | ({} if clean is None else {"clean_labels": np.array(clean)})
    names = {"class_names": ["a", "b"]}
    store.write(tmp_path / "t.zarr", TRUTH, known, inputs={"images": "i"}, attributes=names)
    found = judge(tmp_path, tmp_path / "t.zarr", verified=verified).get("label_accuracy")
    assert (found and (found["original"], found["final"])) == expected


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
    assert 0 <= run["test_accuracy"]["least_noisy_validation_loss"] <= 100
    assert "best_on_refined_validation" not in run["test_accuracy"]  # no label was selected


@pytest.mark.parametrize(
    ("name", "precision", "recall"),
    [("selected", 1 / 3, 1.0), ("learned_from", 1.0, 1.0)],
)
def test_only_a_selection_as_clean_calls_the_others_wrong(
    name: str, precision: float, recall: float, tmp_path: Path
) -> None:
    """Two networks disagree about w, and learn from it alone; z is wrong, and its probability says so."""
    about: dict[str, Any] = {
        "train_id": np.array(["w", "x", "y", "z"]),
        "noisy_labels": np.array([0, 1, 1, 0]),
        "train_probabilities": np.array([[0.6, 0.4], [0.1, 0.9], [0.1, 0.9], [0.2, 0.8]]),
        name: np.array([[1, 0, 0, 0]], bool),
    }
    trace(tmp_path / "run", ["a", "b"], **about, test_predictions=np.array([[0, 1]]))
    found = judge(tmp_path, truth(tmp_path / "t.zarr", [0, 1, 1, 1], [0, 1], ["a", "b"]))
    assert found["detection"] == {
        "precision": pytest.approx(precision),
        "recall": recall,
        "auc": 1.0,
        "average_precision": 1.0,
    }
    assert found["selection"]["precision"]["last"] == 100.0  # of what was learned from, in either case
    assert found["selection"]["recall"]["last"] == pytest.approx(100 / 3)
    assert found["labels_kept"]["pct_no_label"] == 75.0


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
    assert found["test_by_class"] == {"balanced_accuracy": 50.0, "recall": {"a": 100.0, "b": 0.0}}
    assert found["val_by_class"] == {"balanced_accuracy": 50.0, "recall": {"a": 50.0, "b": None}}
    assert found["detection_by_class"] == {
        "a": {"called_wrong": 1, "precision": 1.0, "recall": 1.0},  # v is kept, y called
        "b": {"called_wrong": 1, "precision": 1.0, "recall": 1.0},  # w is kept, x called
    }
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
    keys = {re.sub("^(test|val)_(top5_accuracy|accuracy|by_class)$", r"<split>_\2", key) for key in found}
    for group in (
        "selection",
        "labels_kept",
        "verdicts",
        "label_accuracy",
        "groups",
        "test_accuracy",
        "list",
    ):
        keys |= set(found[group])
    plots = {p.stem.replace("elr-run", "METHOD-RUN") for p in (tmp_path / "results/plots").glob("*.tsv")}
    plots = {re.sub("^(test|val)_", "<split>_", name) for name in plots}
    assert sorted(key for key in keys | plots if f"`{key}`" not in text and f"`{key}" not in text) == []


def test_scores_are_a_few_numbers_of_each_run(tmp_path: Path) -> None:
    found = judge(tmp_path, open_set_run(tmp_path))
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    assert scores == {
        "elr/run": {
            "test_accuracy": round(found["test_accuracy"]["last"], 4),
            "average_precision": round(found["detection"]["average_precision"], 4),
            "called_wrong": found["list"]["called_wrong"],
        }
    }
    judge(tmp_path, None)
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    assert list(scores["elr/run"]) == ["called_wrong"]  # nothing is known to be right


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


def test_an_encoder_without_a_run_is_judged_alone(home: Path, tmp_path: Path) -> None:
    """ScanMix Table 4, its first rows: SCAN's clusters under their best names, and no label in it."""
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for name in ("features.zarr", "encoder.safetensors"):
        (encoder / name).symlink_to(home / "simclr" / name)
    (encoder / "clusters.safetensors").symlink_to(home / "clusters.safetensors")
    nothing = {option.name: () if option.multiple else None for option in evaluate.STAGE.options}
    given = nothing | {"encoder": encoder, "truth": home / "truth.zarr", "out": tmp_path / "out"}
    alone = evaluate.STAGE.inputs(given | {"images": home / "images.zarr"}, Layout(root=tmp_path), {})
    assert alone.runs == ()
    found = evaluate.run(alone, None, pipeline.session(home))
    made = json.loads((tmp_path / "out/metrics.json").read_text())
    assert made["runs"] == {} and 0 < made["knn_probe"]["clustering_accuracy"] <= 100
    assert found["clustering_accuracy"] == made["knn_probe"]["clustering_accuracy"]
    assert made["knn_probe"]["clusters_params"]["epochs"] == 1
    assert made["knn_probe"]["encoder_params"]["epochs"] == 2
    with pytest.raises(
        ParamsError, match="judges the encoder alone, which takes images and a truth with test"
    ):
        evaluate.run(evaluate.STAGE.inputs(given, Layout(root=tmp_path), {}), None, pipeline.session(home))
    with pytest.raises(ArtifactError, match=r"holds no encoder\.safetensors; give the folder"):
        evaluate.STAGE.inputs(given | {"encoder": tmp_path}, Layout(root=tmp_path), {})


def test_options_out_of_range_name_the_range(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"--loss-epochs 2: .*trace.zarr has epochs 0 to 1; choose among"):
        judge(tmp_path, open_set_run(tmp_path), loss_epochs=(2,))
    nothing = dict.fromkeys(("run", "noise_facts", "labels"), ()) | {
        "encoder": None,
        "truth": None,
        "images": None,
        "verified": None,
        "paths": None,
        "out": tmp_path,
    }
    layout = Layout(root=tmp_path)
    with pytest.raises(ParamsError, match="--loss-epochs is '1,x'; write whole numbers from 0 on"):
        evaluate.STAGE.inputs(nothing | {"loss_epochs": "1,x", "tsne": None}, layout, {})
    for text in ("2001", "3", "5,6"):
        done = CliRunner().invoke(options.click_command(evaluate.STAGE), ["--tsne", text])
        assert str(done.exception) == f"--tsne is '{text}'; give a whole number from 4 to 2000"
    inputs = evaluate.STAGE.inputs(nothing | {"loss_epochs": "0, 4", "tsne": 50}, layout, {})
    assert (inputs.loss_epochs, inputs.tsne) == ((0, 4), 50)
