"""Two-Stage: selection, balancing and ramps by hand and by naive loops; whole epochs; both sides of the boundary."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisyctl.errors import ParamsError
from noisyctl.methods import two_stage
from noisyctl.nn.patrini_resnet import resnet14
from noisyctl.params import module_spec
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import checkpoint

CPU = torch.device("cpu")


class AlternatingViews:
    """Pixels in [0, 1]; every second weak view is half as bright: what is left is the algorithm."""

    def __init__(self) -> None:
        self.calls = 0

    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() / 255

    def weak(self, images: Tensor, rng: torch.Generator) -> Tensor:
        self.calls += 1
        return self.plain(images) / (2 - self.calls % 2)

    strong = simclr = moco = weak


def tiny_task(labels: Tensor | None = None, held_out: tuple[int, ...] = (9, 10, 11), **known) -> Task:  # type: ignore[no-untyped-def]
    labels = torch.arange(12) % 3 if labels is None else labels
    images = torch.randint(256, (len(labels), 2, 2, 1), generator=stream(0, "two_stage"), dtype=torch.uint8)
    return Task(images, AlternatingViews(), 3, CPU, labels, held_out=torch.tensor(held_out), **known)


def tiny_network(dropout: float = 0.0) -> nn.Module:
    network = nn.Sequential()
    layers = (nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout))
    network.add_module("features", nn.Sequential(*layers))
    network.add_module("head", nn.Linear(5, 3))
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).mul(5).sin().roll(i).view_as(p))
    return network


def params_of(**values) -> two_stage.Params:  # type: ignore[no-untyped-def]
    quiet = {"weight_decay": 0.0, "input_noise": 0.0, "dropout": 0.0, "batch_size": 24}
    quiet |= {"stage2_optimizer": "sgd", "stage2_rate": 0.1, "stage2_schedule": "plateau"}
    return two_stage.Params(**(quiet | values))


def rows(*values: float) -> Tensor:
    """Probabilities of two classes, the first of which is given."""
    return torch.tensor([[p, 1 - p] for p in values])


# selection


def test_ninety_percent_keeps_and_disagreement_does_not() -> None:
    probs, labels = rows(0.95, 0.9, 0.89, 0.05), torch.tensor([0, 0, 0, 0])
    # sure; exactly .9; consistent but below; sure of the other class. A tenth of four images, rounded up, is the first one
    assert two_stage.select(probs, labels, params_of()).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("base", "rounding", "kept"),
    [("given", "up", 2), ("given", "down", 1), ("consistent", "up", 1), ("consistent", "down", 0)],
)
def test_the_tenth_is_of_the_images_given_and_rounded_up(base: str, rounding: str, kept: int) -> None:
    # 15 images with this label, 9 predicted so, none sure: 1.5 -> 2 or 1; 0.9 -> 1 or 0
    probs = rows(*(0.6 + i / 100 for i in range(9)), *[0.2] * 6)
    found = two_stage.select(
        probs, torch.zeros(15, dtype=torch.long), params_of(keep_base=base, keep_rounding=rounding)
    )
    assert (
        found.nonzero()[:, 0].tolist() == [8, 7][:kept][::-1]
    )  # the largest P(c|x) are the last two of the nine


def test_a_tenth_of_thirty_is_three() -> None:
    found = two_stage.select(rows(*[0.6] * 30), torch.zeros(30, dtype=torch.long), params_of(keep_rate=0.1))
    assert found.nonzero()[:, 0].tolist() == [0, 1, 2]  # equals: the first positions; 0.1 * 30 > 3 in floats


def test_a_class_without_a_consistent_image_keeps_no_label() -> None:
    probs, labels = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1, 1])
    assert two_stage.select(probs, labels, params_of(keep_rate=1.0)).tolist() == [True, False, False]


def naive_select(probs: Tensor, labels: list[int], params: two_stage.Params) -> list[bool]:
    """Section 3.1, class by class."""
    kept = [False] * len(labels)
    for c in range(probs.shape[1]):
        members = [i for i in range(len(labels)) if labels[i] == c]
        consistent = [i for i in members if max(range(probs.shape[1]), key=lambda k: float(probs[i, k])) == c]
        ranking = sorted(consistent, key=lambda i: -float(probs[i, c]))
        sure = sum(float(probs[i, c]) >= params.confidence for i in ranking)
        base = len(members if params.keep_base == "given" else consistent)
        least = params.keep_rate * base
        least = math.ceil(least - 1e-6) if params.keep_rounding == "up" else math.floor(least + 1e-6)
        for i in ranking[: max(sure, least)]:
            kept[i] = True
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    rate=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    base=st.sampled_from(["given", "consistent"]),
    rounding=st.sampled_from(["up", "down"]),
)
def test_selection_equals_naive_loops(seed: int, n: int, rate: float, base: str, rounding: str) -> None:
    rng = stream(seed, "select")
    probs = (4 * torch.randn(n, 3, generator=rng)).softmax(dim=1)
    labels = torch.randint(3, (n,), generator=rng)
    params = params_of(keep_rate=rate, keep_base=base, keep_rounding=rounding)
    found = two_stage.select(probs, labels, params)
    assert found.tolist() == naive_select(probs.double(), labels.tolist(), params)
    more = two_stage.select(probs, labels, params.model_copy(update={"keep_rate": min(1.0, rate + 0.2)}))
    assert (more | ~found).all()  # a larger share keeps what a smaller one does
    order = torch.randperm(n, generator=rng)
    assert (two_stage.select(probs[order], labels[order], params) == found[order]).all()


# verified labels


def test_verified_labels_replace_the_given_ones_from_stage_2_on() -> None:
    task = tiny_task(verified=(torch.tensor([0, 1, 8]), torch.tensor([2, 0, 1])))
    params = params_of(stage1_epochs=2, epochs=3)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    two_stage.run_epoch(state, task, params, 0, stream(0, "e"))
    assert torch.equal(state.labels, task.noisy_labels)
    two_stage.run_epoch(state, task, params, 1, stream(1, "e"))
    two_stage.run_epoch(state, task, params, 2, stream(2, "e"))
    assert state.labels[[0, 1, 8]].tolist() == [2, 0, 1]
    assert state.selected[[0, 1, 8]].all()
    assert task.noisy_labels[:2].tolist() == [0, 1]  # the Task's own are untouched


# consistency


def test_ensemble_targets_have_no_bias_from_their_start_at_zero() -> None:
    a, b = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.4, 0.6]])
    once = 0.4 * a  # after one update with alpha .6: Z / (1 - .6) is the output itself
    twice = 0.6 * once + 0.4 * b  # (.24 a + .4 b) / (1 - .36)
    own = torch.full((3, 2), 0.5)
    found = two_stage.ensemble_targets(torch.cat([once, twice, torch.zeros(1, 2)]), own)
    expected = torch.cat([a, (0.24 * a + 0.4 * b) / 0.64, own[:1]])
    torch.testing.assert_close(found, expected)


def test_alpha_rises_and_falls_as_laine_and_aila_have_it() -> None:
    params = params_of(
        epochs=400, stage1_epochs=100, ramp_up_epochs=80, ramp_down_epochs=50, consistency_weight=30.0
    )
    for epoch in range(300):  # their code's two ramps, in their own form
        up = math.exp(-5 * (1 - epoch / 80) ** 2) if epoch < 80 else 1.0
        down = math.exp(-(((epoch - 250) * 0.5) ** 2) / 50) if epoch >= 250 else 1.0
        assert two_stage.ramped_weight(epoch, params) == pytest.approx(30 * up * down, rel=1e-12)
    assert two_stage.ramped_weight(-1, params) == 0.0  # stage 1


def test_alpha_is_fixed_without_ramps() -> None:
    params = params_of(ramp_up_epochs=0, ramp_down_epochs=0, consistency_weight=100.0)
    assert {two_stage.ramped_weight(epoch, params) for epoch in (0, 60, 119)} == {100.0}


def naive_loss(
    network: nn.Module, views: list[Tensor], labeled: list[int], unlabeled: list[int], labels, other, alpha
):  # type: ignore[no-untyped-def]
    """Eq. 2 sample by sample; `other` gives z' of a position."""
    index, total = labeled + unlabeled, torch.zeros((), dtype=torch.float64)
    for i in labeled:
        total = total - network(views[0][i][None])[0].log_softmax(dim=0)[labels[i]] / len(labeled)
    for i in index:
        z = network(views[0][i][None])[0].softmax(dim=0)
        total = total + alpha / len(index) * sum((z[c] - other(i)[c]) ** 2 for c in range(3))
    return total


