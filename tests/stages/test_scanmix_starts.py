"""What ScanMix starts from: each refusal names a command that, run as it stands, leads to a run that does not collapse."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.cli import main as cli
from noisyctl.cli import names
from noisyctl.errors import ArtifactError, ParamsError

SMALL = "backbone: small_cnn, width: 4"
PARAMS = f"""\
dataset: digits
threads: 1
noises:
  sym40: {{kind: symmetric, rate: 0.4, include_true_class: false}}
simclr: {{{SMALL}, embedding_size: 16, epochs: 1, batch_size: 256}}
knn: {{k: 5}}
scan: {{epochs: 1}}
warmups:
  default: {{{SMALL}, epochs: 1}}
  clustered: {{{SMALL}, epochs: 1}}
  pretrained: {{{SMALL}, epochs: 1}}
methods:
  scanmix: {{epochs: 1}}
"""
HOME = Path("data/digits")


def call(line: str) -> None:
    words = [*shlex.split(line.removeprefix("noisyctl ")), "--device", "cpu", "--json"]
    before, sys.argv = sys.argv, ["noisyctl", *words]
    try:
        cli.app(words, standalone_mode=False)
    finally:
        sys.argv = before


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where images, noisy labels, an encoder and neighbors are, and nothing that comes after them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / ".noisyctl"))
    names.tell_renamed.cache_clear()
    Path("params.yaml").write_text(PARAMS)
    for line in ("prepare-data", "inject-noise --seed 1", "pretrain-simclr", "mine-knn"):
        call(line)
    return tmp_path


def refused(line: str) -> list[str]:
    """The commands of the message."""
    with pytest.raises(ArtifactError) as error:
        call(line)
    (commands,) = re.findall(r"run `([^`]+)`", str(error.value))
    assert "\n" not in str(error.value)
    return commands.split(" && ")


def test_from_pretraining_on_the_messages_alone_lead_to_a_run(pretrained: Path) -> None:
    train = "train-method scanmix --seed 1"
    (cluster,) = refused(train)
    assert cluster.startswith("noisyctl cluster-scan --seed 1 --images data/digits/images.zarr")
    call(cluster)
    (warm,) = refused(train)
    assert "--profile clustered" in warm
    call(warm)
    call(train)
    trace = store.read(HOME / "runs/scanmix/sym40-s1/trace.zarr", TRACE)
    assert trace.attributes["method"] == "scanmix" and trace.attributes["params"]["form"] == "code"
    started = store.read(HOME / "warmup/clustered/sym40-s1/trace.zarr", TRACE)
    profile = {name: started.attributes["params"][name] for name in ("start", "train", "views")}
    assert profile == {
        "start": "clusters",
        "train": "head",
        "views": "strong",
    }  # with no word of it in params.yaml


def test_without_pretraining_the_message_begins_with_it(pretrained: Path) -> None:
    import shutil

    shutil.rmtree(HOME / "simclr")
    with pytest.raises(ArtifactError, match="needs mined neighbors") as error:
        call("train-method scanmix --seed 1")
    (commands,) = re.findall(r"run `([^`]+)`", str(error.value))
    for command in commands.split(" && "):
        call(command)
    (cluster,) = refused("train-method scanmix --seed 1")
    assert cluster.startswith("noisyctl cluster-scan")


def test_a_warm_up_from_random_weights_is_refused_with_the_command_for_these_paths(pretrained: Path) -> None:
    call("cluster-scan")
    call("warmup --seed 1")
    train = "train-method scanmix --seed 1 --warmup-profile default"
    with pytest.raises(ArtifactError, match=r"default/sym40-s1 started from random weights") as error:
        call(train)
    warm, given = re.findall(r"`([^`]+)`", str(error.value))
    assert given == "--warmup data/digits/warmup/clustered/sym40-s1"
    call(warm)
    call(f"{train} {given}")
    assert (HOME / "runs/scanmix/sym40-s1/trace.zarr").exists()


def test_a_warm_up_from_other_clusters_is_refused(pretrained: Path) -> None:
    call("cluster-scan")
    call("warmup --seed 1 --profile clustered")
    call("cluster-scan --epochs 2")
    with pytest.raises(
        ArtifactError, match=r"was made from other clusters than .*; run `noisyctl warmup --profile clustered"
    ):
        call("train-method scanmix --seed 1")


def test_the_printed_form_says_what_it_is_and_needs_an_encoder_but_no_clusters(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("warmup --seed 1")
    train = "train-method scanmix --seed 1 --form printed --warmup-profile default"
    with pytest.raises(
        ArtifactError, match=r"started from an encoder or clusters, .* from random weights"
    ) as error:
        call(train)
    warm, given = re.findall(r"`([^`]+)`", str(error.value))
    assert "--profile pretrained" in warm and "--encoder data/digits/simclr/encoder.safetensors" in warm
    call(warm)
    capsys.readouterr()
    call(f"{train} {given}")
    told = [line for line in capsys.readouterr().err.splitlines() if "can collapse" in line]
    assert len(told) == 1 and told[0].startswith("note: --form printed")
    assert not (HOME / "simclr/clusters.safetensors").exists()


def test_the_former_name_gives_the_same_bytes_and_says_once_that_it_goes(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("cluster-scan")
    call("warmup --seed 1 --profile clustered")
    call("train-method scanmix --seed 1 --out new")
    Path("params.yaml").write_text(PARAMS.replace("  scanmix:", "  scanmix_official:"))
    capsys.readouterr()
    call("train-method scanmix_official --seed 1 --out old")
    told = [line for line in capsys.readouterr().err.splitlines() if "is called" in line]
    assert told == ["note: scanmix_official is called scanmix now; the old name goes with the next version"]
    new, old = (Path(name, "networks.safetensors").read_bytes() for name in ("new", "old"))
    assert new == old
    traces = [store.read(Path(name, "trace.zarr"), TRACE) for name in ("new", "old")]
    assert traces[0].digest == traces[1].digest
    assert "scanmix_official" not in methods.available() and methods.load("scanmix_official").NEEDS.clusters


def test_both_names_in_params_yaml_are_refused(pretrained: Path) -> None:
    Path("params.yaml").write_text(PARAMS + "  scanmix_official: {epochs: 2}\n")
    with pytest.raises(
        ParamsError, match=r"params.yaml:14: methods.scanmix_official is another name of .*leave one"
    ):
        call("train-method scanmix --dry-run")


def test_values_under_the_former_name_count(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(
        PARAMS.replace("  scanmix: {epochs: 1}", "  scanmix_official: {epochs: 7}")
    )
    call("train-method scanmix --dry-run --set methods.scanmix_official.batch_size=5")
    shown = capsys.readouterr().out
    assert '"epochs": {"source": "params.yaml:13", "value": 7}' in shown
    assert '"batch_size": {"source": "--set", "value": 5}' in shown


def test_on_real_digits_it_does_not_end_in_one_class(pretrained: Path) -> None:
    """A short run of a small network: not accurate, but its predictions are of many classes."""
    call("pretrain-simclr --epochs 20 --width 8 --learning-rate 0.2 --temperature 0.5")
    call("mine-knn")
    call("cluster-scan --epochs 15 --learning-rate 0.001")
    call("warmup --seed 1 --profile clustered --width 8 --epochs 3")
    call("train-method scanmix --seed 1 --epochs 4 --cluster-batch-size 64")
    predictions = store.read(HOME / "runs/scanmix/sym40-s1/trace.zarr", TRACE).array("test_predictions")[-1]
    assert len(np.unique(predictions)) >= 8 and np.bincount(predictions).max() < 0.3 * len(predictions)
