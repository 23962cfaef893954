"""Bad input to a stage: one error that names place and cure, and nothing is written."""

import shutil
from pathlib import Path

import numpy as np
import pipeline
import pytest

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, IMAGES, LABELS, VERIFIED
from noisyctl.errors import ArtifactError, DataError, NoisyctlError, ParamsError
from noisyctl.runs import reading, tasks
from stages import mine_knn, train_method, warmup


@pytest.fixture
def twin(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def rewrite_labels(home: Path, labels: np.ndarray, images: str | None = None) -> None:
    about = store.read(home / "labels.zarr", LABELS)
    names = {"class_names": about.attributes["class_names"]}
    made_from = {"images": images or about.inputs["images"]}
    store.write(home / "labels.zarr", LABELS, {"noisy_labels": labels}, inputs=made_from, attributes=names)


def refuse(home: Path, method: str, kind: type[NoisyctlError], message: str, **changes: Path | None) -> None:
    inputs = vars(pipeline.inputs(home, method, home / "run")) | changes
    with pytest.raises(kind, match=message):
        train_method.run(train_method.Inputs(**inputs), pipeline.params_of(method, 1), pipeline.session(home))
    assert not (home / "run").exists()


def test_labels_outside_the_classes(twin: Path) -> None:
    rewrite_labels(twin, np.full(pipeline.SIZE, 10))
    refuse(twin, "cross_entropy", ParamsError, r"labels\.zarr: labels lie outside its 10 classes; remake it")


def test_a_class_without_samples(twin: Path) -> None:
    rewrite_labels(twin, np.arange(pipeline.SIZE) % 9)
    refuse(
        twin, "cross_entropy", ParamsError, "no sample is labeled 9; drop the class or lower the noise rate"
    )


def test_labels_of_other_images(twin: Path) -> None:
    rewrite_labels(twin, np.arange(pipeline.SIZE) % 10, images="of another data set")
    refuse(
        twin,
        "cross_entropy",
        ArtifactError,
        r"labels\.zarr was made from other images than .*images\.zarr; run `",
    )


def test_a_warm_up_on_other_labels(twin: Path) -> None:
    rewrite_labels(twin, np.arange(pipeline.SIZE) % 10)
    message = r"networks\.safetensors was made from other labels than .*labels\.zarr; run `noisyctl warmup`$"
    refuse(twin, "cross_entropy", ArtifactError, message)


def test_neighbors_of_another_data_set(twin: Path) -> None:
    features = store.read(twin / "simclr/features.zarr", FEATURES)
    arrays = {name: features.array(name)[:100] for name in ("features", "embeddings")}
    store.write(twin / "other.zarr", FEATURES, arrays, inputs={"images": "others"})
    where = mine_knn.Inputs(twin / "other.zarr", twin / "neighbors.zarr")
    mine_knn.run(where, mine_knn.Params(k=3), pipeline.session(twin))
    refuse(
        twin,
        "knn_vote",
        ArtifactError,
        r"neighbors\.zarr was made from other images than .*images\.zarr; run `noisyctl mine-knn`",
    )


@pytest.mark.parametrize(
    ("method", "missing", "first"),
    [("knn_vote", "neighbors", "noisyctl mine-knn"), ("mixnn", "warmup", "noisyctl warmup")],
)
def test_a_method_whose_needs_are_missing_names_the_command_to_run_first(
    twin: Path, method: str, missing: str, first: str
) -> None:
    refuse(
        twin,
        method,
        ArtifactError,
        f"run `[^`]*{first} [^`]*--out .*nowhere` first",
        **{missing: twin / "nowhere"},
    )


def test_verified_labels_for_a_method_that_makes_no_use_of_them(twin: Path) -> None:
    refuse(twin, "mixnn", ParamsError, "leave out --verified", verified=twin / "verified.zarr")


def test_verified_labels_of_other_images(twin: Path) -> None:
    arrays = {"index": np.arange(3), "verified_labels": np.arange(3)}
    about = {"class_names": ["a", "b", "c"]}
    store.write(twin / "verified.zarr", VERIFIED, arrays, inputs={"images": "x"}, attributes=about)
    digest = store.read(twin / "images.zarr", IMAGES).digest
    with pytest.raises(ArtifactError, match="was not made from"):
        reading.read_verified(twin / "verified.zarr", digest, tasks.torch.device("cpu"))


@pytest.mark.parametrize("rate", [0.001, 0.999])
def test_a_validation_rate_that_leaves_nothing(rate: float) -> None:
    with pytest.raises(ParamsError, match="choose another rate"):
        tasks.hold_out(100, rate, 0, tasks.torch.device("cpu"))


def test_no_verified_sample_validates_and_too_few_others_are_refused() -> None:
    cpu, verified = tasks.torch.device("cpu"), tasks.torch.arange(60)
    held_out = tasks.hold_out(100, 0.4, 0, cpu, verified)
    assert held_out is not None and held_out.tolist() == list(range(60, 100))
    with pytest.raises(
        ParamsError, match=r"holds out 50, and only 40 are not verified.*a rate of at most 0\.4"
    ):
        tasks.hold_out(100, 0.5, 0, cpu, verified)


@pytest.mark.parametrize(
    "damage", ["missing chunk", "truncated chunk", "flipped bit", "truncated header", "empty"]
)
def test_a_damaged_artifact_is_named_with_its_cure(twin: Path, damage: str) -> None:
    chunk = max(
        (p for p in (twin / "images.zarr/train").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    header = twin / "images.zarr/zarr.json"
    whole = bytearray(chunk.read_bytes())
    whole[len(whole) // 2] ^= 1
    match damage:
        case "missing chunk":
            chunk.unlink()
        case "truncated chunk":
            chunk.write_bytes(whole[:-50])
        case "flipped bit":
            chunk.write_bytes(whole)
        case "truncated header":
            header.write_bytes(header.read_bytes()[:100])
        case "empty":
            shutil.rmtree(twin / "images.zarr")
            (twin / "images.zarr").mkdir()
    refuse(twin, "cross_entropy", ArtifactError, r"images\.zarr.*make it with `noisyctl prepare-data`")


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.ones((50, 4)), DataError, "the encoder has collapsed"),
        (np.zeros((50, 4)), DataError, "all zero"),
        (np.where(np.arange(200).reshape(50, 4) == 9, np.nan, 1.0), DataError, r"NaN.*rows \[2\]"),
    ],
)
def test_features_that_cannot_be_mined(
    tmp_path: Path, values: np.ndarray, kind: type[NoisyctlError], message: str
) -> None:
    arrays = {"features": values, "embeddings": values}
    store.write(tmp_path / "f.zarr", FEATURES, arrays, inputs={"images": "x"})
    where = mine_knn.Inputs(tmp_path / "f.zarr", tmp_path / "n.zarr")
    with pytest.raises(kind, match=message):
        mine_knn.run(where, mine_knn.Params(k=3), pipeline.session(tmp_path))
    assert not (tmp_path / "n.zarr").exists()


def test_more_neighbors_than_samples(home: Path, tmp_path: Path) -> None:
    where = mine_knn.Inputs(home / "simclr/features.zarr", tmp_path / "n.zarr")
    with pytest.raises(ParamsError, match="choose k from 1 to 255"):
        mine_knn.run(where, mine_knn.Params(k=256), pipeline.session(home))


def test_an_encoder_of_another_shape(home: Path, tmp_path: Path) -> None:
    where = warmup.Inputs(
        home / "images.zarr", home / "labels.zarr", tmp_path / "w", home / "simclr/encoder.safetensors"
    )
    params = warmup_params(width=8, start="encoder")
    with pytest.raises(ArtifactError, match=r"width 4 .* width 8 .*give both the same"):
        warmup.run(where, params, pipeline.session(home))


def test_an_encoder_that_was_not_pretrained_yet(home: Path, tmp_path: Path) -> None:
    where = warmup.Inputs(
        home / "images.zarr", home / "labels.zarr", tmp_path / "w", tmp_path / "e.safetensors"
    )
    with pytest.raises(ArtifactError, match="does not exist; make it with `noisyctl pretrain-simclr`"):
        warmup.run(where, warmup_params(start="encoder"), pipeline.session(home))


def warmup_params(**values: object):  # type: ignore[no-untyped-def]
    from noisyctl.training.warmup import Params

    return Params(**({"backbone": "small_cnn", "width": 4, "epochs": 1} | values))  # type: ignore[arg-type]
