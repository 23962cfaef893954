"""A teacher: the moving average of a student.

Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. Parameters are averaged, buffers (batch norm's
running statistics) are the student's, which are averages already.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def make_teacher(student: AnyModule) -> AnyModule:
    """A copy of the student in eval mode that no gradient reaches."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Parameters: momentum * teacher + (1 - momentum) * student, for all at once. Buffers: the student's."""
    get_ema_multi_avg_fn(momentum)(list(teacher.parameters()), list(student.parameters()), None)
    for floating in (True, False):  # one kind at a time: a mixed list is copied one by one
        kept, new = (
            [b for b in module.buffers() if b.is_floating_point() == floating]
            for module in (teacher, student)
        )
        if kept:
            torch._foreach_copy_(kept, new)
