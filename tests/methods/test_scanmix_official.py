"""What ScanMix's code does otherwise than its paper: heads, drawn neighbors of the peer's labels, the switch at 0.6."""

from typing import Any

import pytest
import torch
from torch import nn

from noisyctl.methods import scanmix_official
from noisyctl.nn.networks import build
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import Views

CLASSES, SIZE = 3, 24
SPEC = {
    "backbone": "small_cnn",
    "width": 1,
    "channels": 1,
    "size": [8, 8],
    "num_outputs": CLASSES,
    "head": "linear",
}


def make_task(**known: Any) -> Task:
    images = torch.randint(256, (SIZE, 8, 8, 1), generator=stream(0, "images"), dtype=torch.uint8)
    near = torch.stack([(torch.arange(SIZE) + i + 1) % SIZE for i in range(4)], dim=1)
    about = {"labels": torch.arange(SIZE) % CLASSES, "neighbors": near} | known
    return Task(images, Views("digits", (0.5,), (0.5,)), CLASSES, torch.device("cpu"), **about)


def begin(task: Task, **values: Any) -> tuple[scanmix_official.State, scanmix_official.Params]:
    params = scanmix_official.Params(**{"batch_size": 8, "cluster_batch_size": 8} | values)
    networks: list[nn.Module] = [build(SPEC, stream(seed, "init")) for seed in (0, 1, 2)]
    return scanmix_official.start(networks, task, params, stream(0, "start")), params


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in module.parameters()])


def test_both_cluster_heads_start_from_the_clusters_and_are_two() -> None:
    state, _ = begin(make_task())
    clusters = build(SPEC, stream(2, "init")).head
    assert torch.equal(flat(state.cluster_head1), flat(clusters))
    assert torch.equal(flat(state.cluster_head2), flat(clusters))
    assert state.cluster_head1 is not state.cluster_head2


def test_one_alike_is_drawn_uniformly_itself_included() -> None:
    task, index = make_task(), torch.zeros(1, dtype=torch.long)
    labels = torch.zeros(SIZE, dtype=torch.long)
    labels[[1, 3]] = 1  # of the candidates 0 (itself), 1, 2, 3, 4 those alike are 0, 2, 4
    counts = torch.zeros(SIZE)
    for seed in range(300):
        counts[scanmix_official.draw_alike(index, task, labels, stream(seed, "d"))] += 1
    assert counts.nonzero()[:, 0].tolist() == [0, 2, 4]
    assert (counts[[0, 2, 4]] - 100).abs().max() < 42  # five deviations of a binomial(300, 1/3)


def test_an_image_that_no_neighbor_is_like_is_its_own_partner() -> None:
    found = scanmix_official.draw_alike(torch.arange(SIZE), make_task(), torch.arange(SIZE), stream(0, "d"))
    assert found.tolist() == list(range(SIZE))


def test_held_out_neighbors_are_not_drawn() -> None:
    task = make_task(held_out=torch.tensor([1, 2, 3]))
    labels = torch.zeros(SIZE, dtype=torch.long)
    drawn = {
        int(scanmix_official.draw_alike(torch.tensor([0]), task, labels, stream(s, "d"))) for s in range(60)
    }
    assert drawn == {0, 4}


@pytest.mark.parametrize(("threshold", "name", "rate"), [(0.0, "strong", 1e-3), (1.0, "weak", 1e-5)])
def test_the_noise_of_the_first_epoch_switches_views_and_rate(
    monkeypatch: pytest.MonkeyPatch, threshold: float, name: str, rate: float
) -> None:
    used: list[str] = []
    for view in ("weak", "strong"):
        original = getattr(Task, view)

        def recorded(self, index, rng, view=view, original=original):  # type: ignore[no-untyped-def]
            used.append(view)
            return original(self, index, rng)

        monkeypatch.setattr(Task, view, recorded)
    task = make_task()
    state, params = begin(task, noise_threshold=threshold)
    record = scanmix_official.run_epoch(state, task, params, 0, stream(0, 0))
    assert set(used) == {name}
    assert record.scalars["cluster_rate"] == rate
    state.noise = 2 * threshold  # the other side: a later epoch does not predict it anew
    assert scanmix_official.run_epoch(state, task, params, 1, stream(0, 1)).scalars["cluster_rate"] != rate


def test_each_network_clusters_by_the_pseudo_labels_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    state, params = begin(task, cluster_batch_size=SIZE)
    own = [
        net.eval()(task.plain(torch.arange(SIZE))).argmax(dim=1) for net in (state.network1, state.network2)
    ]
    assert not torch.equal(*own)
    asked: list[torch.Tensor] = []

    def draw(index: torch.Tensor, task: Task, labels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        asked.append(labels)
        return index

    monkeypatch.setattr(scanmix_official, "draw_alike", draw)
    scanmix_official.run_epoch(state, task, params, 0, stream(0, 0))
    assert torch.equal(asked[0], own[1])
    assert torch.equal(asked[1], own[0])


def test_clustering_moves_backbone_and_cluster_head_and_leaves_the_class_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task()
    state, params = begin(task)
    monkeypatch.setattr(scanmix_official, "steps", lambda *a, **k: iter(()))  # no semi-supervised step
    before = [flat(m).clone() for m in (state.network1.features, state.cluster_head1, state.network1.head)]  # type: ignore[arg-type]
    scanmix_official.run_epoch(state, task, params, 0, stream(0, 0))
    after = [flat(m) for m in (state.network1.features, state.cluster_head1, state.network1.head)]  # type: ignore[arg-type]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [True, True, False]


def test_the_class_heads_alone_predict() -> None:
    task = make_task()
    state, _ = begin(task)
    images = task.plain(torch.arange(4))
    for module in (state.network1, state.network2):
        module.eval()
    before = scanmix_official.predict(state, images)
    for parameter in state.cluster_head1.parameters():
        parameter.data.add_(7)
    torch.testing.assert_close(scanmix_official.predict(state, images), before)
    torch.testing.assert_close(before, state.network1(images) + state.network2(images))