@pytest.mark.parametrize("consistency", ["pi", "temporal"])
def test_a_step_of_stage_2_equals_eq_2_by_naive_loops(consistency: str) -> None:
    task = tiny_task()
    params = params_of(consistency=consistency, consistency_weight=5.0, ramp_up_epochs=0, ramp_down_epochs=0)
    network, twin = tiny_network(), tiny_network().double()
    state = two_stage.start([network], task, params, stream(0, "start"))
    state.optimizer = two_stage.make_optimizer(network, params, 2)
    labeled, unlabeled = [0, 1, 2, 6], [3, 4, 5, 7, 8]  # class 0 twice: balancing draws 1 and 2 twice
    state.selected = torch.zeros(12, dtype=torch.bool)
    state.selected[labeled] = True
    state.ensemble[:6] = torch.tensor([[0.1, 0.2, 0.3]])  # of 6 to 8 there is none yet
    x = task.plain(torch.arange(12)).double()

    def other(i: int) -> Tensor:
        if consistency == "pi":
            return twin(x[i][None] / 2)[0].softmax(dim=0)
        mine = twin(x[i][None])[0].softmax(dim=0).detach()
        return torch.tensor([1, 2, 3], dtype=torch.float64) / 6 if i < 6 else mine

    twice = [0, 6, 1, 1, 2, 2]
    naive_loss(twin, [x], twice, unlabeled, task.noisy_labels, other, 5.0).backward()
    expected = [p - params.learning_rate * p.grad for p in twin.parameters()]  # type: ignore[operator]
    before = tiny_network().double()
    two_stage.train_semi_supervised(state, task, params, 5.0, stream(0, "epoch"))
    for found, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)
    z = before(x).softmax(dim=1)
    old = torch.zeros(12, 3, dtype=torch.float64)
    old[:6] = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(state.ensemble[:9].double(), (0.6 * old + 0.4 * z)[:9], atol=1e-6, rtol=0)
    assert not state.ensemble[9:].any()  # validation samples are not drawn


