"""Whether networks are compiled on a device, and why not: a compiler must be there, and a place for what it makes.

Compiled networks compute the same up to rounding, so that their runs have other bytes than plain ones. Nobody gets the one
for the other: where nothing can be compiled, this is known before a run begins, and the run is a plain one.
"""

import functools
import tempfile
from typing import Literal, get_args

import torch
from torch import Tensor

from noisyctl.errors import ParamsError, suggest

Compile = Literal["off", "on"]


def resolve(asked: str, device: torch.device) -> tuple[Compile, str]:
    """Whether networks are compiled on this device, and the reason in words.

    Raises ParamsError for another word than on and off.
    """
    if asked not in get_args(Compile):
        raise ParamsError(f"--compile is {asked!r}; {suggest(asked, get_args(Compile))}")
    if asked == "off":
        return "off", "not asked for"
    found = obstacle(device.type)
    return ("off", found) if found else ("on", "asked for")


@functools.cache
def obstacle(device: str) -> str:
    """Why nothing can be compiled for this kind of device, in one line; empty where it can be. It tries, once a process."""
    try:
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        # written anew: what was compiled before may still be readable on a disk that is no longer writable
        with tempfile.TemporaryFile(dir=cache_dir()):
            torch.compile(_add_one, fullgraph=True)(torch.zeros(2, device=device))
    except Exception as error:  # torch, the compiler and the disk raise their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"nothing can be compiled here ({lines[0] if lines else type(error).__name__})"
    return ""


def _add_one(number: Tensor) -> Tensor:
    return number + 1
