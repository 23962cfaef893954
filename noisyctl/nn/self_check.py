"""Whether this machine computes gradients right: networks as they are trained, beside the same in float64."""

import copy
from typing import Any

import torch
from torch.nn.functional import cross_entropy, softplus
from torch.overrides import TorchFunctionMode

from noisyctl.nn.networks import LAYOUT, NetworkSpec, build
from noisyctl.seeds import stream

CHECKED = (("small_cnn", 6), ("resnet18", 4), ("resnet18", 16), ("preact_resnet18", 8))
TOLERANCE = (
    0.01  # of a parameter's gradient; rounding gives 1e-5, TF32 on a GPU 1e-3, a wrong kernel 0.1 and more
)


def gradient_error(backbone: str, width: int, device: torch.device) -> float:
    """The largest relative error of a parameter's gradient in float32, in the layout of training, beside float64.

    Of a network with random weights, for eight random images.
    """
    spec = NetworkSpec(backbone, 3, (32, 32), num_outputs=4, head="linear", width=width)
    trained = build(spec, stream(0, "self-check"))
    exact = copy.deepcopy(trained).double().to(memory_format=torch.contiguous_format)
    images = torch.rand(8, 3, 32, 32, generator=stream(0, "self-check", "images"))
    labels = torch.arange(8) % 4
    trained.to(device)
    seen = images.to(device).contiguous(memory_format=LAYOUT)
    with _WithoutKinks():
        cross_entropy(exact(images.double()), labels).backward()
        cross_entropy(trained(seen), labels.to(device)).backward()
    errors = [0.0]
    for one, other in zip(trained.parameters(), exact.parameters(), strict=True):
        if one.grad is None or other.grad is None or not float(other.grad.norm()) > 1e-8:
            continue  # a bias before a batch normalization has no gradient but for rounding
        errors.append(float((one.grad.cpu().double() - other.grad).norm() / other.grad.norm()))
    return max(errors)


def told(device: torch.device) -> str:
    """What `noisyctl doctor` says of the gradients on a device."""
    found = {f"{name} of width {width}": gradient_error(name, width, device) for name, width in CHECKED}
    wrong = {name: error for name, error in found.items() if not error <= TOLERANCE}
    if not wrong:
        return f"right: {len(found)} networks differ from float64 by at most {max(found.values()):.0e}"
    named = ", ".join(f"{name} by {error:.2g}" for name, error in wrong.items())
    return (
        f"WRONG: {named} of a gradient. What is trained here cannot be trusted; try another version of torch, or other "
        "widths, and please report the processor or GPU with the versions above"
    )


class _WithoutKinks(TorchFunctionMode):
    """Inside, a softplus stands for every ReLU: one that turns at a tie would be no error of the machine."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("relu", "relu_", "leaky_relu", "leaky_relu_"):
            return softplus(args[0])
        return func(*args, **(kwargs or {}))
