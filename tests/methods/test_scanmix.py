"""ScanMix's own functions: golden rows by hand, Eq. 10-12 by naive loops, both forms, the switch at 0.6, degenerate data."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from noisyctl.methods import scanmix
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.parts.losses import mean_entropy
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import ImageViews

CLASSES, SIZE, K = 3, 24, 4
FORMS = ("code", "printed")
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=1,
    channels=1,
    size=(8, 8),
    num_outputs=CLASSES,
    head="linear",
)


def make_task(**known: Any) -> Task:
    images = torch.randint(256, (SIZE, 8, 8, 1), generator=stream(0, "images"), dtype=torch.uint8)
    near = torch.stack([(torch.arange(SIZE) + i + 1) % SIZE for i in range(K)], dim=1)
    views = ImageViews("digits", (0.5,), (0.5,))
    about = {"labels": torch.arange(SIZE) % CLASSES, "neighbors": near} | known
    return Task(images, views, CLASSES, torch.device("cpu"), **about)


def begin(task: Task, **values: Any) -> tuple[scanmix.State, scanmix.Params]:
    params = scanmix.Params(**{"batch_size": 8, "cluster_batch_size": 8} | values)
    seeds = (0, 1) if params.form == "printed" else (0, 1, 2)
    networks: list[nn.Module] = [build(SPEC, stream(seed, "init")) for seed in seeds]
    return scanmix.start(networks, task, params, stream(0, "start")), params


def flat(module: Any) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in module.parameters()])


def certain(*classes: int) -> torch.Tensor:
    return 100.0 * torch.nn.functional.one_hot(torch.tensor(classes), CLASSES).float()


# ------------------------------------------------------------------------------------------------------------- Eq. 10-12


def test_eq_11_by_hand() -> None:
    anchors = torch.stack([certain(0)[0], torch.zeros(3)])
    others = torch.stack([torch.stack([certain(0)[0], torch.zeros(3)]), torch.zeros(2, 3)])
    every, none, first = (
        torch.ones(2, 2, dtype=torch.bool),
        torch.zeros(2, 2, dtype=torch.bool),
        torch.eye(2) > 0,
    )
    # sure and alike costs nothing; a uniform neighbor, or two uniform ones, agree with probability 1/3
    expected = torch.tensor([0 + math.log(3), 2 * math.log(3)])
    torch.testing.assert_close(scanmix.neighborhood_losses(anchors, others, every), expected)
    torch.testing.assert_close(scanmix.neighborhood_losses(anchors, others, none), torch.zeros(2))
    torch.testing.assert_close(
        scanmix.neighborhood_losses(anchors, others, first), torch.tensor([0.0, math.log(3)])
    )


def test_eq_10_to_12_equal_naive_loops() -> None:
    rng = stream(0, "oracle")
    anchors = torch.randn(5, CLASSES, generator=rng, dtype=torch.float64)
    others = torch.randn(5, K, CLASSES, generator=rng, dtype=torch.float64)
    alike = torch.rand(5, K, generator=rng) > 0.5
    p, q = anchors.softmax(dim=1), others.softmax(dim=2)
    pull = 0.0
    for i in range(5):
        for j in range(K):
            if alike[i, j]:
                pull -= math.log(sum(float(p[i, c] * q[i, j, c]) for c in range(CLASSES))) / 5
    mean = [sum(float(p[i, c]) for i in range(5)) / 5 for c in range(CLASSES)]
    spread = sum(m * math.log(m) for m in mean)  # Eq. 12: added, times lambda_e
    found = scanmix.neighborhood_losses(anchors, others, alike).mean() - 2.0 * mean_entropy(anchors)
    assert float(found) == pytest.approx(pull + 2.0 * spread)


def test_clustering_has_the_right_gradient() -> None:
    anchors = torch.randn(3, CLASSES, dtype=torch.float64, requires_grad=True)
    others = torch.randn(3, 2, CLASSES, dtype=torch.float64, requires_grad=True)
    alike = torch.tensor([[True, False], [True, True], [False, False]])
    assert torch.autograd.gradcheck(lambda a, o: scanmix.neighborhood_losses(a, o, alike), (anchors, others))


def test_a_sure_network_that_disagrees_has_finite_gradients() -> None:
    anchors = certain(0, 1).requires_grad_()
    loss = scanmix.neighborhood_losses(
        anchors, certain(1, 1)[:, None], torch.ones(2, 1, dtype=torch.bool)
    ).sum()
    (loss - mean_entropy(anchors)).backward()
    assert anchors.grad is not None and torch.isfinite(anchors.grad).all()


def test_one_class_for_all_is_cheaper_as_printed_and_dearer_as_run() -> None:
    """What `--form printed` warns of: 20 neighbors alike whose mean loss is 0.3, against a collapse that costs nothing.

    Spread over ten classes an image pays K x 0.3 - 2 ln 10 as printed, and 0.3 - 5 ln 10 as run; collapsed it pays 0.
    """
    anchors = 4.0 * torch.eye(10, dtype=torch.float64)  # each quite sure of a class of its own
    others = anchors[:, None].expand(10, 20, 10)
    loss = scanmix.neighborhood_losses(anchors, others, torch.ones(10, 20, dtype=torch.bool)).mean()
    assert loss / 20 > 2 * math.log(10) / 20
    printed, as_run = scanmix.ENTROPY_WEIGHTS["printed"], scanmix.ENTROPY_WEIGHTS["code"]
    assert loss - printed * mean_entropy(anchors) > 0 > loss / 20 - as_run * mean_entropy(anchors)


# ---------------------------------------------------------------------------------------------------------------- E-step


def test_the_e_step_is_lines_8_to_16_of_algorithm_1() -> None:
    task = make_task(held_out=torch.tensor([3]))
    predictions = (torch.arange(SIZE) >= 12).long()  # two blocks: neighbors are the next four
    neighbors = scanmix.neighborhoods(task, itself=False)
    found = scanmix.e_step(neighbors, predictions, task)
    for i in range(SIZE):
        for k, j in enumerate(neighbors[i].tolist()):
            assert bool(found[i, k]) == (bool(predictions[i] == predictions[j]) and j != 3), (i, j)
    # of 24 x 4 pairs 12 -> 24 and the ring's end each cut 4 + 3 + 2 + 1 = 10; 3 is held out, and no neighbor of 0, 1, 2 and
    # 23, of which 23 is predicted otherwise already
    assert int(found.sum()) == 96 - 20 - 3


def test_an_image_is_its_own_neighbor_in_the_authors_form_alone() -> None:
    task = make_task()
    neighbors = scanmix.neighborhoods(task, itself=True)
    assert neighbors[:, 0].tolist() == list(range(SIZE))
    assert torch.equal(neighbors[:, 1:], scanmix.neighborhoods(task, itself=False))


def test_one_alike_is_drawn_uniformly_itself_included() -> None:
    task = make_task()
    labels = torch.zeros(SIZE, dtype=torch.long)
    labels[[1, 3]] = 1  # of the neighbors 0 (itself), 1, 2, 3, 4 those alike are 0, 2, 4
    near = scanmix.neighborhoods(task, itself=True)
    alike = scanmix.e_step(near, labels, task)
    counts = torch.zeros(SIZE)
    for seed in range(300):
        counts[scanmix.draw_one(near[:1], alike[:1], stream(seed, "d"))] += 1
    assert counts.nonzero()[:, 0].tolist() == [0, 2, 4]
    assert (counts[[0, 2, 4]] - 100).abs().max() < 42  # five deviations of a binomial(300, 1/3)


def test_an_image_that_no_neighbor_is_like_is_its_own_partner() -> None:
    task = make_task()
    near = scanmix.neighborhoods(task, itself=True)
    found = scanmix.draw_one(near, scanmix.e_step(near, torch.arange(SIZE), task), stream(0, "d"))
    assert found[:, 0].tolist() == list(range(SIZE))


def test_held_out_neighbors_are_not_drawn() -> None:
    task = make_task(held_out=torch.tensor([1, 2, 3]))
    near = scanmix.neighborhoods(task, itself=True)
    alike = scanmix.e_step(near, torch.zeros(SIZE, dtype=torch.long), task)
    drawn = {int(scanmix.draw_one(near[:1], alike[:1], stream(s, "d"))) for s in range(60)}
    assert drawn == {0, 4}


@pytest.mark.parametrize("form", FORMS)
def test_whose_predictions_decide_who_is_alike(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's as the authors ran it, a network's own as printed."""
    task = make_task()
    state, params = begin(task, form=form)
    first, second = (
        net.eval()(task.plain(torch.arange(SIZE))).argmax(dim=1) for net in (state.network1, state.network2)
    )
    assert not torch.equal(first, second)
    asked: list[torch.Tensor] = []
    original = scanmix.e_step

    def recorded(neighbors: torch.Tensor, predictions: torch.Tensor, task: Task) -> torch.Tensor:
        asked.append(predictions.clone())
        return original(neighbors, predictions, task)

    monkeypatch.setattr(scanmix, "e_step", recorded)
    scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    expected = (second, first) if form == "code" else (first, second)
    assert all(torch.equal(a, b) for a, b in zip(asked, expected, strict=True))


