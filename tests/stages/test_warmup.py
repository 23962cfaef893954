"""Warm-up: where its weights come from, which head it has, and the confidence penalty."""

from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
import torch

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ArtifactError, DataError, ParamsError
from noisyctl.nn.networks import build
from noisyctl.runs import reading
from noisyctl.runs.warmup import Starts, load_start
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training.warmup import Params
from stages import warmup

SMALL: dict[str, Any] = {"backbone": "small_cnn", "width": 4, "epochs": 0, "networks": 2}


def run(home: Path, out: Path, **values: Any) -> dict[str, Any]:
    encoder, clusters = home / "simclr/encoder.safetensors", home / "clusters.safetensors"
    inputs = warmup.Inputs(home / "images.zarr", home / "labels.zarr", out, encoder, clusters)
    warmup.run(inputs, Params(**SMALL | values), pipeline.session(home))
    return reading.read_networks(out / "networks.safetensors", "noisyctl warmup")[0]


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_networks_start_apart_or_from_one_encoder_or_from_one_clustering(home: Path, tmp_path: Path) -> None:
    apart = run(home, tmp_path / "random")
    assert not equal(apart["network1"].features, apart["network2"].features)
    encoder, _ = reading.read_networks(home / "simclr/encoder.safetensors", "")
    pretrained = run(home, tmp_path / "encoder", start="encoder")
    assert equal(pretrained["network1"].features, encoder["network"].features)
    assert equal(pretrained["network2"].features, encoder["network"].features)
    assert not equal(pretrained["network1"].head, pretrained["network2"].head)
    clusters, _ = reading.read_networks(home / "clusters.safetensors", "")
    clustered = run(home, tmp_path / "clusters", start="clusters")
    assert equal(clustered["network1"], clusters["network"])
    assert equal(clustered["network2"], clusters["network"])


def test_a_warm_up_may_start_from_a_run_on_the_same_classes(home: Path, tmp_path: Path) -> None:
    values = SMALL | {"start": "run", "networks": 1}
    places = (home / "images.zarr", home / "labels.zarr", tmp_path / "out")
    made, _ = reading.read_networks(home / "warmup/networks.safetensors", "")
    warmup.run(warmup.Inputs(*places, run=home / "warmup"), Params(**values), pipeline.session(home))
    started, header = reading.read_networks(tmp_path / "out/networks.safetensors", "")
    assert equal(started["network1"], made["network1"]) and "run" in header.inputs
    with pytest.raises(ParamsError, match="none is named; give --run DIR"):
        warmup.run(warmup.Inputs(*places), Params(**values), pipeline.session(home))
    with pytest.raises(ArtifactError, match="the warm-up builds small_cnn of width 8"):
        warmup.run(
            warmup.Inputs(*places, run=home / "warmup"),
            Params(**values | {"width": 8}),
            pipeline.session(home),
        )
    with pytest.raises(
        ArtifactError, match=r"was trained on the classes 0, 1, .*the labels have a, b; give a run"
    ):
        load_start(Starts(run=home / "warmup"), [], Params(start="run"), samples=None, class_names=["a", "b"])


def test_the_first_of_two_networks_is_the_one_that_is_trained_alone(home: Path, tmp_path: Path) -> None:
    """The second draws its own views and order after it, so that a method of one network may take the first."""
    values = {"epochs": 2, "batch_size": 64}
    two, alone = (run(home, tmp_path / str(k), networks=k, **values) for k in (2, 1))
    assert equal(two["network1"], alone["network1"])
    assert not equal(two["network2"], alone["network1"])
    traces = [store.read(tmp_path / str(k) / "trace.zarr", TRACE) for k in (2, 1)]
    assert np.array_equal(traces[0].array("losses")[:, 0], traces[1].array("losses"))
    assert np.array_equal(traces[0].array("test_predictions"), traces[1].array("test_predictions"))


def test_only_the_head_learns_while_batch_statistics_move(home: Path, tmp_path: Path) -> None:
    encoder, _ = reading.read_networks(home / "simclr/encoder.safetensors", "")
    found = run(home, tmp_path / "w", start="encoder", train="head", epochs=1, views="strong")["network1"]
    before, after = encoder["network"].features, found.features
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before.buffers(), after.buffers(), strict=True))


