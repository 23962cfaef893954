"""Mixup: an epoch against naive loops."""

import torch
from plain_views import PlainViews

from noisyctl.methods import mixup
from noisyctl.parts.mixing import draw_beta
from noisyctl.seeds import stream
from noisyctl.task import Task


def test_an_epoch_equals_naive_loops() -> None:
    images = torch.randint(256, (6, 2, 2, 1), generator=stream(0, "images"), dtype=torch.uint8)
    task = Task(images, PlainViews(), 3, torch.device("cpu"), torch.arange(6) % 3)
    params = mixup.Params(batch_size=6, weight_decay=0.0, alpha=0.7)
    network, twin = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)) for _ in range(2))
    twin.load_state_dict(network.state_dict())
    twin.double()
    rng = stream(0, "epoch")  # the draws in their order: samples, weight, partners
    samples = torch.randperm(6, generator=rng).tolist()
    weight = float(draw_beta(0.7, (1,), rng))
    partners = [samples[j] for j in torch.randperm(6, generator=rng).tolist()]
    assert samples != partners
    x = task.plain(torch.arange(6)).double()
    total = torch.zeros((), dtype=torch.float64)
    for i, j in zip(samples, partners, strict=True):
        log_probs = twin((weight * x[i] + (1 - weight) * x[j])[None])[0].log_softmax(dim=0)
        total = total - (weight * log_probs[i % 3] + (1 - weight) * log_probs[j % 3]) / 6
    total.backward()
    state = mixup.start([network], task, params, stream(0, "start"))
    mixup.run_epoch(state, task, params, 0, stream(0, "epoch"))
    for found, peer in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.double(), peer - 0.1 * peer.grad, atol=1e-6, rtol=1e-5)