def test_an_epoch_of_stage_1_is_balanced_cross_entropy_by_naive_loops() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 0, 1, 2])
    task, params = tiny_task(labels), params_of(epochs=2, stage1_epochs=1)
    network, twin = tiny_network(), tiny_network().double()
    x, times = task.plain(torch.arange(12)).double(), {0: 1.0, 1: 2.0, 2: 4 / 3}
    # class 2 has three samples for four draws, one of them twice: make the three alike, so that it does not matter which
    task.images[6:9] = task.images[6]
    x[6:9] = x[6]
    losses = [-twin(x[i][None])[0].log_softmax(dim=0)[labels[i]] * times[int(labels[i])] for i in range(9)]
    (sum(losses) / 12).backward()  # type: ignore[union-attr]
    expected = [p - params.learning_rate * p.grad for p in twin.parameters()]  # type: ignore[operator]
    state = two_stage.start([network], task, params, stream(0, "start"))
    record = two_stage.run_epoch(state, task, params, 0, stream(0, "epoch"))
    for found, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)
    assert record.scalars["consistency_weight"] == 0


def test_the_gradient_is_finite_where_the_network_is_sure() -> None:
    task, params = tiny_task(), params_of(consistency="pi")
    network = tiny_network()
    with torch.no_grad():
        network.get_submodule("head").weight.mul_(1e4)
    state = two_stage.start([network], task, params, stream(0, "start"))
    two_stage.train_semi_supervised(state, task, params, 100.0, stream(0, "epoch"))
    task.monitor.check(0)
    assert all(torch.isfinite(p).all() for p in network.parameters())


# the boundary


