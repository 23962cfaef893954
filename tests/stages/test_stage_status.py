"""`status` tells what is out of date although nothing that it was made from has changed: other code, other params."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from noisyctl.cli.main import main
from noisyctl.runs import record

PARAMS = "noises:\n  sym: {kind: symmetric, rate: 0.4, include_true_class: false}\nknn: {k: 5}\n"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """A folder with digits, one noise, features of one epoch and their neighbors; `status` as JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    Path("params.yaml").write_text(PARAMS)
    run(monkeypatch, "prepare-data")
    run(monkeypatch, "inject-noise", "--noise", "sym")
    run(monkeypatch, "pretrain-simclr", "--backbone", "small_cnn", "--width", "2", "--epochs", "1")
    run(monkeypatch, "mine-knn")
    run(monkeypatch, "train-method", "knn_vote", "--noise", "sym")

    def status() -> dict[str, str]:
        capsys.readouterr()
        run(monkeypatch, "status", "--noise", "sym", "--json")
        found: dict[str, str] = json.loads(capsys.readouterr().out)
        return found

    return status


def test_other_code_and_other_params_are_told_and_the_command_is_the_one_that_was_typed(
    made, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    features, neighbors = "data/digits/simclr/features.zarr", "data/digits/simclr/neighbors.zarr"
    found = made()
    assert set(found.values()) == {
        "there",
        "noisyctl evaluate",
    }  # options that were typed are no other params

    Path("params.yaml").write_text(PARAMS.replace("k: 5", "k: 7"))
    found = made()
    assert found[neighbors] == "stale: was made with other params (k 5, now 7)"
    assert (found[features], found["next"]) == ("there", "noisyctl mine-knn")
    Path("params.yaml").write_text(PARAMS)
    assert made()[neighbors] == "there"

    digests = record.code.digests_of

    def edited(stage: str) -> dict[str, str]:
        known = digests(stage)
        return known | {name: "0" * 64 for name in known if name == "noisyctl.pretraining.simclr"}

    monkeypatch.setattr(record.code, "digests_of", edited)
    found = made()
    assert found[features] == "stale: was made by other code than it is now (noisyctl.pretraining.simclr)"
    assert found[neighbors] == "there"
    assert found["next"] == "noisyctl pretrain-simclr --backbone small_cnn --width 2 --epochs 1"


def test_status_of_what_is_up_to_date_imports_no_torch(made) -> None:  # type: ignore[no-untyped-def]
    ask = "import sys; from noisyctl.cli.main import app; app(standalone_mode=False); print('torch' in sys.modules)"
    words = ("status", "--noise", "sym", "--json")
    done = subprocess.run([sys.executable, "-c", ask, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert set(json.loads(done.stdout.rpartition("False")[0]).values()) == {"there", "noisyctl evaluate"}


def test_a_record_of_a_former_artifact_says_nothing(made) -> None:  # type: ignore[no-untyped-def]
    place, scratch = Path("data/digits/simclr/neighbors.zarr"), Path("scratch")
    digest = record.digest_of(place)
    assert digest is not None
    kept = record.read(scratch, place, digest)
    assert kept is not None
    assert kept.shown == "noisyctl mine-knn"
    assert record.read(scratch, place, "another") is None
    for path in (scratch / "made").iterdir():
        path.write_text("{damaged")
    assert record.read(scratch, place, digest) is None
    assert set(made().values()) == {"there", "noisyctl evaluate"}  # judged by inputs alone


def test_every_command_that_writes_artifacts_knows_its_code() -> None:
    from noisyctl import code

    for words, module in (
        (("mine-knn",), "stages.mine_knn"),
        (("pretrain-moco",), "noisyctl.pretraining.moco"),
        (("prepare-data",), "noisyctl.datasets.digits"),
        (("inject-noise",), "noisyctl.noise.symmetric"),
        (("train-method", "elr"), "noisyctl.methods.elr"),
        (("cluster-scan",), "noisyctl.pretraining.scan"),
    ):
        stage = code.stage_of(words, module)
        assert code.files_of(stage), stage
    assert importlib.import_module("stages.cluster_scan").STAGE.words == ("cluster-scan",)
