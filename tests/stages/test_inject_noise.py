"""inject-noise: every model through the stage, what it writes, the verified labels, and bad input."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from pipeline import session, tree
from test_docs import ROOT, call

from noisyctl import noise
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import IMAGES, LABELS, NOISE, TRUTH, VERIFIED
from noisyctl.cli import options
from noisyctl.cli.stage import specs_of
from noisyctl.errors import ArtifactError, DataError, ParamsError
from stages import inject_noise

NAMES = [f"class {c}" for c in range(6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of six classes that a classifier can tell apart with some mistakes: 40 each, 6 x 6 pixels."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    clean = rng.permutation(np.repeat(np.arange(6), 40))
    patterns = rng.uniform(60, 190, (6, 6, 6, 1))
    images = np.clip(patterns[clean] + rng.normal(0, 60, (240, 6, 6, 1)), 0, 255).astype(np.uint8)
    write(folder, images, clean)
    np.savetxt(
        folder / "given.csv", np.c_[np.arange(240), (clean + 1) % 6], "%d,%d", header="id,label", comments=""
    )
    np.save(folder / "matrix.npy", np.roll(np.eye(6), 2, axis=1))
    np.savez(folder / "human.npz", clean_label=clean, worse_label=(clean + 3) % 6)
    return folder


def write(folder: Path, images: np.ndarray, clean: np.ndarray) -> None:
    ids = np.arange(len(images)).astype(str)
    about = {"mean": [0.5], "std": [0.25], "views": "digits"}
    digest = store.write(folder / "images.zarr", IMAGES, {"train": images, "train_id": ids}, attributes=about)
    arrays, made_from = {"clean_labels": clean}, {"images": digest}
    store.write(folder / "truth.zarr", TRUTH, arrays, inputs=made_from, attributes={"class_names": NAMES})


def inject(
    data: Path, out: Path, kind: str, seed: int = 0, verified: int | None = None, **fields: Any
) -> dict[str, Any]:
    inputs = inject_noise.Inputs(kind, data / "truth.zarr", out, data / "images.zarr", verified)
    return inject_noise.run(inputs, noise.load(kind).Params(**fields), session(out.parent, seed))


CASES: dict[str, dict[str, Any]] = {
    "symmetric": {"rate": 0.5, "include_true_class": False, "draw": "exact"},
    "pairflip": {"rate": 0.25, "draw": "exact"},
    "asymmetric": {"rate": 0.5, "map": "custom", "pairs": {0: 1, 1: 0}, "draw": "exact"},
    "open_set": {"rate": 0.25, "num_unknown": 2},
    "instance_dependent": {"rate": 0.4},
    "semantic": {"classifier": "logistic", "clean_share": 0.25},
    "file": {"file": "given.csv"},
    "matrix": {"file": "matrix.npy"},
    "cifar_n": {"file": "human.npz", "which": "worse"},
}
# Arithmetic of the cases; None where the rate is a matter of chance or of the classifier.
MEASURED = {
    "symmetric": 0.5,
    "pairflip": 0.25,
    "asymmetric": 1 / 6,
    "file": 1.0,
    "matrix": 1.0,
    "cifar_n": 1.0,
}


def at(data: Path, fields: dict[str, Any]) -> dict[str, Any]:
    return fields | ({"file": str(data / fields["file"])} if "file" in fields else {})


@pytest.mark.parametrize("kind", noise.available())
def test_every_model_writes_labels_and_the_facts_about_them(data: Path, tmp_path: Path, kind: str) -> None:
    printed = inject(data, tmp_path / "labels.zarr", kind, **at(data, CASES[kind]))
    labels, facts = store.read(tmp_path / "labels.zarr", LABELS), store.read(tmp_path / "noise.zarr", NOISE)
    clean, noisy = store.read(data / "truth.zarr", TRUTH).array("clean_labels"), labels.array("noisy_labels")
    known = 4 if kind == "open_set" else 6
    assert labels.attributes["class_names"] == NAMES[:known]
    # Nothing in the labels tells how they came about.
    assert set(labels.attributes) == set(store.read(data / "truth.zarr", TRUTH).attributes)
    assert labels.attributes["params"] == {}
    assert set(labels.inputs) == {"images"}
    assert noisy.max() < known
    assert (facts.array("is_mislabeled") == (noisy != clean)).all()
    assert facts.array("transition_matrix").shape == (6, known)
    about = facts.attributes
    assert about["noise"] == kind
    assert about["measured_rate"] == (noisy != clean).mean() == printed["measured_rate"]
    if kind in MEASURED:
        assert about["measured_rate"] == pytest.approx(MEASURED[kind])
    assert about["nominal_rate"] == CASES[kind].get("rate") == printed["nominal_rate"]
    assert about["convention"].items() >= {
        (k, v) for k, v in CASES[kind].items() if k not in ("rate", "file", "pairs")
    }
    assert facts.inputs["labels"] == labels.digest
    # The place of a file is nobody's business, its bytes are.
    assert str(data) not in str(about["params"])
    assert ("file" in facts.inputs) == ("file" in CASES[kind])
    # The same seed gives the same bytes, wherever they are written.
    inject(data, tmp_path / "again" / "labels.zarr", kind, **at(data, CASES[kind]))
    assert tree(tmp_path / "again" / "labels.zarr") == tree(tmp_path / "labels.zarr")
    assert tree(tmp_path / "again" / "noise.zarr") == tree(tmp_path / "noise.zarr")


def test_a_network_as_the_semantic_classifier_makes_mistakes_and_meets_a_rate(
    data: Path, tmp_path: Path
) -> None:
    fields = {"classifier": "small_cnn", "clean_share": 0.5, "width": 4, "epochs": 30}
    # Mistakes on the other half only would be at most half of the labels; an untrained network makes 5/6.
    assert 0 < inject(data, tmp_path / "a.zarr", "semantic", **fields)["measured_rate"] < 0.5
    assert inject(data, tmp_path / "b.zarr", "semantic", rate=0.25, **fields)["measured_rate"] == 0.25
    assert not list((tmp_path / "scratch").rglob("*.safetensors"))


def test_semantic_noise_is_the_confusion_of_its_classifier(data: Path, tmp_path: Path) -> None:
    inject(data, tmp_path / "labels.zarr", "semantic", **CASES["semantic"])
    clean = store.read(data / "truth.zarr", TRUTH).array("clean_labels")
    pixels = store.read(data / "images.zarr", IMAGES).array("train").reshape(240, -1).astype(float)
    noisy = store.read(tmp_path / "labels.zarr", LABELS).array("noisy_labels")
    centers = np.stack([pixels[clean == c].mean(axis=0) for c in range(6)])
    wrong = noisy != clean
    assert wrong.any()
    # A wrong label lies nearer to the image than a random other class does: the mistake depends on the image.
    distance = ((pixels[wrong, None] - centers[None]) ** 2).sum(axis=2)
    of_label, of_others = distance[np.arange(wrong.sum()), noisy[wrong]], distance.mean(axis=1)
    assert (of_label < of_others).mean() > 0.8


def test_verified_labels_are_clean_and_of_every_known_class(data: Path, tmp_path: Path) -> None:
    clean = store.read(data / "truth.zarr", TRUTH).array("clean_labels")
    for kind, known, name in (("symmetric", 6, "labels.zarr"), ("open_set", 4, "L.zarr")):
        inject(data, tmp_path / name, kind, verified=3, **CASES[kind])
        beside = tmp_path / ("verified.zarr" if name == "labels.zarr" else "L.verified.zarr")
        verified, labels = store.read(beside, VERIFIED), store.read(tmp_path / name, LABELS)
        index = verified.array("index")
        assert (np.diff(index) > 0).all()
        assert (verified.array("verified_labels") == clean[index]).all()
        assert np.bincount(clean[index]).tolist() == [3] * known
        assert verified.attributes["class_names"] == labels.attributes["class_names"]
        assert verified.inputs == labels.inputs
    # They follow the seed, and leave the labels as they are.
    inject(data, tmp_path / "other" / "labels.zarr", "symmetric", seed=1, verified=3, **CASES["symmetric"])
    other = store.read(tmp_path / "other" / "verified.zarr", VERIFIED).array("index")
    assert other.tolist() != store.read(tmp_path / "verified.zarr", VERIFIED).array("index").tolist()
    inject(data, tmp_path / "none" / "labels.zarr", "symmetric", **CASES["symmetric"])
    assert tree(tmp_path / "none" / "labels.zarr") == tree(tmp_path / "labels.zarr")
    assert not (tmp_path / "none" / "verified.zarr").exists()


def test_more_verified_labels_than_a_class_has_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="class 'class 0' has 40 training samples, fewer than --verified-per-class 41"
    ):
        inject(data, tmp_path / "labels.zarr", "symmetric", verified=41, **CASES["symmetric"])
    assert not (tmp_path / "labels.zarr").exists()


@pytest.mark.parametrize(
    ("kind", "fields", "error", "message"),
    [
        ("file", {"file": "moved.csv"}, DataError, "240 of 240 clean labels differ"),
        ("cifar_n", {"file": "moved.npz", "which": "worse"}, DataError, "240 of 240 clean labels differ"),
        ("matrix", {"file": "small.npy"}, DataError, "5 x 5, but the data set has 6 classes"),
        (
            "asymmetric",
            {"rate": 0.2, "map": "cifar10"},
            ParamsError,
            "is for 10 classes, but the data set has 6",
        ),
        ("open_set", {"rate": 0.2}, ParamsError, "leaves 0 of 6 classes known; give at most 4"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_and_nothing_written(
    data: Path, tmp_path: Path, kind: str, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    clean = store.read(data / "truth.zarr", TRUTH).array("clean_labels")
    other = (clean + 1) % 6
    np.savetxt(tmp_path / "moved.csv", np.c_[clean, other], "%d,%d", header="label,clean_label", comments="")
    np.savez(tmp_path / "moved.npz", clean_label=other, worse_label=clean)
    np.save(tmp_path / "small.npy", np.eye(5))
    with pytest.raises(error, match=message):
        inject(data, tmp_path / "labels.zarr", kind, **at(tmp_path, fields))
    assert not list(tmp_path.glob("*.zarr"))


@pytest.mark.parametrize("classifier", ["logistic", "small_cnn"])
def test_a_semantic_classifier_that_learned_nothing_is_refused(tmp_path: Path, classifier: str) -> None:
    rng = np.random.default_rng(0)  # pixels that know nothing of the labels
    write(tmp_path, rng.integers(0, 256, (240, 6, 6, 1)).astype(np.uint8), np.repeat(np.arange(6), 40))
    fields = {"classifier": classifier, "clean_share": 0.1, "epochs": 1, "width": 2}
    message = f"'{classifier}' learned nothing: trained on 10% .*chance is 16.7%; raise clean_share or epochs"
    with pytest.raises(DataError, match=message):
        inject(tmp_path, tmp_path / "labels.zarr", "semantic", **fields)


def test_a_truth_without_clean_labels_and_other_images_are_refused(data: Path, tmp_path: Path) -> None:
    truth = store.read(data / "truth.zarr", TRUTH)
    arrays, about = {"test_labels": truth.array("clean_labels")}, {"class_names": NAMES}
    store.write(tmp_path / "truth.zarr", TRUTH, arrays, inputs=truth.inputs, attributes=about)
    with pytest.raises(ArtifactError, match="no clean training labels"):
        inject(tmp_path, tmp_path / "labels.zarr", "symmetric", **CASES["symmetric"])
    write(tmp_path, np.zeros((240, 6, 6, 1), np.uint8), truth.array("clean_labels"))
    inputs = inject_noise.Inputs("file", data / "truth.zarr", tmp_path / "L.zarr", tmp_path / "images.zarr")
    params = noise.load("file").Params(file=str(data / "given.csv"))
    with pytest.raises(ArtifactError, match="was not made from"):
        inject_noise.run(inputs, params, session(tmp_path))
    with pytest.raises(ArtifactError, match="noise 'file' needs the images; give --images"):
        inject_noise.run(inject_noise.Inputs("file", data / "truth.zarr", tmp_path / "L.zarr"), params)


def test_images_are_read_only_where_a_noise_needs_them(data: Path, tmp_path: Path) -> None:
    inputs = inject_noise.Inputs("symmetric", data / "truth.zarr", tmp_path / "L.zarr", tmp_path / "no.zarr")
    inject_noise.run(inputs, noise.load("symmetric").Params(**CASES["symmetric"]), session(tmp_path))
    for kind, needed in (("symmetric", None), ("file", Path("i.zarr"))):
        given = {
            "truth": Path("t.zarr"),
            "out": Path("L.zarr"),
            "images": Path("i.zarr"),
            "verified_per_class": 5,
        }
        inputs = inject_noise.STAGE.inputs(given, None, {"kind": kind})
        assert inputs.images == needed
        assert inputs.verified_per_class == 5


@pytest.mark.parametrize("number", ["0", "-3", "few", "1.5"])
def test_a_number_of_verified_labels_that_is_none_is_refused(number: str) -> None:
    words = ["--kind", "symmetric", "--rate", "0.4", f"--verified-per-class={number}", "--dry-run"]
    done = CliRunner().invoke(options.click_command(inject_noise.STAGE), words)
    assert isinstance(done.exception, ParamsError)
    assert re.fullmatch(r"--verified-per-class is .*; give a whole number from 1 on", str(done.exception))


def test_a_missing_truth_is_told_whatever_other_options_are_given(tmp_path: Path) -> None:
    words = ["--kind", "symmetric", "--rate", "0.4", "--exclude-true-class", "--verified-per-class", "5"]
    places = ["--truth", str(tmp_path / "truth.zarr"), "--out", str(tmp_path / "labels.zarr")]
    done = CliRunner().invoke(options.click_command(inject_noise.STAGE), [*words, *places])
    assert isinstance(done.exception, ArtifactError)
    assert "truth.zarr" in str(done.exception)


def test_options_come_from_every_model() -> None:
    assert {m.rsplit(".", 1)[-1] for m in inject_noise.STAGE.fields} == set(noise.available())
    fields = {name for kind in noise.available() for name in noise.load(kind).Params.model_fields}
    assert set(specs_of(inject_noise.STAGE)) == fields


def documented() -> list[str]:
    text = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    return re.findall(r"^    noisyctl inject-noise (.*)$", text, re.M)


def test_every_model_has_a_command_in_the_documentation() -> None:
    assert {re.search(r"--kind (\w+)", words)[1] for words in documented()} == set(noise.available())  # type: ignore[index]


@pytest.mark.parametrize("words", documented())
def test_documented_commands_are_understood(words: str) -> None:
    done = CliRunner().invoke(options.click_command(inject_noise.STAGE), [*shlex.split(words), "--dry-run"])
    assert done.exit_code == 0, done.exception


def test_a_map_by_hand_on_the_command_line(data: Path, tmp_path: Path) -> None:
    words = ["--truth", str(data / "truth.zarr"), "--out", "L.zarr", "--verified-per-class", "2", "--json"]
    noise_words = ["--kind", "asymmetric", "--map", "custom", "--pairs", "{0: 5}", "--rate", "1"]
    done = call("inject-noise", *noise_words, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    matrix = store.read(tmp_path / "L.noise.zarr", NOISE).array("transition_matrix")
    assert matrix.tolist() == [[0, 0, 0, 0, 0, 1], *np.eye(6)[1:].tolist()]
    assert len(store.read(tmp_path / "L.verified.zarr", VERIFIED).array("index")) == 12