# ---------------------------------------------------------------------------------------------------------------- M-step


def pairs_seen(monkeypatch: pytest.MonkeyPatch, task: Task, **values: Any) -> list[torch.Tensor]:
    """What each step of a network's clustering sums over, with everyone predicted alike."""
    seen: list[torch.Tensor] = []
    original = scanmix.neighborhood_losses

    def losses(anchors: torch.Tensor, others: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
        seen.append(alike)
        return original(anchors, others, alike)

    monkeypatch.setattr(scanmix, "neighborhood_losses", losses)
    state, params = begin(task, **values)
    near = scanmix.neighborhoods(task, itself=params.form == "code")
    alike = scanmix.e_step(near, torch.zeros(SIZE, dtype=torch.long), task)
    head = state.network1.get_submodule("head") if state.cluster_head1 is None else state.cluster_head1
    optimizer, rng = state.optimizers[0], stream(0, "c")
    scanmix.cluster(state.network1, head, optimizer, near, alike, task.weak, task, params, rng)
    return seen


def test_as_run_one_neighbor_of_whole_batches_and_as_printed_all_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = [tuple(a.shape) for a in pairs_seen(monkeypatch, make_task(), cluster_batch_size=9)]
    assert sizes == [(9, 1), (9, 1)]  # the last six anchors are dropped
    sizes = [
        tuple(a.shape) for a in pairs_seen(monkeypatch, make_task(), cluster_batch_size=9, form="printed")
    ]
    assert sizes == [(9, K), (9, K), (6, K)]


def test_held_out_images_are_no_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pairs_seen(monkeypatch, make_task(held_out=torch.tensor([3])), form="printed")
    assert sum(map(len, seen)) == SIZE - 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [None, 0.5])
