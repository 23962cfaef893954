"""Oversampling: every class as often, by properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisyctl.parts import sampling
from noisyctl.seeds import stream


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_every_class_that_has_samples_is_drawn_equally_often(seed: int, counts: list[int]) -> None:
    labels = torch.cat([torch.full((k,), c) for c, k in enumerate(counts)]).long()
    index = torch.arange(len(labels)).flip(0)
    found = sampling.oversampled(index, labels, len(counts), stream(seed, "balance"))
    per_class = labels[found].bincount(minlength=len(counts)).tolist()
    assert per_class == [max(counts) if k else 0 for k in counts]
    per_sample = found.bincount(minlength=len(labels))
    for c, k in enumerate(counts):
        if k:  # whole rounds: 7 draws of 3 samples are 3, 2 and 2
            assert set(per_sample[labels == c].tolist()) <= {max(counts) // k, -(-max(counts) // k)}
