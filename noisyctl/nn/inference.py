"""Outputs of a whole data set, in batches, eval mode, without gradients."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisyctl.task import Task

BATCH = 1024


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; each module's own mode again afterwards."""
    modes = [(m, m.training) for module in modules for m in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training


def modules_of(state: Any) -> dict[str, nn.Module]:
    """The networks in a State, by field name."""
    return {name: value for name, value in vars(state).items() if isinstance(value, nn.Module)}


def outputs(call: Callable[[Tensor], Tensor], images: Any, plain: Callable[[Tensor], Tensor]) -> Tensor:
    """`call` on every image, as one tensor."""
    return torch.cat([call(plain(block)) for block in images.split(BATCH)])


def evaluate_train(
    network: nn.Module, task: Task, batch_size: int = BATCH
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n d"]]:
    """Logits and features of every training image in order, on plain views, in float32 whatever the precision."""
    logits, features = [], []
    with evaluating(network):
        for index in task.in_order(batch_size):
            found = network.get_submodule("features")(task.plain(index))
            logits.append(network.get_submodule("head")(found).float())
            features.append(found.float())
    return torch.cat(logits), torch.cat(features)
