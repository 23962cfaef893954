"""docs/methods.md and the README's table are what docs/make_methods.py writes; costs are counted right."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from noisyctl import methods
from noisyctl.artifacts import metrics
from noisyctl.methods import cross_entropy, elr_plus, jo_src, knn_vote, m_correction

ROOT = Path(__file__).parent.parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make() -> ModuleType:
    return load(ROOT / "docs" / "make_methods.py")


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    return load(ROOT / "benchmarks" / "costs.py")


def test_methods_md_and_the_readme_are_in_step_with_the_sources(make: ModuleType) -> None:
    cure = "run `python docs/make_methods.py`"
    assert (ROOT / "docs" / "methods.md").read_text() == make.text(), cure
    readme = (ROOT / "README.md").read_text()
    assert make.readme(readme) == readme, cure
    assert make.table() in readme


def test_the_readme_s_results_are_the_demonstration_s_and_fit_100_columns(make: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text()
    assert f"{make.BEGIN_RESULTS}\n{make.results()}\n{make.END_RESULTS}" in readme, (
        "run `python docs/make_methods.py`"
    )
    runs = metrics.read(make.DEMONSTRATION)["runs"]
    for line in make.results().splitlines()[2:]:
        method, last, *_ = [cell.strip() for cell in line.strip("|").split("|")]
        (run,) = [run for run in runs.values() if run["method"] == method]
        assert last == (f"{run['test_accuracy']['last']:.2f}" if "test_accuracy" in run else "-"), method
    assert max(map(len, make.results().splitlines())) <= 100
    (noise,) = {round(100 * run["measured_noise"], 1) for run in runs.values()}
    assert f"{noise} % of the training labels are wrong" in readme
    of_two_stage = next(run for run in runs.values() if run["method"] == "two_stage")["test_accuracy"]
    rules = ("best_on_noisy_validation", "best_on_refined_validation")
    noisy, refined = (f"{of_two_stage[rule]:.2f}" for rule in rules)
    assert f"`two_stage` alone: {noisy}, and {refined} where" in readme


def test_the_readme_is_written_between_its_marks_alone(make: ModuleType) -> None:
    old = f"before\n{make.BEGIN}\nold rows\n{make.END}\nafter"
    assert make.readme(old) == f"before\n{make.BEGIN}\n{make.table()}\n{make.END}\nafter"


def test_what_is_measured_is_shown_and_else_a_dash(make: ModuleType, tmp_path: Path) -> None:
    none = make.text(tmp_path, tmp_path / "costs.yaml")
    assert "| noisyctl/methods/elr.py | 1 network, warm-up | - | - | - | - |" in none
    runs: dict[str, Any] = {
        f"elr/sym60-s{seed}": {"method": "elr", "seed": seed, "test_accuracy": {"last": 90.0 + 2 * seed}}
        for seed in (0, 1, 2)
    }
    runs |= {
        "gce/sym60-s0": {"method": "gce", "seed": 0, "test_accuracy": {"last": 70.0}},
        "cross_entropy/sym60-s1": {"method": "cross_entropy", "seed": 1, "test_accuracy": {"last": 50.0}},
        "knn_vote/s0": {"method": "knn_vote", "seed": 0},
    }
    (tmp_path / "methods.json").write_text(json.dumps({"runs": runs}))
    (tmp_path / "costs.yaml").write_text("elr: {backward: 1.0, forward: 2.25}\n")
    found = make.text(tmp_path, tmp_path / "costs.yaml")
    # 90, 92 and 94: mean 92, deviation 2; cross-entropy ran with the second seed only, 50
    assert "| noisyctl/methods/elr.py | 1 network, warm-up | 2.25 | 1 | 92.00 \u00b1 2.00 | +42.0 |" in found
    assert "| noisyctl/methods/gce.py | 1 network, warm-up | - | - | 70.00 | - |" in found
    assert "| noisyctl/methods/knn_vote.py | neighbors | - | - | - | - |" in found


def test_forwarded_images_and_those_a_gradient_comes_back_from_are_counted(costs: ModuleType) -> None:
    network = nn.Sequential()
    network.add_module("features", nn.Linear(2, 3))
    network.add_module("head", nn.Linear(3, 2))
    count = costs.Count()
    count.watch(network)
    with torch.no_grad():
        network(torch.zeros(5, 2))
    network(torch.zeros(7, 2))  # no backward
    network(torch.zeros(11, 2)).sum().backward()
    network.get_submodule("features")(torch.zeros(13, 2)).sum().backward()  # without the head
    assert (count.forward, count.backward) == (5 + 7 + 11 + 13, 11 + 13)


def test_costs_of_methods_that_can_be_counted_by_hand(
    costs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "SIZE", 128)
    monkeypatch.setattr(costs, "COUNTED", 1)
    monkeypatch.setattr(costs, "SPEC", dataclasses.replace(costs.SPEC, width=1))
    task = costs.make_task()
    by_hand = {
        cross_entropy: (1, 1),
        elr_plus: (4, 2),  # two networks, each beside the other's weight average
        jo_src: (4, 2),  # two views, student and teacher
        m_correction: (3, 1),  # the losses at the start, the guess on unmixed images, mixed images
        knn_vote: (0, 0),
    }
    for method, (forward, backward) in by_hand.items():
        networks = [costs.build(costs.SPEC, torch.Generator().manual_seed(k)) for k in (0, 1)]
        networks = networks[: max(method.NEEDS.networks, 1)]
        assert costs.cost(method, networks, task, method.Params()) == {
            "forward": forward,
            "backward": backward,
        }


def test_every_method_has_its_cost() -> None:
    found = yaml.safe_load((ROOT / "noisyctl" / "papers" / "data" / "costs.yaml").read_text())
    assert list(found) == list(methods.available()), "run `python benchmarks/costs.py`"
    for name, cost in found.items():
        assert set(cost) == {"forward", "backward"}
        assert 0 <= cost["backward"] <= cost["forward"], name
