"""The papers' tables of ablations: the params of every row train, each into something else, and do what the row says."""

import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pipeline
import pytest
import tiny
import torch

from noisyctl.methods import smp, two_stage
from noisyctl.runs import reading
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training.warmup import Params
from stages import evaluate, train_method, warmup

LABELS = torch.where(torch.arange(24) < 6, (tiny.TRUTH + 1) % tiny.CLASSES, tiny.TRUTH)  # a quarter is wrong


def trained(name: str, rows: dict[str, dict[str, Any]], task: Task) -> dict[str, Any]:
    """The state of each row; no two rows may have the same weights."""
    states = {row: tiny.train(name, task, tiny.params_of(name, **values))[0] for row, values in rows.items()}
    for one, other in combinations(rows, 2):
        assert not torch.equal(tiny.weights(states[one]), tiny.weights(states[other])), (one, other)
    return states


def test_mixnn_table_iv() -> None:
    rows = {
        "MixNN": {},
        "w/o weight estimation (AVG)": {"weights": "average"},
        "w/o weight estimation (RDM)": {"weights": "random"},
        "w/o label correction": {"correction_epoch": 1000},
        "w/o K nearest neighbours": {"partners": "random"},
    }
    states = trained("mixnn", rows, tiny.task_of(LABELS))
    for row, state in states.items():
        moved = bool((state.targets.max(dim=1).values < 1).any())
        assert moved == (row != "w/o label correction"), row


def test_mixnn_figure_7c() -> None:
    trained("mixnn", {f"K={k}": {"num_neighbors": k} for k in (1, 2, 3)}, tiny.task_of(LABELS))


def directions(rows: dict[str, dict[str, Any]], task: Task) -> None:
    """What corrects the labels; no two rows may have the same."""
    (network,) = tiny.networks_of(smp)
    found = {}
    for row, values in rows.items():
        classes, found[row] = smp.class_directions(network, task, smp.Params(**values), stream(0, "smp"))
        assert classes.tolist() == [0, 1, 2, 3]
    for one, other in combinations(rows, 2):
        assert not torch.equal(found[one], found[other]), (one, other)


def test_smp_table_3() -> None:
    """Of the six images of a class; 1280 are more than there are."""
    rows = {f"m={m}": {"samples_per_class": m, "num_prototypes": 2} for m in (2, 4, 1280)}
    directions(rows, tiny.task_of(LABELS))


@pytest.mark.parametrize("verified", [None, (torch.arange(16), tiny.TRUTH[:16])], ids=["noisy", "25k verify"])
def test_smp_table_4(verified: Any) -> None:
    ways = {"K-means++": "kmeans", "Density peak Euc.": "density_peaks", "Ours": "densest_apart"}
    rows = {row: {"selection": way, "num_prototypes": 2} for row, way in ways.items()}
    directions(rows, tiny.task_of(LABELS, verified=verified))


def test_smp_figure_4() -> None:
    directions({f"p={p}": {"num_prototypes": p} for p in (1, 2, 4)}, tiny.task_of(LABELS))
    trained("smp", {f"alpha={a}": {"correction_weight": a} for a in (0.0, 0.5, 1.0)}, tiny.task_of(LABELS))


def test_two_stage_table_1() -> None:
    """Of 100 images of a class, consistent and unsure, at least that many percent are kept; 30 sure ones are kept anyway."""
    labels = torch.zeros(100, dtype=torch.long)
    unsure = torch.linspace(0.6, 0.8, 100)
    some_sure = torch.where(torch.arange(100) < 30, 0.95, unsure)
    for percent in (5, 10, 20, 50):
        params = two_stage.Params(keep_rate=percent / 100)
        for own, kept in ((unsure, percent), (some_sure, max(30, percent))):
            found = two_stage.select(torch.stack([own, 1 - own], dim=1), labels, params)
            assert int(found.sum()) == kept


def test_jo_src_table_6() -> None:
    rows = {
        "Jo-SRC-C": {"trained_on": "clean", "consistency_weight": 0.0},
        "Jo-SRC-CI": {"trained_on": "id", "consistency_weight": 0.0},
        "Jo-SRC-CIO": {"trained_on": "all", "consistency_weight": 0.0},
        "Jo-SRC": {},
    }
    # with a threshold that some batches of each kind pass: untrained networks on four classes are near uniform
    shared = {"clean_threshold": 0.95, "final_clean_threshold": 0.95}
    trained("jo_src", {row: values | shared for row, values in rows.items()}, tiny.task_of(LABELS))


def test_scanmix_table_4(home: Path, tmp_path: Path) -> None:
    """Pre-training alone is judged by its clusters; DivideMix starts from them, or from a warm-up of its own."""
    scan = tmp_path / "scan"
    shutil.copytree(home / "simclr", scan)
    shutil.copy(home / "clusters.safetensors", scan)
    clusters, _ = reading.read_networks(scan / "clusters.safetensors", "")
    session = pipeline.session(home)
    places = (home / "images.zarr", home / "labels.zarr", tmp_path / "warmup")
    warmup.run(
        warmup.Inputs(*places, clusters=scan / "clusters.safetensors"),
        Params(backbone="small_cnn", width=4, epochs=1, start="clusters", train="head"),
        session,
    )
    started, _ = reading.read_networks(tmp_path / "warmup/networks.safetensors", "")
    for network in ("network1", "network2"):
        pairs = zip(
            started[network].features.parameters(), clusters["network"].features.parameters(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)
    run = train_method.Inputs(
        "dividemix", home / "labels.zarr", tmp_path / "run", home / "images.zarr", tmp_path / "warmup"
    )
    train_method.run(run, pipeline.params_of("dividemix", epochs=1), session)
    judged = evaluate.run(
        evaluate.Inputs(
            (tmp_path / "run",), tmp_path / "eval", home / "truth.zarr", (), scan, home / "images.zarr"
        )
    )
    assert 0 < judged["clustering_accuracy"] <= 100
