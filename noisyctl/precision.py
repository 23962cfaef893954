"""In which precision networks compute on a device, and why: bfloat16 where the device has units that multiply it.

Torch's name of a processor (AVX2, AVX512) does not tell whether it has them: its flags do.
"""

from pathlib import Path
from typing import Literal, get_args

import torch

from noisyctl.errors import ParamsError, suggest

Precision = Literal["float32", "bfloat16"]
UNITS = {"avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX"}  # flag of a processor: name
CPUINFO = Path("/proc/cpuinfo")


def cpu_units() -> tuple[str, ...]:
    """Which of AVX512_BF16 and AMX this processor has and torch can use; none where it does not tell, as outside Linux."""
    if not torch.backends.mkldnn.is_available():
        return ()
    try:
        text = CPUINFO.read_text()
    except OSError:
        return ()
    flags = next(
        (line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), []
    )
    return tuple(name for flag, name in UNITS.items() if flag in flags)


def resolve(asked: str, device: torch.device) -> tuple[Precision, str]:
    """The precision that networks compute in on this device, and the reason in words.

    `asked` is a precision, or auto. Raises ParamsError for another word.
    """
    has, about = _units(device)
    match asked:
        case "auto":
            return ("bfloat16" if has else "float32"), about
        case "float32":
            return "float32", "asked for"
        case "bfloat16":
            return "bfloat16", "asked for" if has else f"asked for, though {about}: float32 is faster here"
    choices = ("auto", *get_args(Precision))
    raise ParamsError(f"--precision is {asked!r}; {suggest(asked, choices)}")


def _units(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"this GPU has {'' if has else 'no '}units for bfloat16"
    units = cpu_units()
    return bool(units), f"this processor has {' and '.join(units) if units else 'no units for bfloat16'}"
