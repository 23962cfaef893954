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
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from noisyctl.streaming import FileImages
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
    state: Any


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
    compiled: bool = False,
    layout: torch.memory_format = loop.LAYOUT,
    images: Any = None,
) -> Steps:
    """Train through the runner, with the weights of `lead` after every step that it has too.

    `images` stand in for those of the task.
    """
    found = Steps([], [], {}, None)

    class Followed(Task):
        def step(self, loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
            super().step(loss, *optimizers)
            assert loss.dtype == torch.float32
            found.losses.append(loss.item())
            found.weights.append([{k: v.clone() for k, v in n.state_dict().items()} for n in networks])
            if lead and len(found.losses) <= len(lead.weights):
                for network, weights in zip(networks, lead.weights[len(found.losses) - 1], strict=True):
                    network.load_state_dict(weights)

    known = {f.name: getattr(task, f.name) for f in dataclasses.fields(task)}
    followed = Followed(**known | ({} if images is None else {"images": images}))
    about: dict[str, Any] = {"name": "t", "epochs": params.epochs, "seed": 0, "precision": precision}
    about |= {"compiled": compiled, "held_out": held_out, "scratch": Scratch(folder, "")}
    with mock.patch.object(loop, "LAYOUT", layout):
        fitted = loop.fit(method, networks, followed, params, **about)
    return dataclasses.replace(found, arrays=fitted.arrays, state=fitted.state)


def devices() -> list[str]:
    """The CPU, and a GPU where there is one: bfloat16 is compared on each."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def moved(task: Task, device: str) -> Task:
    """The task with all its tensors there."""
    known = {f.name: getattr(task, f.name) for f in dataclasses.fields(task)}
    there = {name: value.to(device) for name, value in known.items() if isinstance(value, Tensor)}
    return dataclasses.replace(task, **there, device=torch.device(device))


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


def require_same(train: Callable[..., Steps]) -> None:
    """channels_last is the contiguous layout but for the order of sums, and all weights of a run lie so, copies too."""
    plain = train(layout=torch.contiguous_format)
    found = train(lead=plain)
    np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-4, atol=1e-5)
    for name, values in plain.arrays.items():
        if name.endswith("_probabilities"):
            np.testing.assert_allclose(found.arrays[name], values, atol=1e-4)
        elif not name.startswith("scalar_") and values.dtype.kind != "f":
            np.testing.assert_array_equal(found.arrays[name], values, name)
    assert all(w.is_contiguous() for w in convolutions(plain.state))
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions(found.state))
    assert any(not w.is_contiguous() for w in convolutions(found.state))


def convolutions(state: Any) -> list[Tensor]:
    """The weights of all convolutions in a State."""
    modules = [value for value in vars(state).values() if isinstance(value, nn.Module)]
    return [p for module in modules for p in module.parameters() if p.ndim == 4]


def require_equal(train: Callable[..., Steps], images: Tensor, folder: Path) -> None:
    """Images decoded from files, few of which are kept, train to the bit as the same images in memory."""
    folder.mkdir()
    names = [f"{k}.png" for k in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image[..., 0].numpy()).save(folder / name)
    with FileImages(folder, names, images.shape[1], 1, images.device, workers=1, memory=2000) as files:
        kept, streamed = train(), train(images=files)
        assert files._orders == []
    assert streamed.losses == kept.losses
    assert streamed.arrays.keys() == kept.arrays.keys()
    for name, values in kept.arrays.items():
        np.testing.assert_array_equal(streamed.arrays[name], values, name)
    assert len(kept.losses) > 2
