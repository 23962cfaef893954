"""Outputs of a network for a whole data set: in batches, in eval mode, without gradients."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisyctl.task import Task

BATCH = 1024


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules are in eval mode and no gradients are computed. Afterwards each is in its former mode."""
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
    """The networks in a State, by the names of its fields."""
    return {name: value for name, value in vars(state).items() if isinstance(value, nn.Module)}


def state_of(predict: Callable[..., Any], networks: Mapping[str, nn.Module]) -> Any:
    """A State that holds networks alone, by the names of its fields: all that a method's `predict` looks at."""
    state = object.__new__(predict.__annotations__["state"])
    vars(state).update(networks)
    return state


def outputs(call: Callable[[Tensor], Tensor], images: Any, plain: Callable[[Tensor], Tensor]) -> Tensor:
    """The outputs of `call` for all images, in plain views, as one tensor."""
    return torch.cat([call(plain(block)) for block in images.split(BATCH)])


def evaluate_train(
    network: nn.Module, task: Task, batch_size: int = BATCH
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n d"]]:
    """Logits and features of all training images, in order, on plain views, in float32 whatever the precision."""
    logits, features = [], []
    with evaluating(network):
        for index in task.in_order(batch_size):
            found = network.get_submodule("features")(task.plain(index))
            logits.append(network.get_submodule("head")(found).float())
            features.append(found.float())
    return torch.cat(logits), torch.cat(features)
