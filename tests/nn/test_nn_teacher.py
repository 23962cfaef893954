"""The teacher: averages by hand, buffers, no gradient, no host sync."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from noisyctl.nn.networks import Classifier, NetworkSpec, build
from noisyctl.nn.teacher import make_teacher, update_teacher
from noisyctl.seeds import stream

SPEC = NetworkSpec(backbone="small_cnn", width=2, channels=1, size=(8, 8), num_outputs=3, head="mlp")


def trained(seed: int = 0) -> Classifier:
    """A network whose running statistics are no longer at their start."""
    network = build(SPEC, stream(seed, "init"))
    network(torch.randn(6, 1, 8, 8, generator=stream(seed, "images")) + 1)
    return network


def test_one_step_by_hand() -> None:
    student = nn.Linear(1, 1)
    nn.init.constant_(student.weight, 1.0)
    nn.init.constant_(student.bias, -2.0)
    teacher = make_teacher(student)
    nn.init.constant_(student.weight, 3.0)
    update_teacher(teacher, student, 0.9)
    assert teacher.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert teacher.bias.item() == pytest.approx(-2.0)
    update_teacher(teacher, student, 0.9)
    assert teacher.weight.item() == pytest.approx(0.9 * 1.2 + 0.1 * 3)


@settings(max_examples=10, deadline=None)
@given(momentum=st.floats(0, 1), seed=st.integers(0, 100))
def test_every_parameter_is_averaged_and_every_buffer_copied(momentum: float, seed: int) -> None:
    teacher, student = make_teacher(trained(seed)), trained(seed + 1)
    expected = {
        name: (
            momentum * old.double() + (1 - momentum) * dict(student.named_parameters())[name].double()
        ).float()
        for name, old in teacher.named_parameters()
    } | dict(student.named_buffers())
    before = {name: value.clone() for name, value in student.state_dict().items()}
    update_teacher(teacher, student, momentum)
    torch.testing.assert_close(teacher.state_dict(), expected, check_dtype=True)
    torch.testing.assert_close(student.state_dict(), before, rtol=0, atol=0)


def test_batch_norm_follows_the_student() -> None:
    """Jo-SRC's code averages parameters only: its teacher keeps the statistics of the start."""
    student = trained()
    teacher = make_teacher(student)
    student(torch.full((4, 1, 8, 8), 50.0))
    update_teacher(teacher, student, 1.0)
    norm, own = (
        next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)) for net in (student, teacher)
    )
    assert own.num_batches_tracked == norm.num_batches_tracked == 2
    assert torch.equal(own.running_mean, norm.running_mean)
    assert own.running_mean.data_ptr() != norm.running_mean.data_ptr()


def test_a_teacher_is_frozen_and_in_eval_mode_and_its_student_is_not() -> None:
    student = trained().train()
    teacher = make_teacher(student)
    assert isinstance(teacher, Classifier)
    assert teacher.spec == student.spec
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert student.training
    assert all(p.requires_grad for p in student.parameters())


def test_an_update_leaves_gradients_alone() -> None:
    student = trained()
    teacher = make_teacher(student)
    student(torch.randn(4, 1, 8, 8, generator=stream(0, "x"))).sum().backward()
    gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    update_teacher(teacher, student, 0.5)
    assert all(p.grad is None and p.is_leaf and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, student.parameters(), strict=True))


def test_a_module_without_buffers_has_a_teacher() -> None:
    student = nn.Linear(2, 2)
    teacher = make_teacher(nn.Linear(2, 2))
    update_teacher(teacher, student, 0.0)
    torch.testing.assert_close(teacher.weight, student.weight)


class Calls(TorchDispatchMode):
    """The kernels that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


def test_an_update_is_three_calls_and_reads_nothing_back() -> None:
    """On the meta device a number that is read back raises."""
    with torch.device("meta"):
        student = Classifier(SPEC)
        teacher = make_teacher(student)
        with Calls() as calls:
            update_teacher(teacher, student, 0.99)
    assert calls.names == ["_foreach_lerp_", "_foreach_copy_", "_foreach_copy_"]