def test_the_confidence_penalty_leaves_predictions_less_sure(home: Path, tmp_path: Path) -> None:
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import TRACE

    def sureness(out: Path, weight: float) -> float:
        run(home, out, epochs=6, batch_size=32, penalty_weight=weight)
        return float(store.read(out / "trace.zarr", TRACE).array("train_probabilities").max(axis=1).mean())

    assert sureness(tmp_path / "with", 1.0) < sureness(tmp_path / "without", 0.0)


def test_an_mlp_head(home: Path, tmp_path: Path) -> None:
    found = run(home, tmp_path / "w", head="mlp")["network1"]
    assert found.spec.head == "mlp"
    assert sum(isinstance(m, torch.nn.Linear) for m in found.head.modules()) == 2


def test_weights_from_a_file_fill_both_networks(home: Path, tmp_path: Path) -> None:
    spec = run(home, tmp_path / "spec")["network1"].spec
    source = build(spec, stream(7, "imagenet"))
    torch.save(source.features.state_dict(), tmp_path / "weights.pth")
    found = run(home, tmp_path / "w", start="weights", weights=str(tmp_path / "weights.pth"))
    assert equal(found["network1"].features, source.features)
    assert equal(found["network2"].features, source.features)


def test_weights_that_are_missing_or_not_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="give --weights FILE or --weights download"):
        run(home, tmp_path / "w", start="weights")
    with pytest.raises(DataError, match=r"nowhere\.pth does not exist"):
        run(home, tmp_path / "w", start="weights", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(ParamsError, match=r"torchvision has no weights of backbone 'small_cnn'"):
        run(home, tmp_path / "w", start="weights", weights="download")


def test_each_network_sees_a_balanced_part_of_its_own(home: Path, tmp_path: Path) -> None:
    """Five batches of 8 are four of each of ten classes."""
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import TRACE

    run(home, tmp_path / "w", epochs=1, epoch_batches=5, batch_size=8)
    trace = store.read(tmp_path / "w/trace.zarr", TRACE)
    given, losses = trace.array("noisy_labels"), trace.array("losses")[-1]
    parts = [set((row > 0).nonzero()[0].tolist()) for row in losses]
    assert all(np.bincount(given[sorted(part)]).tolist() == [4] * 10 for part in parts)
    assert parts[0] != parts[1]


@pytest.mark.parametrize("views", ["weak", "strong", "plain"])
def test_it_learns_from_the_views_that_are_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: str
) -> None:
    used = set()
    for name in ("weak", "strong", "plain"):
        original = getattr(Task, name)

        def recorded(self, *asked, name=name, original=original):  # type: ignore[no-untyped-def]
            used.add(name)
            return original(self, *asked)

        monkeypatch.setattr(Task, name, recorded)
    run(home, tmp_path / "w", epochs=1, views=views)
    assert used == {views}


def test_the_rate_is_constant_or_the_cosine_of_mixnn_from_the_first_epoch_on(
    home: Path, tmp_path: Path
) -> None:
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import TRACE

    def rates(name: str, **values: Any) -> list[float]:
        run(home, tmp_path / name, epochs=4, batch_size=128, learning_rate=0.02, **values)
        found: list[float] = (
            store.read(tmp_path / name / "trace.zarr", TRACE).array("scalar_learning_rate").tolist()
        )
        return found

    assert rates("constant", floor_rate=0.001) == pytest.approx([0.02] * 4)
    assert rates("cosine", period=3, floor_rate=0.001) == pytest.approx([0.02, 0.01525, 0.00575, 0.02])


def test_the_weights_follow_the_rate(home: Path, tmp_path: Path) -> None:
    """A second epoch at a rate of nearly 0 moves next to nothing."""
    short = run(home, tmp_path / "a", epochs=1, batch_size=128, period=2)["network1"]
    still = run(home, tmp_path / "b", epochs=2, batch_size=128, period=2, floor_rate=0.0)["network1"]
    more = run(home, tmp_path / "c", epochs=2, batch_size=128)["network1"]

    def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return float(sum((a - b).detach().abs().sum() for a, b in pairs))

    assert 0 < apart(short, still) < 0.8 * apart(short, more)