def test_stage_1_hands_its_best_weights_over_and_they_select_once() -> None:
    task = tiny_task()
    params = params_of(epochs=4, stage1_epochs=2, learning_rate=0.3, stage2_rate=0.2, dropout=0.4)
    network = tiny_network(dropout=0.1)
    state = two_stage.start([network], task, params, stream(0, "start"))
    two_stage.run_epoch(state, task, params, 0, stream(0, "e"))
    first, dropout = state.optimizer, next(m for m in network.modules() if isinstance(m, nn.Dropout))
    assert state.selected.all() and dropout.p == 0.1  # still stage 1
    best = copy.deepcopy(network)
    state.best_accuracy = 1.0  # no later epoch is better
    two_stage.run_epoch(state, task, params, 1, stream(1, "e"))
    assert state.optimizer is first and dropout.p == 0.1
    assert not torch.equal(
        network.head.weight, best.head.weight
    )  # the run's own network is still that of its last epoch
    probs = best.eval()(task.plain(torch.arange(12))).softmax(dim=1).detach()
    for part in (slice(0, 9), slice(9, 12)):  # training and validation samples apart
        expected = naive_select(probs[part], task.noisy_labels[part].tolist(), params)
        assert state.selected[part].tolist() == expected
    kept = state.selected.clone()
    two_stage.begin_stage2(state, task, params)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in best.state_dict().items())  # these go on
    record = two_stage.run_epoch(state, task, params, 2, stream(2, "e"))
    assert record.scalars["learning_rate"] == 0.2 and state.optimizer is not first  # both start anew
    assert dropout.p == 0.4 and torch.equal(state.selected, kept)
    state.selected[0] = ~kept[0]
    two_stage.run_epoch(state, task, params, 3, stream(3, "e"))
    assert state.selected[0] != kept[0]  # no second selection


def test_the_last_weights_are_handed_over_where_asked_for() -> None:
    task = tiny_task()
    params = params_of(epochs=3, stage1_epochs=1, handed_over="last")
    state = two_stage.start([tiny_network()], task, params, stream(0, "start"))
    state.best, state.best_accuracy = {"none": torch.zeros(1)}, 2.0
    two_stage.run_epoch(state, task, params, 0, stream(0, "e"))
    last = copy.deepcopy(state.network.state_dict())
    two_stage.begin_stage2(state, task, params)
    assert all(torch.equal(last[k], v) for k, v in state.network.state_dict().items())


def test_stage_2_of_laine_and_aila_starts_slowly_and_ends_slowly() -> None:
    """Rate .003 u d and beta1 .5 + .4 d with u = exp(-5 (1 - e/11)^2), d = exp(-12.5 t^2) over the last 7 of 40 epochs."""
    params = two_stage.Params(epochs=80, stage1_epochs=40, ramp_up_epochs=11, ramp_down_epochs=7)
    optimizer = two_stage.make_optimizer(tiny_network(), params, 2)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.Adam)
    for epoch, rate, beta1 in (
        (0, 0.003 * math.exp(-5), 0.9),
        (5, 0.003 * math.exp(-5 * (6 / 11) ** 2), 0.9),
        (20, 0.003, 0.9),
        (36, 0.003 * math.exp(-12.5 * (3 / 7) ** 2), 0.5 + 0.4 * math.exp(-12.5 * (3 / 7) ** 2)),
    ):
        two_stage.set_ramped_rate(optimizer, epoch, params)
        assert group["lr"] == pytest.approx(rate) and group["betas"][0] == pytest.approx(beta1)


def test_stage_2_does_not_erase_stage_1() -> None:
    """With the default optimizer its first epoch moves the weights by less than a hundredth of what stage 1 did."""
    task, params = tiny_task(), two_stage.Params(epochs=8, stage1_epochs=7, batch_size=4, dropout=0.0)
    network = tiny_network()
    before = network.get_submodule("head").weight.detach().clone()
    state = two_stage.start([network], task, params, stream(0, "s"))
    for epoch in range(7):
        two_stage.run_epoch(state, task, params, epoch, stream(epoch, "e"))
    params = params.model_copy(update={"handed_over": "last"})
    between = network.get_submodule("head").weight.detach().clone()
    two_stage.hand_over(state, task, params)
    two_stage.run_epoch(state, task, params, 7, stream(7, "e"))
    after = network.get_submodule("head").weight.detach()
    assert float((after - between).norm()) < 0.01 * float((between - before).norm())


