"""Jo-SRC: golden rows by hand, the whole loss against a naive float64 oracle, phase boundaries, METHODS' traps."""

import copy
import math
from typing import Any

import pipeline
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Generator, Tensor, nn

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import ParamsError
from noisyctl.methods import jo_src
from noisyctl.parts.targets import smooth_one_hot
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import warmup as warmup_method
from stages import train_method, warmup

CLASSES = 4


class NoisyViews:
    """Weak views that differ: pixels plus noise."""

    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2) / 255

    def weak(self, images: Tensor, rng: Generator) -> Tensor:
        plain = self.plain(images)
        return plain + 0.5 * torch.randn(plain.shape, generator=rng)

    simclr = moco = strong = weak


class RecordingTask(Task):
    """A task that remembers its losses."""

    def step(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        self.__dict__.setdefault("seen", []).append(loss.detach())
        super().step(loss, *optimizers)


def make_task(n: int = 24) -> RecordingTask:
    rng = stream(0, "images")
    images = torch.randint(0, 256, (n, 2, 2, 1), generator=rng, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (n,), generator=rng)
    return RecordingTask(images, NoisyViews(), CLASSES, torch.device("cpu"), labels)


def make_network() -> nn.Module:
    """An MLP head of Linear, BatchNorm1d, ReLU, Linear, as the authors' code has."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    return nn.Sequential(nn.Flatten(), head)


def run(task: Task, params: jo_src.Params, epoch: int, state: Any = None) -> tuple[Any, Any]:
    state = state or jo_src.start([make_network()], task, params, stream(0, "start"))
    return state, jo_src.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch))


# The loss of a batch, written from the paper


def oracle_loss(
    p1: list[list[float]],
    p2: list[list[float]],
    labels: list[int],
    teacher: list[list[float]],
    params: jo_src.Params,
    epoch: int,
) -> float:
    """Eq. 2 to 12, sample by sample."""
    c = len(p1[0])
    eps = 0.6 if params.label_smoothing is None else params.label_smoothing
    t = epoch + 1 if params.counting == "paper" else epoch
    t_w, t_max = params.ramp_epochs, params.epochs
    tau = params.clean_threshold
    if t <= t_w and t_w:
        tau = t / t_w * tau
    else:
        tau += (t - t_w) * (params.final_clean_threshold - tau) / (t_max - t_w)
    parts = []
    for a, b, label, mt in zip(p1, p2, labels, teacher, strict=True):
        y = [1 - eps if k == label else eps / (c - 1) for k in range(c)]
        probability = 1 - jensenshannon(a, y, base=2) ** 2
        clean = probability > tau if params.counting == "paper" else probability >= tau
        same = a.index(max(a)) == b.index(max(b))
        if clean:
            kind, target = "clean", y
        elif same:
            kind, target = "id", mt
        else:
            total = sum(math.exp(v / params.ood_temperature) for v in mt)
            kind, target = "ood", [math.exp(v / params.ood_temperature) / total for v in mt]
        classify = -sum(v * math.log(x) for v, x in zip(target, a, strict=True))
        classify -= sum(v * math.log(x) for v, x in zip(target, b, strict=True))
        divergence = sum(x * math.log2(x / z) + z * math.log2(z / x) for x, z in zip(a, b, strict=True))
        parts.append((kind, classify, -divergence if kind == "ood" else divergence))
    if t < t_w:
        kept = [classify for kind, classify, _ in parts if kind == "clean"]
        return sum(kept) / max(len(kept), 1)
    used = {"clean": ("clean",), "id": ("clean", "id"), "all": ("clean", "id", "ood")}[params.trained_on]
    alpha = params.consistency_weight
    kept = [(1 - alpha) * x + alpha * d for kind, x, d in parts if kind in used]
    return sum(kept) / max(len(kept), 1)


SETTINGS = {
    "first epoch, paper": ({}, 0),
    "last of the first epochs, paper": ({}, 1),
    "first of the joint loss, paper": ({}, 2),
    "last epoch, paper": ({}, 9),
    "last of the first epochs, code": ({"counting": "code"}, 2),
    "first of the joint loss, code": ({"counting": "code"}, 3),
    "last epoch, code": ({"counting": "code"}, 9),
    "no first epochs": ({"ramp_epochs": 0}, 0),
    "Table 6: C": ({"trained_on": "clean", "consistency_weight": 0.0}, 5),
    "Table 6: CI": ({"trained_on": "id", "consistency_weight": 0.0}, 5),
    "Table 6: CIO": ({"consistency_weight": 0.0}, 5),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_equals_the_oracle_on_both_sides_of_every_boundary(name: str) -> None:
    changes, epoch = SETTINGS[name]
    base = {"epochs": 10, "ramp_epochs": 3, "clean_threshold": 0.85, "label_smoothing": 0.3, "batch_size": 64}
    params = jo_src.Params(**(base | changes))
    task = make_task(48)
    state = jo_src.start([make_network()], task, params, stream(0, "start"))
    state.teacher.get_submodule("1.3").weight.mul_(2)  # a teacher that is not the student
    student, teacher = copy.deepcopy(state.student).double(), copy.deepcopy(state.teacher).double()
    _, record = run(task, params, epoch, state)
    rng = stream(0, "epoch", epoch)
    (index,) = task.batches(64, rng)
    views = [task.weak(index, rng).double(), task.weak(index, rng).double()]
    with torch.no_grad():
        p1, p2 = (student.train()(v).softmax(dim=1).tolist() for v in views)
        guess = sum(teacher.eval()(v).softmax(dim=1) for v in views) / 2
    expected = oracle_loss(p1, p2, task.noisy_labels[index].tolist(), guess.tolist(), params, epoch)
    assert task.seen[0].item() == pytest.approx(expected, rel=1e-4)
    if epoch in (5, 9):
        assert set(record.vectors["verdict"].tolist()) == {0, 1, 2}, "the example must hold all three kinds"


# Selection


@pytest.mark.parametrize(
    ("classes", "smoothing", "expected"),
    [(80, 0.6, 0.604), (100, 0.6, 0.604), (14, 0.7, 0.507), (101, 0.65, 0.557)],
)
def test_trap_jo_src_smoothing_inside_js_in_bits(classes: int, smoothing: float, expected: float) -> None:
    """A prediction that is right and sure scores below every threshold from 0.75 on (METHODS 6)."""
    logits = torch.zeros(1, classes)
    logits[0, 3] = 200
    rows = smooth_one_hot(torch.tensor([3]), classes, smoothing)
    assert jo_src.clean_probability(logits, rows).item() == pytest.approx(expected, abs=5e-4)


def test_golden_clean_probabilities() -> None:
    rows = smooth_one_hot(torch.tensor([0, 0, 0]), 80, 0.6)
    # equal to the smoothed label; uniform: .79 to .80; sure of another class: most of the .4 is lost
    logits = torch.stack([rows[0].log(), torch.zeros(80), 200 * torch.eye(80)[1]])
    found = jo_src.clean_probability(logits, rows)
    assert found[0].item() == pytest.approx(1, abs=1e-6)
    assert 0.785 < found[1].item() < 0.805
    assert found[2].item() < 0.05
    for p_label, at_least in ((0.17, True), (0.66, True), (0.15, False), (0.69, False)):
        row = smooth_one_hot(torch.tensor([0]), 80, 1 - p_label)
        assert (jo_src.clean_probability(row.log(), rows[:1]).item() >= 0.95) == at_least


def test_trap_jo_src_threshold_off_by_one() -> None:
    paper, code = jo_src.Params(), jo_src.Params(counting="code")
    task = make_task()
    by_epoch = {
        (0, "paper"): 0.075,  # tau_c / t_w
        (9, "paper"): 0.75,  # t = t_w
        (10, "paper"): 0.75 + 0.2 / 190,
        (199, "paper"): 0.95,
        (0, "code"): 0.0,
        (9, "code"): 0.675,
        (10, "code"): 0.75,
        (199, "code"): 0.75 + 0.2 * 189 / 190,  # 0.95 is never reached
    }
    for (epoch, counting), expected in by_epoch.items():
        _, record = run(task, paper if counting == "paper" else code, epoch)
        assert record.scalars["clean_threshold"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("counting", "selected"), [("paper", False), ("code", True)])
def test_a_probability_at_the_threshold_is_clean_in_the_code_only(counting: str, selected: bool) -> None:
    _, above = jo_src.COUNTINGS[counting]
    assert above(torch.tensor([0.75]), 0.75).item() is selected


@pytest.mark.parametrize(("ramp", "total"), [(0, 5), (5, 5), (9, 5)])
def test_a_ramp_of_no_epoch_or_of_all_has_a_threshold(ramp: int, total: int) -> None:
    params = jo_src.Params(ramp_epochs=ramp, epochs=total)
    found = [jo_src.clean_threshold(t, params) for t in range(1, total + 1)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx({0: 0.95, 5: 0.75, 9: 0.75 * 5 / 9}[ramp])


def test_golden_verdicts() -> None:
    clean = torch.tensor([True, True, False, False])
    view1 = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    view2 = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 1.0], [1.0, 2.0]])
    # clean whether the views agree or not; not clean: agree -> ID, disagree -> OOD
    assert jo_src.verdict_of(clean, view1, view2).tolist() == [0, 0, 1, 2]


def test_golden_targets() -> None:
    given_rows = smooth_one_hot(torch.zeros(3, dtype=torch.long), 80, 0.6)
    guess = torch.eye(80)[[5, 5, 5]]
    targets = jo_src.relabel(torch.tensor([0, 1, 2], dtype=torch.uint8), given_rows, guess, 10.0)
    # clean: the smoothed label; ID: the teacher as it is; OOD: .0138 where a sure teacher looks, else .0125 (METHODS 6)
    assert targets[0, 0].item() == pytest.approx(0.4)
    assert targets[0, 1].item() == pytest.approx(0.6 / 79)
    assert targets[1].tolist() == guess[1].tolist()
    assert targets[2, 5].item() == pytest.approx(0.0138, abs=5e-5)
    assert targets[2, 6].item() == pytest.approx(0.0125, abs=5e-5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))


def test_trap_jo_src_negative_kl_for_ood() -> None:
    view1, view2 = torch.tensor([[0.5, 0.5]] * 3).log(), torch.tensor([[0.25, 0.75]] * 3).log()
    # 1/2 log2(2) + 1/2 log2(2/3) + 1/4 log2(1/2) + 3/4 log2(3/2) = 1/4 + 1/4 log2(3/2) bits; only OOD is rewarded for it
    bits = 0.25 + 0.25 * math.log2(1.5)
    found = jo_src.consistency(torch.tensor([0, 1, 2], dtype=torch.uint8), view1, view2)
    torch.testing.assert_close(found, torch.tensor([bits, bits, -bits]))


def test_gradients_are_right_and_finite_where_predictions_are_sure() -> None:
    verdict = torch.tensor([0, 1, 2], dtype=torch.uint8)
    a, b = (torch.randn(3, 5, dtype=torch.float64, generator=stream(0, s), requires_grad=True) for s in "ab")
    assert torch.autograd.gradcheck(lambda x, y: jo_src.consistency(verdict, x, y), (a, b))
    sure = (200 * torch.eye(3)).requires_grad_()
    other = (200 * torch.eye(3)[[1, 2, 0]]).requires_grad_()
    total = jo_src.consistency(verdict, sure, other).sum()
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(sure.grad).all() and torch.isfinite(other.grad).all()  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), smoothing=st.floats(0, 0.7))
def test_clean_probability_lies_in_the_unit_interval_and_moves_with_the_classes(
    seed: int, smoothing: float
) -> None:
    logits = 5 * torch.randn(6, 4, generator=stream(seed, "logits"))
    labels = torch.randint(0, 4, (6,), generator=stream(seed, "labels"))
    rows = smooth_one_hot(labels, 4, smoothing)
    found = jo_src.clean_probability(logits, rows)
    assert ((found >= 0) & (found <= 1)).all()
    order = torch.randperm(4, generator=stream(seed, "order"))
    torch.testing.assert_close(jo_src.clean_probability(logits[:, order], rows[:, order]), found)


# Training


@pytest.mark.parametrize(("beta", "epoch", "expected"), [(0.1, 79, 0.9), (0.1, 80, 0.1), (0.9, 80, 0.9)])
def test_trap_jo_src_beta1_drop(beta: float, epoch: int, expected: float) -> None:
    params = jo_src.Params(late_beta1=beta)
    state, record = run(make_task(), params, epoch)
    assert state.optimizer.param_groups[0]["betas"] == (expected, 0.999)
    assert record.scalars["learning_rate"] == pytest.approx(1e-3)  # (200 - 80) / 120 of it at 80


def test_the_rate_falls_linearly_after_decay_start() -> None:
    _, record = run(make_task(), jo_src.Params(), 140)
    assert record.scalars["learning_rate"] == pytest.approx(1e-3 * (200 - 140) / 120)


def test_sgd_is_nesterov_with_a_cosine() -> None:
    params = jo_src.Params(optimizer="sgd", epochs=10, learning_rate=0.002, weight_decay=1e-4)
    state, record = run(make_task(), params, 5)
    group = state.optimizer.param_groups[0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 1e-4)
    assert record.scalars["learning_rate"] == pytest.approx(0.001)  # half way


@pytest.mark.parametrize("epoch", [0, 5])
def test_the_teacher_follows_in_all_epochs_with_the_student_s_buffers(epoch: int) -> None:
    params = jo_src.Params(epochs=10, ramp_epochs=3, learning_rate=0.1)
    task = make_task()
    state = jo_src.start([make_network()], task, params, stream(0, "start"))
    before = [p.clone() for p in state.teacher.parameters()]
    run(task, params, epoch, state)
    assert not any(p.requires_grad for p in state.teacher.parameters())
    pairs = list(zip(before, state.teacher.parameters(), state.student.parameters(), strict=True))
    assert any(not torch.equal(old, student) for old, _, student in pairs)
    for old, teacher, student in pairs:
        torch.testing.assert_close(teacher, 0.99 * old + 0.01 * student)
    for teacher, student in zip(state.teacher.buffers(), state.student.buffers(), strict=True):
        assert torch.equal(teacher, student)


def test_the_teacher_s_batch_norm_is_its_own_choice() -> None:
    task = make_task()
    guesses = {}
    for statistics in ("running", "batch"):
        params = jo_src.Params(epochs=10, ramp_epochs=0, clean_threshold=1.0, teacher_statistics=statistics)
        state, record = run(task, params, 0)
        assert state.teacher.training == (statistics == "batch")
        guesses[statistics] = record.vectors["losses"]
        for teacher, student in zip(state.teacher.buffers(), state.student.buffers(), strict=True):
            assert torch.equal(teacher, student)
    assert not torch.equal(guesses["running"], guesses["batch"])


def test_trap_jo_src_student_is_evaluated_not_the_teacher() -> None:
    state, _ = run(make_task(), jo_src.Params(learning_rate=0.1), 0)
    images = torch.rand(5, 1, 2, 2, generator=stream(0, "test"))
    for network in (state.student, state.teacher):
        network.eval()
    assert torch.equal(jo_src.predict(state, images), state.student(images))
    assert not torch.equal(jo_src.predict(state, images), state.teacher(images))


def test_trap_jo_src_mlp_head_takes_a_last_batch_of_one() -> None:
    """Its BatchNorm1d has no statistics of a single row."""
    task = make_task(17)
    _, record = run(task, jo_src.Params(batch_size=8), 0)
    assert len(task.seen) == 2
    assert (record.vectors["losses"] > 0).all()


def test_a_batch_without_clean_samples_has_loss_zero_and_moves_nothing() -> None:
    task = make_task()
    params = jo_src.Params(clean_threshold=1.0, ramp_epochs=10, epochs=20, label_smoothing=0.0)
    state = jo_src.start([make_network()], task, params, stream(0, "start"))
    before = copy.deepcopy(state.student)
    _, record = run(
        task, params, 8, state
    )  # threshold 0.9: only a sure prediction is that near to a one-hot label
    assert not record.vectors["selected"].any()
    assert [loss.item() for loss in task.seen] == [0.0]
    for a, b in zip(before.parameters(), state.student.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("threshold", "kinds"), [(0.0, {0}), (1.0, {1, 2})])
def test_all_clean_and_none_clean_go_on(threshold: float, kinds: set[int]) -> None:
    task = make_task()
    params = jo_src.Params(
        clean_threshold=threshold, final_clean_threshold=threshold, ramp_epochs=0, epochs=4, counting="code"
    )
    state = None
    for epoch in range(4):
        state, record = run(task, params, epoch, state)
        assert set(record.vectors["verdict"].tolist()) <= kinds
    assert torch.isfinite(torch.stack(task.seen)).all()
    assert all(torch.isfinite(p).all() for p in state.student.parameters())


def test_the_trace_s_verdicts_and_labels_belong_together() -> None:
    task = make_task(48)
    params = jo_src.Params(epochs=10, ramp_epochs=0, clean_threshold=0.85, label_smoothing=0.3)
    _, record = run(task, params, 5)
    vectors = record.vectors
    assert vectors["verdict"].dtype == torch.uint8 and vectors["selected"].dtype == torch.bool
    assert torch.equal(vectors["selected"], vectors["verdict"] == 0)
    clean = vectors["selected"]
    assert clean.any()
    assert torch.equal(vectors["pseudo_labels"][clean], task.noisy_labels[clean])


def test_smoothing_that_hides_the_label_is_refused() -> None:
    task = Task(None, None, 2, torch.device("cpu"), torch.tensor([0, 1]))
    with pytest.raises(ParamsError, match=r"label_smoothing 0\.6 .*of 2 classes.*below 0\.5"):
        jo_src.start([make_network()], task, jo_src.Params(label_smoothing=0.6), stream(0, "start"))


@pytest.mark.parametrize(
    "classes, given, expected", [(10, None, 0.6), (3, None, 0.6), (2, None, 0.25), (2, 0.4, 0.4)]
)
def test_smoothing_that_nobody_chose_is_the_paper_s_or_fits_two_classes(
    classes: int, given: float | None, expected: float
) -> None:
    task = Task(None, None, classes, torch.device("cpu"), torch.tensor([0, 1]))
    assert jo_src.smoothing(jo_src.Params(label_smoothing=given), task) == expected


def test_it_starts_from_a_warm_up_of_no_epochs(home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The paper's start: an untrained network."""
    profile = warmup_method.Params(backbone="small_cnn", width=4, epochs=0, networks=1)
    session = pipeline.session(home)
    warmup.run(
        warmup.Inputs(home / "images.zarr", home / "labels.zarr", tmp_path / "untrained"), profile, session
    )
    inputs = train_method.Inputs(
        "jo_src", home / "labels.zarr", tmp_path / "run", home / "images.zarr", tmp_path / "untrained"
    )
    train_method.run(inputs, jo_src.Params(epochs=2, ramp_epochs=1, batch_size=64), session)
    trace = store.read(tmp_path / "run/trace.zarr", TRACE)
    assert trace.array("verdict").shape == (2, pipeline.SIZE)
    assert trace.array("scalar_clean_threshold").tolist() == pytest.approx([0.75, 0.95])