def test_lambda_e_is_5_as_run_and_2_as_printed_or_what_is_given(
    form: str, given: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step is that of the pairs minus lambda_e times an entropy of one."""
    task = make_task()
    state, params = begin(task, form=form, entropy_weight=given)
    losses: list[float] = []
    monkeypatch.setattr(scanmix, "mean_entropy", lambda logits: logits.sum() * 0 + 1)
    monkeypatch.setattr(Task, "step", lambda self, loss, *rest: losses.append(float(loss)))
    near = scanmix.neighborhoods(task, itself=form == "code")
    none = torch.zeros_like(near, dtype=torch.bool)
    none[:, 0] = form == "code"  # itself
    monkeypatch.setattr(scanmix, "neighborhood_losses", lambda anchors, *rest: anchors.sum(dim=1) * 0)
    head = state.network1.get_submodule("head") if state.cluster_head1 is None else state.cluster_head1
    rng = stream(0, "c")
    scanmix.cluster(state.network1, head, state.optimizers[0], near, none, task.weak, task, params, rng)
    expected = given if given is not None else {"code": 5.0, "printed": 2.0}[form]
    assert losses == [-expected] * 3


def test_no_neighbor_predicted_alike_goes_on() -> None:
    task = make_task()
    state, params = begin(task, form="printed")
    near = scanmix.neighborhoods(task, itself=False)
    alike = scanmix.e_step(near, torch.arange(SIZE), task)
    network = state.network1
    head, optimizer, rng = network.get_submodule("head"), state.optimizers[0], stream(0, "c")
    scanmix.cluster(network, head, optimizer, near, alike, task.weak, task, params, rng)
    task.monitor.check(0)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def moved(monkeypatch: pytest.MonkeyPatch, **values: Any) -> list[bool]:
    """Whether an epoch without semi-supervised steps moves the first backbone, its cluster head, its class head."""
    task = make_task()
    state, params = begin(task, **values)
    monkeypatch.setattr(scanmix, "steps", lambda *a, **k: iter(()))
    modules = [state.network1.features, state.cluster_head1, state.network1.head]
    before = [flat(m).clone() if m is not None else None for m in modules]
    scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    return [old is not None and not torch.equal(flat(m), old) for m, old in zip(modules, before, strict=True)]


def test_clustering_moves_the_cluster_head_as_run_and_the_only_head_as_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert moved(monkeypatch) == [True, True, False]
    assert moved(monkeypatch, form="printed") == [True, False, True]


@pytest.mark.parametrize("form", FORMS)
def test_classification_alone_leaves_the_clustering_out(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 4, pre-train + DivideMix: without its steps nothing moves."""
    assert moved(monkeypatch, form=form, terms="classification") == [False, False, False]


def test_both_cluster_heads_start_from_the_clusters_and_are_two() -> None:
    state, _ = begin(make_task())
    clusters = build(SPEC, stream(2, "init")).head
    assert torch.equal(flat(state.cluster_head1), flat(clusters))
    assert torch.equal(flat(state.cluster_head2), flat(clusters))
    assert state.cluster_head1 is not state.cluster_head2


# ------------------------------------------------------------------------------------------- rate and views, prediction


def views_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    used: list[str] = []
    for view in ("weak", "strong"):
        original = getattr(Task, view)

        def recorded(self, index, rng, view=view, original=original):  # type: ignore[no-untyped-def]
            used.append(view)
            return original(self, index, rng)

        monkeypatch.setattr(Task, view, recorded)
    return used


@pytest.mark.parametrize(
    ("form", "threshold", "name", "rate"),
    [
        ("code", 0.0, "strong", 1e-3),
        ("code", 1.0, "weak", 1e-5),
        ("printed", 0.0, "weak", 1e-3),
        ("printed", 1.0, "weak", 1e-5),
    ],
)
def test_the_noise_of_the_first_epoch_switches_views_and_rate(
    monkeypatch: pytest.MonkeyPatch, form: str, threshold: float, name: str, rate: float
) -> None:
    used = views_used(monkeypatch)
    task = make_task()
    state, params = begin(task, form=form, noise_threshold=threshold)
    record = scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    assert set(used) == {name}
    assert record.scalars["cluster_rate"] == rate
    state.noise = 2 * threshold  # the other side: a later epoch does not predict it anew
    assert scanmix.run_epoch(state, task, params, 1, stream(0, 1)).scalars["cluster_rate"] != rate


@pytest.mark.parametrize(("noise", "rate"), [(0.59, 1e-5), (0.6, 1e-5), (0.61, 1e-3)])
def test_the_rate_of_the_clustering_on_both_sides_of_the_threshold(noise: float, rate: float) -> None:
    task = make_task()
    state, params = begin(task)
    state.noise = noise
    assert scanmix.run_epoch(state, task, params, 0, stream(0, 0)).scalars["cluster_rate"] == rate


def test_webvision_clusters_on_strong_views_whatever_those_of_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task()
    state, params = begin(task, noise_threshold=1.0, cluster_views="strong")
    used = views_used(monkeypatch)
    scanmix.run_epoch(state, task, params, 0, stream(0, 0))
    weak, strong = used.count("weak"), used.count("strong")
    assert weak > 0 and used == ["weak"] * weak + ["strong"] * strong
    assert strong == 2 * 2 * 3  # two networks, anchors and partners, three batches


def test_only_the_printed_form_has_something_to_say_before_it_trains() -> None:
    assert scanmix.notice(scanmix.Params()) == ""
    told = scanmix.notice(scanmix.Params(form="printed"))
    assert "can collapse" in told and "\n" not in told