def test_an_early_stop_leaves_the_weights_as_they_are() -> None:
    task, params = tiny_task(), params_of(epochs=6, stage1_epochs=6, patience_epochs=2, learning_rate=1e-6)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    seen = []
    for epoch in range(
        5
    ):  # nothing gets better at this rate: epochs 1 and 2 wait, the later ones learn no more
        two_stage.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        seen.append(state.network.get_submodule("head").weight.detach().clone())
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert moved == [True, True, False, False]


def test_stage_1_in_sub_epochs_draws_every_class_alike() -> None:
    labels = torch.tensor([0] * 40 + [1] * 10 + [2] * 10)
    task = tiny_task(labels, held_out=(0,))
    params = params_of(epochs=1, stage1_epochs=1, batch_size=6, epoch_batches=2)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    two_stage.train_supervised(state, task, params, stream(0, "e"))
    drawn = (state.log_probs != 0).any(dim=1)
    assert labels[drawn].bincount().tolist() == [4, 4, 4]


def test_a_network_without_dropout_is_refused_where_stage_2_perturbs_by_it() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(
        ParamsError,
        match=r"dropout is 0\.2, and backbone .* has no dropout; warm up one that has: .*resnet14",
    ):
        two_stage.start([network], tiny_task(), two_stage.Params(), stream(0, "s"))
    for fine in ({"dropout": 0.0}, {"epochs": 5, "stage1_epochs": 5}):
        two_stage.start([network], tiny_task(), two_stage.Params(**fine), stream(0, "s"))


def test_an_epoch_over_images_sees_as_many_as_there_are() -> None:
    task, params = tiny_task(), params_of(epoch_over="images", batch_size=4)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    state.selected[3:] = False
    pairs = list(two_stage.halves(state, task, params, stream(0, "h")))
    assert len(pairs) == 3  # 9 images in batches of 4
    assert [len(unlabeled) for _, unlabeled in pairs] == [2, 2, 2]


def test_a_state_saved_on_either_side_of_the_boundary_goes_on_equally() -> None:
    task, params = tiny_task(), params_of(epochs=5, stage1_epochs=2, plateau_epochs=1)

    def run(state: two_stage.State, epochs: range) -> two_stage.State:
        for epoch in epochs:
            two_stage.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        return state

    whole = run(two_stage.start([tiny_network()], task, params, stream(0, "s")), range(5))
    for stop in (1, 2, 3):
        task.views.calls = 0  # type: ignore[union-attr]
        half = run(two_stage.start([tiny_network()], task, params, stream(0, "s")), range(stop))
        tensors, tree = checkpoint.pack(half)
        other = two_stage.start([tiny_network()], task, params, stream(0, "s"))
        checkpoint.unpack(other, tensors, tree)
        run(other, range(stop, 5))
        for a, b in zip(whole.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)
        assert whole.plateau == other.plateau
        assert torch.equal(whole.ensemble, other.ensemble)


@pytest.mark.parametrize("stage1_epochs", [0, 3])
def test_a_run_of_one_stage_only(stage1_epochs: int) -> None:
    task, params = tiny_task(), params_of(epochs=3, stage1_epochs=stage1_epochs)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    for epoch in range(3):
        two_stage.run_epoch(state, task, params, epoch, stream(epoch, "e"))
    assert bool(state.ensemble.any()) == (stage1_epochs == 0)


# validation and the plateau


def test_the_rate_is_halved_after_ten_epochs_without_improvement_down_to_its_floor() -> None:
    task = tiny_task()
    params = params_of(learning_rate=0.1, floor_rate=0.03)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    rates = []
    for _ in range(31):  # the network never changes: the first accuracy is the best
        two_stage.validate(state, task, params, 1)
        rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates == [0.1] * 10 + [0.05] * 10 + [0.03] * 11


