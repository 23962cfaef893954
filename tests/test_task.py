"""Task: the class-balanced samples of an epoch, and a step."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.seeds import stream
from noisyctl.task import Task, rank_in_class


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    size=st.integers(1, 30),
)
def test_a_subset_takes_each_class_s_share_or_all_it_has(seed: int, counts: list[int], size: int) -> None:
    labels = torch.cat([torch.full((k,), c) for c, k in enumerate(counts)]).long()
    task = Task(None, None, len(counts), torch.device("cpu"), labels)
    found = task.balanced(size, stream(seed, "subset"))
    assert len(found.unique()) == len(found)
    share = -(-size // len(counts))
    shares = [min(share, k) for k in counts]
    assert len(found) == min(size, sum(shares))
    per_class = labels[found].bincount(minlength=len(counts)).tolist()
    assert all(n <= most for n, most in zip(per_class, shares, strict=True))


def test_eight_of_two_classes_are_four_of_each_and_others_in_the_next_epoch() -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    task = Task(None, None, 2, torch.device("cpu"), labels, held_out=torch.tensor([0, 39]))
    drawn = [task.balanced(8, stream(0, "epoch", e)) for e in range(40)]
    assert all(labels[index].bincount().tolist() == [4, 4] for index in drawn)
    assert torch.cat(drawn).unique().tolist() == list(
        range(1, 39)
    )  # all are drawn some day, held-out ones never


def test_an_epoch_without_a_size_is_over_all_and_draws_nothing() -> None:
    task = Task(None, None, 2, torch.device("cpu"), torch.tensor([0, 1, 1]), held_out=torch.tensor([1]))
    rng = stream(0, "epoch")
    before = rng.get_state()
    assert task.balanced(0, rng).tolist() == [0, 2]
    assert torch.equal(rng.get_state(), before)


def test_ranks_count_those_before_of_the_same_label() -> None:
    found = rank_in_class(torch.tensor([2, 0, 2, 2, 0, 3]))
    assert found.tolist() == [0, 0, 1, 2, 1, 0]
    assert rank_in_class(torch.zeros(0, dtype=torch.long)).tolist() == []


def test_a_step_has_the_gradient_of_the_forward_pass_though_autocast_is_on() -> None:
    """A product in float32, as SimCLR's similarities, has a float32 gradient: not one rounded to three digits."""
    rows = torch.randn(6, 4, generator=stream(0, "rows"))
    task, found = Task(None, None, 2, torch.device("cpu")), []
    for enabled in (False, True):
        weights = torch.nn.Parameter(rows.clone())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            with torch.autocast("cpu", enabled=False):
                loss = (weights @ weights.T).square().mean()
            task.step(loss, torch.optim.SGD([weights], lr=0.1))
        found.append(weights.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], rows)
