"""`clean --features X.npy --labels y.npy`: from vectors to the list and a model, without photos."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from noisyctl import load_model
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.cli.main import main
from noisyctl.errors import DataError, OutputError
from noisyctl.review import apply, photos, result, vectors, why
from noisyctl.session import Session

NAMES = np.array(["cat", "dog", "owl"])
EACH, WRONG = 20, (3, 25, 47)


@pytest.fixture
def given(tmp_path: Path) -> vectors.Vectors:
    """60 vectors around three centers; three of the labels are wrong."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(3), EACH)
    x = 4 * np.eye(3, 8)[true] + rng.normal(0, 0.5, (len(true), 8))
    labels = true.copy()
    labels[list(WRONG)] = (labels[list(WRONG)] + 1) % 3
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    np.save(tmp_path / "y.npy", NAMES[labels])
    return vectors.Vectors(tmp_path / "x.npy", tmp_path / "y.npy")


def run(given: vectors.Vectors, out: Path) -> vectors.Cleaned:
    session = Session(quiet=True, threads=1, precision="float32", scratch=out.parent / "scratch")
    return vectors.clean_vectors(given, out, session)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_planted_errors_are_first_and_nothing_is_done_twice(
    given: vectors.Vectors, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(given, out).done == ("prepare", "judge", "model")
    listed = result.read(out)
    assert {int(row.id) for row in listed.rows[:3]} == set(WRONG)
    assert all(row.verdict != "keep" for row in listed.rows[:3]) and not listed.has_photos
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "seen.json"}
    assert run(given, out).done == ()
    assert before == {p: p.stat().st_mtime_ns for p in before}
    labels = np.load(given.labels)
    labels[3] = "cat"
    np.save(given.labels, labels)
    assert run(given, out).done == ("prepare", "judge", "model")
    assert {int(row.id) for row in result.read(out).rows[:2]} == set(WRONG[1:])


def test_names_of_samples_stand_in_the_list(given: vectors.Vectors, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("".join(f"sample-{i}\n" for i in range(60)))
    named = vectors.Vectors(given.array, given.labels, tmp_path / "ids.txt")
    run(named, tmp_path / "out")
    assert {row.id for row in result.read(tmp_path / "out").rows[:3]} == {f"sample-{i}" for i in WRONG}


def test_the_command_and_a_prediction_for_new_vectors(
    given: vectors.Vectors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", "scratch")
    assert call(monkeypatch, "clean", "--features", "x.npy", "--labels", "y.npy", "--threads", "1") == 0
    said = capsys.readouterr()
    assert "60 samples of 8 features in 3 classes" in said.err
    assert (
        "of 60 labels look wrong" in said.err
        and "3 likely wrong (relabel 3), 57 seem right (keep)" in said.err
    )
    assert "noisyctl predict --run x-clean/model --features NEW.npy" in said.err
    np.save("new.npy", (4 * np.eye(3, 8)).astype(np.float32))
    words = [
        sys.executable,
        "-c",
        "from noisyctl.cli.main import main; main()",
        *("predict", "--run", "x-clean/model", "--features", "new.npy"),
    ]
    subprocess.run(words, check=True, capture_output=True)
    with Path("predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"]) for row in rows] == [("0", "cat"), ("1", "dog"), ("2", "owl")]
    model = load_model("x-clean/model")
    found = model(torch.from_numpy(np.load("new.npy")))
    assert [model.class_names[c] for c in found.argmax(dim=1)] == ["cat", "dog", "owl"]
    assert found.max(dim=1).values.tolist() == pytest.approx(
        [float(r["probability"]) for r in rows], abs=1e-5
    )
    with pytest.raises(DataError, match="this model labels vectors"):
        model.read(["a.png"])
    np.save("new.npy", np.zeros((2, 5), np.float32))
    assert call(monkeypatch, "predict", "--run", "x-clean/model", "--features", "new.npy") == 1
    assert "new.npy has 5 columns, x-clean/model was trained on vectors of 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give the folder of the photos, `noisyctl clean FOLDER`, or vectors"),
        (("--features", "x.npy"), "--features X.npy --labels y.npy"),
        ((".", "--features", "x.npy", "--labels", "y.npy"), "not both"),
        (("--features", "x.npy", "--labels", "y.npy", "--groups", "g.csv"), "--groups is for photos"),
    ],
)
def test_what_is_not_clear_is_refused(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "clean", *words) == 2
    assert said in capsys.readouterr().err


