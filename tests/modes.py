"""One training in two modes of computing: step by step, and each step from the same weights.

Trained apart, two modes that differ by rounding part for good at the first prediction that falls on the other side of a tie.
So the second run takes over the first one's weights after every step: what is left at a step is what the modes make of
it. A mode that computes with other weights than these, with copies of earlier ones say, cannot hide.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisyctl.task import Task
from noisyctl.training import loop
from noisyctl.training.scratch import Scratch

Weights = list[dict[str, Tensor]]  # a state dict of each network


@dataclass
class Steps:
    """The loss of every step, the weights after it, and what the run leaves."""

    losses: list[float]
    weights: list[Weights]
    arrays: dict[str, np.ndarray]


def steps(
    method: Any,
    networks: Sequence[nn.Module],
    task: Task,
    params: Any,
    folder: Path,
    *,
    held_out: dict[str, Tensor] | None = None,
    lead: Steps | None = None,
    precision: Any = "float32",
) -> Steps:
    """Train through the runner, with the weights of `lead` after every step that it has too."""
    found = Steps([], [], {})

    class Followed(Task):
        def step(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
            super().step(loss, *optimizers)
            assert loss.dtype == torch.float32
            found.losses.append(loss.item())
            found.weights.append([{k: v.clone() for k, v in n.state_dict().items()} for n in networks])
            if lead and len(found.losses) <= len(lead.weights):
                for network, weights in zip(networks, lead.weights[len(found.losses) - 1], strict=True):
                    network.load_state_dict(weights)

    followed = Followed(**{f.name: getattr(task, f.name) for f in dataclasses.fields(task)})
    about: dict[str, Any] = {"name": "t", "epochs": params.epochs, "seed": 0, "precision": precision}
    fitted = loop.fit(
        method, networks, followed, params, held_out=held_out, scratch=Scratch(folder, ""), **about
    )
    return dataclasses.replace(found, arrays=fitted.arrays)


def cached(device: torch.device, precision: str) -> torch.autocast:
    """An autocast whose copies of weights outlive a step: what the tests must tell from the right one."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def losses_apart(one: Steps, other: Steps) -> float:
    """Mean distance of the losses of a step."""
    pairs = list(zip(one.losses, other.losses, strict=False))
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def require_rounding(train: Callable[..., Steps], start: dict[str, np.ndarray], monkeypatch: Any) -> None:
    """bfloat16 is float32 but for rounding, in the loss of every step and in all that the passes after it leave.

    `train` takes `lead` and `precision`; `start` is what a run of no epochs leaves. Rounding is less than a fifth of what
    copies of old weights do to the losses, and small beside what training did to the probabilities.
    """
    exact = train()
    rounded = train(lead=exact, precision="bfloat16")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_autocast", cached)
        stale = train(lead=exact, precision="bfloat16")
    assert rounded.losses != exact.losses
    assert losses_apart(exact, rounded) < losses_apart(exact, stale) / 5
    assert {k: v.dtype for k, v in rounded.arrays.items()} == {k: v.dtype for k, v in exact.arrays.items()}
    for name, values in exact.arrays.items():
        if name.endswith("_probabilities"):
            moved = np.abs(values - start[name]).max()
            assert np.abs(values - rounded.arrays[name]).max() < min(0.03, moved / 4), name
        if name.endswith("_predictions"):
            assert (values == rounded.arrays[name]).mean() >= 0.9, name
