"""From samples to the Task that a method sees, and to the samples of other splits that only the runner sees."""

from typing import Any

import torch

from noisyctl.errors import ParamsError
from noisyctl.runs.samples import Samples
from noisyctl.seeds import stream
from noisyctl.task import Task


def make_task(samples: Samples | None, device: torch.device, **known: Any) -> tuple[Task, dict[str, Any]]:
    """The Task, and the samples of the other splits, which only the runner sees."""
    num_classes = known.pop("num_classes", 0)  # label-free work knows of no classes
    if samples is None:
        return Task(None, None, num_classes, device, **known), {}
    seen = samples.splits(device)
    return Task(seen.pop("train"), samples.views, num_classes, device, **known), seen


def hold_out(
    number: int, rate: float, seed: int, device: torch.device, verified: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Positions of the samples whose noisy labels validate, in order, no `verified` one among them; None without a rate."""
    size = round(rate * number)
    if rate and not 0 < size < number:
        raise ParamsError(f"validation_rate {rate} of {number} samples holds out {size}; choose another rate")
    order = torch.randperm(number, generator=stream(seed, "validation"))
    if verified is not None:
        order = order[~torch.isin(order, verified.cpu())]
        if size > len(order):
            raise ParamsError(
                f"validation_rate {rate} of {number} samples holds out {size}, and only {len(order)} are not verified: "
                f"noisy labels validate, and verified ones train; choose a rate of at most {len(order) / number:.3g}"
            )
    return order[:size].sort().values.to(device) if size else None
