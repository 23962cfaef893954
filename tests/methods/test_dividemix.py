"""DivideMix's own: who learns on whose division, the schedules, what is forwarded, and that nothing stops it."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from noisyctl.errors import ParamsError
from noisyctl.methods import dividemix
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.parts import co_divide
from noisyctl.seeds import stream
from noisyctl.task import EpochRecord, Task
from noisyctl.training import checkpoint
from noisyctl.views import ImageViews

CLASSES, SIZE = 4, 40
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=1,
    channels=1,
    size=(8, 8),
    num_outputs=CLASSES,
    head="linear",
)
HALVES = torch.arange(SIZE) < SIZE // 2


def make_task(size: int = SIZE, **known: Any) -> Task:
    images = torch.randint(0, 256, (size, 8, 8, 1), generator=stream(0, "images"), dtype=torch.uint8)
    labels = torch.arange(size) % CLASSES
    return Task(
        images,
        ImageViews("digits", (0.5,), (0.5,)),
        CLASSES,
        torch.device("cpu"),
        **{"labels": labels} | known,
    )


def begin(task: Task, **values: Any) -> tuple[dividemix.State, dividemix.Params]:
    params = dividemix.Params(**{"batch_size": 8} | values)
    networks: list[nn.Module] = [build(SPEC, stream(seed, "init")) for seed in (0, 1)]
    return dividemix.start(networks, task, params, stream(0, "start")), params


def run(
    state: dividemix.State, task: Task, params: dividemix.Params, epoch: int = 0, seed: int = 0
) -> EpochRecord:
    return dividemix.run_epoch(state, task, params, epoch, stream(seed, "epoch", epoch))


def weights(state: dividemix.State) -> torch.Tensor:
    parts = [p.detach().ravel() for net in (state.network1, state.network2) for p in net.parameters()]
    return torch.cat(parts)


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[torch.Tensor]]:
    """Puts given posteriors in the place of the mixture's, first network's first; gives what the mixture was asked."""

    def put(*posteriors: torch.Tensor) -> list[torch.Tensor]:
        asked: list[torch.Tensor] = []

        def posterior(losses: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
            asked.append(losses.clone())
            return posteriors[(len(asked) - 1) % len(posteriors)]

        monkeypatch.setattr(co_divide, "scaled_clean_probability", posterior)
        return asked

    return put


@pytest.fixture
def losses_asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of every call of the loss: logits, targets, labeled rows, weight, prior weight."""
    calls: list[tuple[Any, ...]] = []

    def loss(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return original(*arguments)

    original = co_divide.mixmatch_loss
    monkeypatch.setattr(co_divide, "mixmatch_loss", loss)
    return calls


def test_each_network_learns_on_the_division_of_the_other(divided, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    first, second = torch.where(HALVES, 0.9, 0.2), torch.where(HALVES, 0.1, 0.8)
    divided(first, second)
    task = make_task()
    state, params = begin(task)
    learned: list[tuple[str, bool, bool, torch.Tensor, torch.Tensor]] = []

    def targets(learner, peer, images, given, clean, temperature):  # type: ignore[no-untyped-def]
        names = {id(state.network1): "first", id(state.network2): "second"}
        learned.append((names[id(learner)], learner.training, peer.training, given, clean))
        return original(learner, peer, images, given, clean, temperature)

    original = co_divide.make_targets
    monkeypatch.setattr(co_divide, "make_targets", targets)
    record = run(state, task, params)
    assert [name for name, *_ in learned] == ["first"] * 3 + ["second"] * 3  # 20 labeled in batches of 8
    assert all(learning and not peering for _, learning, peering, *_ in learned)
    for name, *_, clean in learned:  # with the posterior of the other, too
        torch.testing.assert_close(clean, torch.full_like(clean, 0.8 if name == "first" else 0.9))
    assert record.vectors["selected"].tolist() == [HALVES.tolist(), (~HALVES).tolist()]
    torch.testing.assert_close(record.vectors["clean_probability"], torch.stack([first, second]))


def test_both_divisions_are_made_before_either_network_learns(divided) -> None:  # type: ignore[no-untyped-def]
    asked = divided(torch.where(HALVES, 0.9, 0.1))
    task = make_task()
    state, params = begin(task)
    before = [copy.deepcopy(net).eval() for net in (state.network1, state.network2)]
    record = run(state, task, params)
    assert not torch.equal(weights(state), torch.cat([p.ravel() for net in before for p in net.parameters()]))
    for k, network in enumerate(before):
        losses = cross_entropy(network(task.plain(torch.arange(SIZE))), task.noisy_labels, reduction="none")
        torch.testing.assert_close(record.vectors["losses"][k], losses.detach())
        scaled = (losses - losses.min()) / (losses.max() - losses.min())
        torch.testing.assert_close(asked[k], scaled.detach())


def test_the_averaged_losses_are_those_of_the_last_epochs(divided) -> None:  # type: ignore[no-untyped-def]
    asked = divided(torch.where(HALVES, 0.9, 0.1))
    task = make_task()
    state, params = begin(task, averaged_losses=2)
    alone = [run(state, task, params, epoch).vectors["losses"] for epoch in range(3)]
    scaled = [(x - x.amin(1, True)) / (x.amax(1, True) - x.amin(1, True)) for x in alone]
    fitted = torch.stack(asked).unflatten(0, (3, 2))
    torch.testing.assert_close(fitted[0], scaled[0])  # fewer at the start
    torch.testing.assert_close(fitted[1], (scaled[0] + scaled[1]) / 2)
    torch.testing.assert_close(fitted[2], (scaled[1] + scaled[2]) / 2)  # the oldest is gone
    assert len(state.history) == 2


def test_an_epoch_is_one_pass_over_the_labeled_side_and_lambda_u_grows_within_it(
    divided, losses_asked
) -> None:  # type: ignore[no-untyped-def]
    divided(torch.where(torch.arange(SIZE) < 24, 0.9, 0.1))
    task = make_task()
    state, params = begin(task, unlabeled_weight=32.0)
    run(state, task, params, epoch=3)
    assert [call[2] for call in losses_asked] == [16] * 6  # three labeled batches of 8, twice: two views
    assert [len(call[0]) for call in losses_asked] == [32] * 6  # 16 unlabeled samples start again
    # 24 // 8 + 1 = 4 steps a whole epoch; 32 (3 + step / 4) / 16
    assert [call[3] for call in losses_asked] == pytest.approx([6.0, 6.5, 7.0] * 2)
    assert {call[4] for call in losses_asked} == {1.0}


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0.0, 0.0), (8.0, 12.5), (15.5, 24.21875), (16.0, 25.0), (290.0, 25.0)]
)
def test_lambda_u_rises_over_sixteen_epochs(epoch: float, expected: float) -> None:
    assert co_divide.unlabeled_weight(epoch, dividemix.Params()) == expected


