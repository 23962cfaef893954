"""Inference over a whole data set: order, modes, precision."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from noisyctl.nn.inference import evaluate_train, evaluating, modules_of, outputs
from noisyctl.nn.networks import Classifier, NetworkSpec, build
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.views import ImageViews

SPEC = NetworkSpec(backbone="mlp", width=6, channels=1, size=(8, 8), num_outputs=3, head="mlp")
PIXELS = torch.randint(256, (11, 8, 8, 1), generator=stream(0, "pixels"), dtype=torch.uint8)


@pytest.fixture
def task() -> Task:
    return Task(PIXELS, ImageViews("digits", [0.4], [0.3]), 3, torch.device("cpu"))


@pytest.fixture
def network() -> Classifier:
    return build(SPEC, stream(0, "init"))


def test_logits_and_features_equal_one_image_at_a_time(network: Classifier, task: Task) -> None:
    logits, features = evaluate_train(network, task)
    network.eval()
    for i, image in enumerate(PIXELS):
        view = ((image.permute(2, 0, 1).float() / 255 - 0.4) / 0.3)[None]
        torch.testing.assert_close(features[i], network.features(view)[0])
        torch.testing.assert_close(logits[i], network(view)[0])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_the_batch_size_changes_nothing(network: Classifier, task: Task, batch_size: int) -> None:
    torch.testing.assert_close(
        evaluate_train(network, task, batch_size=batch_size), evaluate_train(network, task)
    )


def test_nothing_is_left_behind(network: Classifier, task: Task) -> None:
    """Modes of every module, running statistics, graphs."""
    network.train()
    network.features.eval()
    modes = [m.training for m in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logits, features = evaluate_train(network, task)
    assert [m.training for m in network.modules()] == modes
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert not logits.requires_grad
    assert not features.requires_grad


def test_float32_whatever_the_precision(network: Classifier, task: Task) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = evaluate_train(network, task)
    assert logits.dtype == features.dtype == torch.float32


def test_modes_come_back_after_an_error(network: Classifier) -> None:
    with pytest.raises(ZeroDivisionError), evaluating(network):
        assert not any(m.training for m in network.modules())
        raise ZeroDivisionError
    assert all(m.training for m in network.modules())
    assert torch.is_grad_enabled()


def test_outputs_are_in_order_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisyctl.nn.inference.BATCH", 4)
    sizes: list[int] = []

    def call(views: torch.Tensor) -> torch.Tensor:
        sizes.append(len(views))
        return views.flatten(1).sum(dim=1)

    found = outputs(call, PIXELS, lambda pixels: pixels.float())
    assert sizes == [4, 4, 3]
    assert found.tolist() == [float(image.long().sum()) for image in PIXELS]


def test_the_modules_of_a_state_by_field(network: Classifier) -> None:
    @dataclass
    class State:
        student: nn.Module
        targets: torch.Tensor
        second: nn.Module | None

    assert modules_of(State(network, torch.zeros(1), None)) == {"student": network}