def test_validation_is_on_the_selected_samples_or_on_all_where_none_is() -> None:
    task, params = tiny_task(held_out=(8, 9, 10, 11)), params_of()
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    predicted = state.network(task.plain(torch.arange(12))).argmax(dim=1)
    state.labels = predicted.clone()
    state.labels[9:] = (predicted[9:] + 1) % 3  # of four only sample 8 is predicted as labeled
    assert two_stage.validate(state, task, params, 1) == 0.25
    state.selected[9] = state.selected[10] = False
    assert two_stage.validate(state, task, params, 1) == 0.5
    state.selected[:] = False
    assert two_stage.validate(state, task, params, 1) == 0.25


# degenerate data: the run goes on as the docstring says


@pytest.mark.parametrize("over", ["all", "labeled"])
@pytest.mark.parametrize("chosen", [[], [0], [0, 3], [0, 1, 3], list(range(9))], ids=str)
def test_empty_sides_and_classes_go_on(chosen: list[int], over: str) -> None:
    """No label left; one; one class; one class empty; no image unlabeled; batches with one labeled image."""
    task, params = tiny_task(), params_of(epoch_over=over, batch_size=4, consistency="pi")
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    state.selected[:] = False
    state.selected[chosen] = True
    pairs = list(two_stage.halves(state, task, params, stream(0, "h")))
    labeled, unlabeled = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
    assert set(labeled.tolist()) == set(chosen)
    rest = set(range(9)) - set(chosen)
    assert set(unlabeled.tolist()) <= (rest or set(chosen))
    if over == "all" and rest:
        assert set(unlabeled.tolist()) == rest
    before = copy.deepcopy(state.network.state_dict())
    two_stage.train_semi_supervised(state, task, params, 1.0, stream(0, "e"))
    task.monitor.check(0)
    after = state.network.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.isfinite(v).all() for v in after.values())


@pytest.mark.parametrize(
    "labels", [torch.arange(12) % 3, torch.zeros(12).long(), torch.tensor([0] * 10 + [1, 2])]
)
def test_whole_runs_on_strange_labels_are_finite(labels: Tensor) -> None:
    """All clean or all noise, as one looks at it; one class; two classes of which only validation has samples."""
    task, params = tiny_task(labels), params_of(epochs=3, stage1_epochs=1, batch_size=2)
    state = two_stage.start([tiny_network()], task, params, stream(0, "s"))
    for epoch in range(3):
        record = two_stage.run_epoch(state, task, params, epoch, stream(epoch, "e"))
        task.monitor.check(epoch)
        assert all(math.isfinite(v) for v in record.scalars.values())
        assert torch.isfinite(record.vectors["losses"]).all()


# METHODS.md section 10


class Echo(nn.Module):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return self.weight.expand(len(images), 3)


def test_trap_11_alpha_noise_and_dropout_are_params_of_ours_and_do_what_they_say() -> None:
    fields = {field.name: field for field in module_spec("noisyctl.methods.two_stage").fields}
    for name in (
        "consistency_weight",
        "input_noise",
        "dropout",
        "weight_decay",
        "keep_base",
        "keep_rounding",
        "batch_size",
    ):
        assert fields[name].source.startswith("ours"), name
    # 30 times the mean over 10 classes is 3 times their sum
    assert fields["consistency_weight"].default == 30 / 10
    images = torch.zeros(500, 8, 8, 1, dtype=torch.uint8)
    task = Task(images, AlternatingViews(), 3, CPU, torch.arange(500) % 3, held_out=torch.tensor([0]))
    params = two_stage.Params(dropout=0.3)
    state = two_stage.start([Echo()], task, params.model_copy(update={"dropout": 0.0}), stream(0, "s"))
    two_stage.perturbed(state, task, params, torch.arange(500), stream(0, "noise"))
    assert float(state.network.seen.std()) == pytest.approx(0.15, rel=0.02)  # 32,000 draws
    network, task = nn.Sequential(resnet14(1, 4, (8, 8))[0], nn.Linear(16, 3)), tiny_task()
    state = two_stage.start([network], task, params, stream(0, "s"))
    two_stage.train_semi_supervised(state, task, params, 1.0, stream(0, "e"))
    rates = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.3] * 6  # one between the convolutions of each unit
