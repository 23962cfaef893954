"""Small-loss selection: golden rows and properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.parts.selection import small_loss_selection
from noisyctl.seeds import stream


@pytest.mark.parametrize(
    ("losses", "keep_rate", "selected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 0.5, [False, True, True, False]),  # the two smallest
        ([3.0, 1.0, 2.0, 4.0], 0.74, [False, True, True, False]),  # 2.96 is rounded down
        ([1.0, 1.0, 1.0, 1.0], 0.5, [True, True, False, False]),  # ties: the first
        ([3.0, 1.0], 1.0, [True, True]),  # all
        ([3.0, 1.0], 0.0, [False, False]),  # none
        ([3.0, 1.0], 0.4, [False, False]),  # less than one
        ([math.nan, 1.0, math.inf], 0.67, [False, True, True]),  # what is not a number comes last
        ([], 0.5, []),
    ],
)
def test_golden_rows(losses: list[float], keep_rate: float, selected: list[bool]) -> None:
    assert small_loss_selection(torch.tensor(losses), keep_rate).tolist() == selected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 40), keep_rate=st.floats(0, 1))
def test_no_kept_loss_is_larger_than_a_dropped_one(seed: int, n: int, keep_rate: float) -> None:
    losses = torch.randint(5, (n,), generator=stream(seed, "l")).float()
    selected = small_loss_selection(losses, keep_rate)
    assert int(selected.sum()) == math.floor(keep_rate * n)
    if 0 < int(selected.sum()) < n:
        assert losses[selected].max() <= losses[~selected].min()
