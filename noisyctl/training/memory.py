"""Freed memory stays with the process while networks train on a processor.

glibc gives blocks of more than 32 MB back to the system when they are freed, and the system clears them when they are asked
for again. In a training these are the activations of every batch: more than half of the time of a pass over images went
into it. No number depends on where a tensor lies.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import torch

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: -1}
# the most that glibc's thresholds grow to by themselves
USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}


@contextlib.contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Inside, freed memory is kept; afterwards it is given back. Nothing happens on a GPU or without glibc."""
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    try:
        _set(libc, KEEP)
        yield
    finally:
        _set(libc, USUAL)
        libc.malloc_trim(0)


def _glibc() -> Any:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


def _set(libc: Any, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