def test_without_a_ramp_lambda_u_is_whole_at_once() -> None:
    assert co_divide.unlabeled_weight(0.0, dividemix.Params(ramp_epochs=0)) == 25.0


def test_the_learning_rate_falls_at_epoch_150_counted_with_warm_up(divided) -> None:  # type: ignore[no-untyped-def]
    divided(torch.where(HALVES, 0.9, 0.1))
    task = make_task(warmup_epochs=10)
    state, params = begin(task)
    for epoch, rate in ((139, 0.02), (140, 0.002)):
        assert run(state, task, params, epoch).scalars["learning_rate"] == pytest.approx(rate)
        assert [o.param_groups[0]["lr"] for o in state.optimizers] == pytest.approx([rate] * 2)


def test_mixed_in_forwards_labeled_rows_only_though_partners_are_unlabeled(
    divided, losses_asked, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    divided(torch.where(HALVES, 0.9, 0.1))
    mixed: list[int] = []

    def mix(images, targets, alpha, rng):  # type: ignore[no-untyped-def]
        mixed.append(len(images))
        return original(images, targets, alpha, rng)

    original = co_divide.mixmatch
    monkeypatch.setattr(co_divide, "mixmatch", mix)
    task = make_task()
    state, params = begin(task, unlabeled="mixed_in")
    run(state, task, params)
    assert mixed[:3] == [32, 32, 16]  # two views of 8 + 8, 8 + 8 and of the last batches, 4 + 4
    assert [(len(call[0]), call[2]) for call in losses_asked[:3]] == [(16, 16), (16, 16), (8, 8)]


def finite_after(state: dividemix.State, task: Task, params: dividemix.Params) -> EpochRecord:
    before, record = weights(state), run(state, task, params)
    assert torch.isfinite(weights(state)).all()
    assert not torch.equal(weights(state), before)
    task.monitor.check(0)
    for name, vector in record.vectors.items():
        assert torch.isfinite(vector.float()).all(), name
    return record


@pytest.mark.parametrize(
    ("posterior", "labeled"),
    [
        (torch.linspace(0.1, 0.4, SIZE), 8),  # no clean sample: a batch of the most probable
        (torch.ones(SIZE), SIZE),  # no noisy sample
        ((torch.arange(SIZE) == 3).float(), 1),  # one labeled sample
        ((torch.arange(SIZE) != 3).float(), SIZE - 1),  # one unlabeled sample
        ((torch.arange(SIZE) % CLASSES > 0).float(), SIZE * 3 // 4),  # a class without labeled samples
        ((torch.arange(SIZE) < 9).float(), 9),  # the labeled batches would end with a batch of one
    ],
)
def test_no_division_stops_it(divided, losses_asked, posterior: torch.Tensor, labeled: int) -> None:  # type: ignore[no-untyped-def]
    divided(posterior)
    task = make_task()
    state, params = begin(task, ramp_epochs=0)
    record = finite_after(state, task, params)
    assert record.scalars["labeled_rate"] == pytest.approx(labeled / SIZE)
    if labeled == SIZE:
        assert all(len(call[0]) == call[2] for call in losses_asked)  # the labeled part alone


def constant(network: nn.Module) -> None:
    nn.init.zeros_(network.get_submodule("head.0").weight)
    nn.init.zeros_(network.get_submodule("head.0").bias)


@pytest.mark.parametrize("spread", [0.0, 1e-4])
def test_equal_losses_and_one_mode_go_on(spread: float) -> None:
    task = make_task()
    state, params = begin(task)
    for network in (state.network1, state.network2):
        constant(network)
        nn.init.normal_(network.get_submodule("head.0").bias, std=spread, generator=stream(0, "bias"))
    record = finite_after(state, task, params)
    if not spread:
        assert record.scalars["labeled_rate"] == 1.0


def test_a_training_set_of_one_sample_goes_on() -> None:
    task = make_task(1)
    finite_after(*(lambda pair: (pair[0], task, pair[1]))(begin(task)))


def test_labels_that_are_held_out_change_nothing() -> None:
    out = torch.arange(0, SIZE, 5)
    task = make_task(held_out=out)
    labels = task.noisy_labels.clone()
    labels[out] = (labels[out] + 1) % CLASSES
    trained = []
    for each in (task, replace(task, labels=labels)):
        state, params = begin(each)
        record = run(state, each, params)
        trained.append(weights(state))
        assert not record.vectors["selected"][:, out].any()
    assert torch.equal(*trained)


def test_a_balanced_part_alone_is_evaluated_divided_and_traced(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Two batches of 8 are 4 of each of 4 classes; a sample keeps what the last epoch that drew it found."""
    asked: list[int] = []
    original = co_divide.scaled_clean_probability

    def posterior(losses: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        asked.append(len(losses))
        return original(losses, rng)

    monkeypatch.setattr(co_divide, "scaled_clean_probability", posterior)
    evaluated: list[int] = []
    plain = Task.plain
    monkeypatch.setattr(Task, "plain", lambda self, index: evaluated.append(len(index)) or plain(self, index))
    task = make_task()
    state, params = begin(task, epoch_batches=2)
    drawn = []
    for epoch in range(2):
        before = {name: vector.clone() for name, vector in state.last.items()}
        record = run(state, task, params, epoch)
        part = task.balanced(16, stream(0, "epoch", epoch))  # the epoch's first draw
        assert task.noisy_labels[part].bincount().tolist() == [4] * 4
        rest = torch.ones(SIZE, dtype=torch.bool)
        rest[part] = False
        for name, vector in record.vectors.items():
            assert torch.equal(vector[..., rest], before[name][..., rest]), name
        assert (record.vectors["losses"][:, part] > 0).all()
        drawn.append(set(part.tolist()))
    assert asked == [16] * 4 and evaluated == [16] * 2
    never = list(set(range(SIZE)) - drawn[0] - drawn[1])
    assert never and drawn[0] != drawn[1]
    assert (record.vectors["clean_probability"][:, never] == 1).all()
    assert record.vectors["selected"][:, never].all()
    assert torch.equal(record.vectors["pseudo_labels"][never], task.noisy_labels[never])


def test_a_balanced_part_of_every_epoch_has_no_losses_to_average() -> None:
    with pytest.raises(
        ParamsError, match=r"averaged_losses is 5, .* set averaged_losses to 1 or epoch_batches to 0"
    ):
        begin(make_task(), epoch_batches=2, averaged_losses=5)


def test_a_checkpoint_with_a_balanced_part_gives_the_same_end() -> None:
    task = make_task()
    state, params = begin(task, epoch_batches=2)
    run(state, task, params, 0)
    other, _ = begin(task, epoch_batches=2)
    checkpoint.unpack(other, *checkpoint.pack(state))
    ends = [run(each, task, params, 1) for each in (state, other)]
    assert torch.equal(weights(state), weights(other))
    assert all(torch.equal(ends[0].vectors[name], ends[1].vectors[name]) for name in ends[0].vectors)


def test_pseudo_labels_are_the_given_label_where_it_is_clean_and_else_the_prediction(divided) -> None:  # type: ignore[no-untyped-def]
    divided(HALVES.float())
    task = make_task()
    state, params = begin(task)
    record = run(state, task, params)
    expected = torch.where(HALVES, task.noisy_labels, record.vectors["predictions"])
    assert torch.equal(record.vectors["pseudo_labels"], expected)
    assert not torch.equal(record.vectors["predictions"], task.noisy_labels)


class NoSync(TorchDispatchMode):
    """Fails on what makes a host wait for its device: a number read, a shape that depends on data, a mask as index."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal.default")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert not any(name in str(func) for name in self.FORBIDDEN), func
        if "index" in str(func) and len(args) > 1 and isinstance(args[1], list | tuple):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "a mask as index"
        return func(*args, **(kwargs or {}))


def test_the_batch_loop_never_waits_for_the_device(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    task, index = make_task(), torch.arange(SIZE)
    state, params = begin(task, epochs=1)
    task.plain(index)  # copies mean and std to the device, once
    # one-hot rows check their range on a CPU only; they are made before the loop in any case
    monkeypatch.setattr(co_divide, "one_hot", lambda labels, c, rows=torch.eye(CLASSES): rows[labels])
    division = index[HALVES], index[~HALVES], HALVES.float()
    for name in ("tolist", "numpy"):  # they read a CPU tensor past the dispatcher
        monkeypatch.setattr(torch.Tensor, name, None, raising=False)
    with NoSync():
        number = 0
        for loss in co_divide.steps(
            state.network1, state.network2, division, task, params, 0, stream(0, "e"), view=task.weak
        ):
            task.step(loss, state.optimizers[0])
            number += 1
    assert number == 3


@pytest.mark.parametrize("act", [float, lambda x: x[x > 0], lambda x: bool(x > 0), torch.nonzero])
def test_no_sync_sees_a_sync(act: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(AssertionError), NoSync():
        act(torch.ones(1))
