"""What `noisyctl doctor` says of gradients: right here, and wrong where a kernel is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from noisyctl.nn import self_check
from stages import doctor

CPU = torch.device("cpu")


@pytest.mark.parametrize("backbone, width", self_check.CHECKED)
def test_only_rounding_is_between_training_and_float64(backbone: str, width: int) -> None:
    assert self_check.gradient_error(backbone, width, CPU) < 2e-4


def test_a_wrong_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution whose gradient of the weights is 1.2 times too large in float32, as of a fault in its kernel."""
    right = torch.nn.Conv2d._conv_forward

    def wrong(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if weight.dtype == torch.float32 and self.stride == (2, 2) and self.kernel_size == (3, 3):
            weight = 1.2 * weight - 0.2 * weight.detach()
        return right(self, x, weight, bias)

    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", wrong)
    said = doctor.run()["gradients"]
    assert said.startswith("WRONG: resnet18 of width 4 by 0.2, resnet18 of width 16 by 0.2, preact_resnet18")
    assert "small_cnn" not in said.split(" of a gradient")[0]


def test_doctor_says_that_they_are_right() -> None:
    assert doctor.run()["gradients"].startswith("right: 4 networks differ from float64 by at most ")