def test_vectors_that_cannot_be_judged(given: vectors.Vectors, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="contains"):
        run(vectors.Vectors(given.array, tmp_path / "out/y.npy"), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="no former result of clean"):
        run(given, tmp_path / "other")
    np.save(given.labels, np.repeat("cat", 60))
    with pytest.raises(DataError, match="labels need two or more"):
        run(given, tmp_path / "out")
    np.save(given.labels, NAMES[np.zeros(59, int)])
    with pytest.raises(DataError, match="for 60 samples"):
        run(given, tmp_path / "out")


def test_decisions_on_vectors_have_no_photos_to_apply_to(given: vectors.Vectors, tmp_path: Path) -> None:
    run(given, tmp_path / "out")
    listed = result.read(tmp_path / "out")
    with pytest.raises(DataError, match="made of vectors"):
        photos.require_root(listed)
    with pytest.raises(DataError, match="made of vectors"):
        apply.apply([], listed, tmp_path / "cleaned")


def test_why_shows_how_the_model_learned_a_sample_and_what_was_decided(
    given: vectors.Vectors, tmp_path: Path
) -> None:
    run(given, tmp_path / "out")
    listed = result.read(tmp_path / "out")
    wrong, right = listed.by_id[str(WRONG[0])], listed.rows[-1]
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(
        f"id,path,given,decision,label,result\n{wrong.id},,{wrong.given},relabel,cat,{listed.digest}\n"
    )
    trace = store.read(tmp_path / "out/model/trace.zarr", TRACE)
    about = why.facts(listed, wrong.id, decisions=[decisions])
    training = about["training"]
    assert training["method"] == "smp"
    assert training["losses"] == pytest.approx(trace.array("losses")[:, WRONG[0]].tolist(), abs=1e-6)
    assert training["losses"][-1] > 5 * training["median_loss"][-1]  # it never learned the wrong label
    assert (wrong.given, training["predicted"][-1]) == ("dog", "cat")
    assert about["decisions"] == [{"file": str(decisions), "decision": "relabel", "label": "cat"}]
    told = why.text(about)
    assert "while smp was trained" in told and "relabel cat" in told
    assert why.facts(listed, right.id, decisions=[decisions])["decisions"] == []


def test_a_job_can_be_made_to_fail_by_the_share_of_wrong_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    np.save(tmp_path / "x.npy", (4 * np.eye(3, 8)[true] + rng.normal(0, 0.5, (300, 8))).astype(np.float32))
    np.save(tmp_path / "y.npy", NAMES[np.where(rng.random(300) < 0.25, (true + 1) % 3, true)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", "scratch")
    words = ("clean", "--features", "x.npy", "--labels", "y.npy", "--no-model", "--threads", "1")
    assert call(monkeypatch, *words, "--fail-above", "0.1") == 3
    assert "FAILED: at least" in capsys.readouterr().err
    noise = result.read(tmp_path / "x-clean").noise  # what was found is kept all the same
    assert noise is not None and 0.1 < noise.low < 0.25
    assert call(monkeypatch, *words, "--fail-above", f"{noise.low + 0.001:.4f}", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["noise"] == {"wrong": noise.wrong, "low": noise.low, "high": noise.high}
    assert call(monkeypatch, *words, "--fail-above", f"{noise.low - 0.001:.4f}", "--json") == 3
    assert json.loads(capsys.readouterr().out)["exit_code"] == 3
    assert call(monkeypatch, *words, "--fail-above", "10") == 2
    assert "--fail-above is '10'; give a number between 0 and 1" in capsys.readouterr().err
