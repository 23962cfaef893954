"""Every method trains on vectors as on images, with a linear network and with an MLP, and nothing in it changes."""

import pytest
import torch
from tiny import CLASSES, params_of, train

from noisyctl import methods
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views.vectors import VectorViews

FEATURES, ROWS = 12, 96
NAMES = [name for name in methods.available() if methods.load(name).NEEDS.networks]


def task_on_vectors(held_out: torch.Tensor | None) -> Task:
    """Four well separated classes, of which every eighth label is wrong; neighbors are the nearest by construction."""
    truth = torch.arange(ROWS) % CLASSES
    centers = 4 * torch.randn(CLASSES, FEATURES, generator=stream(0, "centers"))
    vectors = centers[truth] + torch.randn(ROWS, FEATURES, generator=stream(0, "vectors"))
    labels = torch.where(torch.arange(ROWS) % 8 == 0, (truth + 1) % CLASSES, truth)
    near = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf).topk(4, largest=False).indices
    views = VectorViews(vectors.mean(0).tolist(), vectors.std(0).tolist())
    return Task(
        vectors, views, CLASSES, torch.device("cpu"), labels=labels, neighbors=near,
        similarity=torch.full(near.shape, 0.5), warmup_epochs=1, held_out=held_out,
    )  # fmt: skip


def networks_on_vectors(name: str, backbone: str) -> list[torch.nn.Module]:
    needs = methods.load(name).NEEDS
    spec = NetworkSpec(
        backbone=backbone, width=None, channels=FEATURES, size=(1, 1), num_outputs=CLASSES,
        head="linear",
    )  # fmt: skip
    return [build(spec, stream(seed, "tiny", "init")) for seed in range(needs.networks + needs.clusters)]


@pytest.mark.parametrize("backbone", ["linear", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_a_method_trains_on_vectors(name: str, backbone: str) -> None:
    held_out = torch.arange(0, ROWS, 10) if methods.load(name).Params().validation_rate else None
    task = task_on_vectors(held_out)
    networks = networks_on_vectors(name, backbone)
    before = [p.clone() for network in networks for p in network.parameters()]
    values = {"dropout": 0.0} if name == "two_stage" and backbone == "linear" else {}
    method = methods.load(name)
    state, records = train(name, task, params_of(name, **values), networks)
    logits = method.predict(state, task.plain(torch.arange(ROWS)))
    assert logits.shape == (ROWS, CLASSES)
    assert logits.isfinite().all()
    assert len(records) == 2
    after = [p for network in networks for p in network.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True)), "no weight has moved"
