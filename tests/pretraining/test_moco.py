"""MoCo: the loss against loops, the queue, the teacher and the split batch norms by hand, and that it learns."""

import math
from pathlib import Path

import pytest
import torch
import toys
from torch import nn
from torch.nn.functional import normalize

from noisyctl.errors import ParamsError
from noisyctl.nn.networks import Classifier, build
from noisyctl.pretraining import moco
from noisyctl.seeds import stream


def unit(rows: int, d: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, d, generator=rng, dtype=torch.float64), dim=1)


def by_loops(
    queries: list[list[float]], keys: list[list[float]], queue: list[list[float]], temperature: float
) -> list[float]:
    """Eq. 1 as printed: k+ is the own key, the sum runs over it and the K keys of the queue."""

    def product(a: list[float], b: list[float]) -> float:
        total = 0.0
        for x, y in zip(a, b, strict=True):
            total += x * y
        return total

    losses = []
    for query, key in zip(queries, keys, strict=True):
        denominator = math.exp(product(query, key) / temperature)
        for other in queue:
            denominator += math.exp(product(query, other) / temperature)
        losses.append(-math.log(math.exp(product(query, key) / temperature) / denominator))
    return losses


@pytest.mark.parametrize("b", [1, 4])
@pytest.mark.parametrize("q", [1, 3, 16])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_the_loss_is_that_of_loops(b: int, q: int, temperature: float) -> None:
    queries, keys, queue = unit(b, 3, seed=1), unit(b, 3, seed=2), unit(q, 3, seed=3)
    expected = by_loops(queries.tolist(), keys.tolist(), queue.tolist(), temperature)
    losses = moco.info_nce(queries, keys, queue, temperature)
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def test_the_loss_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    # the own key is alike: logits 2 against 0 and -2 at temperature 1/2
    right = moco.info_nce(query, query, queue, 0.5)
    torch.testing.assert_close(right, torch.tensor([math.log(1 + math.exp(-2) + math.exp(-4))]))
    # the own key is opposite, and stands in the queue once more: two of -2 and one of 0
    wrong = moco.info_nce(query, -query, queue, 0.5)
    torch.testing.assert_close(wrong, torch.tensor([math.log(2 + math.exp(2))]))
    # nothing tells the own key from 7 others: a guess among 8
    guess = moco.info_nce(query, query, query.repeat(7, 1), 0.2)
    torch.testing.assert_close(guess, torch.tensor([math.log(8)]))


def test_gradients_are_those_of_finite_differences() -> None:
    keys, queue = unit(3, 4, seed=2), unit(5, 4, seed=3)
    queries = unit(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: moco.info_nce(x, keys, queue, 0.2), queries)


def test_autocast_does_not_round_the_similarities() -> None:
    queries, keys, queue = (unit(4, 8, seed=seed).float() for seed in (1, 2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = moco.info_nce(queries, keys, queue, 0.1)
    assert torch.equal(rounded, moco.info_nce(queries, keys, queue, 0.1))


def test_the_queue_goes_round() -> None:
    queue, pointer = torch.zeros(5, 1), 0
    seen = []
    for first in (1, 3, 5, 7):
        pointer = moco.enqueue(queue, torch.tensor([[first], [first + 1]]).float(), pointer)
        seen.append((queue[:, 0].tolist(), pointer))
    assert seen == [
        ([1, 2, 0, 0, 0], 2),
        ([1, 2, 3, 4, 0], 4),
        ([6, 2, 3, 4, 5], 1),  # the sixth key takes the place of the first
        ([6, 7, 8, 4, 5], 3),
    ]
    assert moco.enqueue(queue, torch.arange(5.0)[:, None], pointer) == 3  # a whole queue: once round
    assert queue[:, 0].tolist() == [2, 3, 4, 0, 1]


def started(n: int = 20, **params):
    chosen = moco.Params(**{"batch_size": 8, "queue_size": 11, "embedding_size": 16} | params)
    task, rng = toys.digits_task(n), stream(0, "start")
    return moco.start([build(toys.SPEC, stream(0, "init"))], task, chosen, rng), task, chosen


def test_an_epoch_fills_the_queue_and_moves_the_teacher() -> None:
    state, task, params = started(n=8, learning_rate=0.1, teacher_momentum=0.75)
    old = [p.detach().clone() for p in state.teacher.parameters()]
    queue = state.queue.clone()
    moco.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert state.pointer == 8
    torch.testing.assert_close(state.queue.norm(dim=1), torch.ones(11))
    assert torch.equal(state.queue[8:], queue[8:])
    assert not torch.isclose(state.queue[:8], queue[:8]).any(dim=1).all()
    students = list(state.network.parameters())
    for before, teacher, student in zip(old, state.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(teacher, 0.75 * before + 0.25 * student)  # Eq. 2, with the stepped student
    assert any((a != b).any() for a, b in zip(old, students, strict=True))


def test_keys_and_teacher_have_no_gradient() -> None:
    state, task, params = started()
    moco.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert all(p.grad is None and not p.requires_grad for p in state.teacher.parameters())
    assert all(p.grad is not None for p in state.network.parameters())
    assert not state.queue.requires_grad
    held = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in state.network.parameters()}


def test_two_batches_of_eight_stand_in_a_queue_of_eleven() -> None:
    state, task, params = started(n=20)
    moco.run_epoch(state, task, params, 0, stream(0, "epoch"))
    assert state.pointer == 16 % 11  # the last four images make no batch


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.BatchNorm1d])
def test_a_split_batch_norm_is_one_norm_a_group(norm: type[nn.BatchNorm2d | nn.BatchNorm1d]) -> None:
    shape = (12, 5, 3, 2) if norm is nn.BatchNorm2d else (12, 5)
    x = torch.randn(shape, generator=stream(0, "x")) + torch.arange(12.0).view(-1, *(1,) * (len(shape) - 1))
    plain, references = norm(5), [norm(5) for _ in range(4)]
    for one in (plain, *references):
        nn.init.uniform_(one.weight, generator=stream(0, "weight"))
        nn.init.uniform_(one.bias, generator=stream(0, "bias"))
    split = moco.SplitBatchNorm(plain, 4)
    out = split(x)
    for group, reference in enumerate(references):
        torch.testing.assert_close(out[group::4], reference(x[group::4]))
    means = torch.stack([reference.running_mean for reference in references])
    variances = torch.stack([reference.running_var for reference in references])
    torch.testing.assert_close(plain.running_mean, means.mean(dim=0))  # shared with the plain one
    torch.testing.assert_close(plain.running_var, variances.mean(dim=0))
    torch.testing.assert_close(split.eval()(x), plain.eval()(x))


