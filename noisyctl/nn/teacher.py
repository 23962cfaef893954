"""A teacher: a network whose weights are the moving average of another one's, the student's.

Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. Parameters are averaged. Buffers (the running
statistics of batch norm) are copied from the student, since they are averages already.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def make_teacher(student: AnyModule) -> AnyModule:
    """A copy of the student, in eval mode, that gets no gradients."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set the parameters to momentum * teacher + (1 - momentum) * student, and copy the student's buffers."""
    get_ema_multi_avg_fn(momentum)(list(teacher.parameters()), list(student.parameters()), None)
    for floating in (True, False):  # one kind at a time, since torch copies a mixed list tensor by tensor
        kept, new = (
            [b for b in module.buffers() if b.is_floating_point() == floating]
            for module in (teacher, student)
        )
        if kept:
            torch._foreach_copy_(kept, new)