def test_a_batch_that_does_not_divide_has_as_many_groups_as_fit() -> None:
    x = torch.randn(6, 3, generator=stream(0, "x"))
    out = moco.SplitBatchNorm(nn.BatchNorm1d(3), 4)(x)  # two groups of three
    torch.testing.assert_close(out[::2], nn.BatchNorm1d(3)(x[::2]))
    whole = moco.SplitBatchNorm(nn.BatchNorm1d(3), 4)(x[:5])
    torch.testing.assert_close(whole, nn.BatchNorm1d(3)(x[:5]))


def test_splitting_changes_no_name_and_no_weight() -> None:
    network = build(toys.SPEC, stream(0, "init"))
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    moco.split_batch_norms(network, 4)
    assert sum(isinstance(m, moco.SplitBatchNorm) for m in network.modules()) == 3
    twin = Classifier(toys.SPEC)
    twin.load_state_dict(network.state_dict())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in twin.state_dict().items())


def encoder(split: bool) -> nn.Module:
    network = build(toys.SPEC, stream(0, "init")).requires_grad_(False)
    if split:
        moco.split_batch_norms(network, 4)
    return network


def test_shuffled_keys_meet_other_statistics_than_keys_in_order() -> None:
    task = toys.digits_task(16)
    views, order = task.plain(torch.arange(16)), torch.randperm(16, generator=stream(0, "order"))
    in_order = moco.encode_keys(encoder(split=True), views, torch.arange(16))
    shuffled = moco.encode_keys(encoder(split=True), views, order)
    assert ((in_order - shuffled).norm(dim=1) > 1e-3).all()
    # key order[j] was normalized with those at j's place in its group, by a plain network
    for group in range(4):
        members = order[group::4]
        expected = normalize(encoder(split=False)(views[members]), dim=1)
        torch.testing.assert_close(shuffled[members], expected)
    # on a batch norm over the whole batch the order changes nothing
    plain = [moco.encode_keys(encoder(split=False), views, o) for o in (torch.arange(16), order)]
    torch.testing.assert_close(*plain)


@pytest.mark.parametrize(("kind", "splits"), [("shuffle", 3), ("split", 3), ("plain", 0)])
def test_the_kinds_of_batch_norm_differ_in_what_they_learn(kind: str, splits: int) -> None:
    state, task, params = started(batch_norm=kind)
    for network in (state.network, state.teacher):
        assert sum(isinstance(m, moco.SplitBatchNorm) for m in network.modules()) == splits
    moco.run_epoch(state, task, params, 0, stream(0, "epoch"))
    others = [k for k in ("shuffle", "split", "plain") if k != kind]
    for other in others:
        twin, task, params = started(batch_norm=other)
        moco.run_epoch(twin, task, params, 0, stream(0, "epoch"))
        assert not torch.equal(twin.queue, state.queue)


def test_the_learning_rate_falls_along_a_cosine() -> None:
    state, task, params = started(epochs=4, learning_rate=0.4)
    rates = [moco.run_epoch(state, task, params, e, stream(0, e)).scalars["learning_rate"] for e in range(4)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.4, 0.2 * (1 + half), 0.2, 0.2 * (1 - half)])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"queue_size": 7}, "moco.queue_size is 7, moco.batch_size 8.*give a queue_size of 8 or more"),
        (
            {"batch_norm_groups": 3},
            "moco.batch_size 8 does not divide into moco.batch_norm_groups 3.*multiple",
        ),
    ],
)
def test_params_that_cannot_be_are_refused(params: dict[str, int], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        started(**params)
    started(batch_norm="plain", batch_norm_groups=3)  # plain has no groups


def test_learning_brings_views_of_digits_of_a_kind_together(tmp_path: Path) -> None:
    params = moco.Params(
        epochs=20, batch_size=64, learning_rate=0.05, queue_size=256, teacher_momentum=0.99, embedding_size=16
    )
    task = toys.digits_task(512)
    before = toys.run(moco, task, params, tmp_path / "untrained", epochs=0).network
    after = toys.run(moco, task, params, tmp_path / "trained").network
    # about 42% and 63% when this was written
    assert toys.knn_accuracy(after.features, task) > toys.knn_accuracy(before.features, task) + 0.1
