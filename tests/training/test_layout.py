"""channels_last: every backbone gives what it gives in the plain layout, and every copy and resumed run lies so."""

import copy
import importlib.util
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from noisyctl.nn.backbones import BACKBONES
from noisyctl.nn.networks import LAYOUT, NetworkSpec, build, from_spec
from noisyctl.nn.pointwise import PointwiseConv
from noisyctl.nn.teacher import make_teacher
from noisyctl.seeds import stream
from noisyctl.training import checkpoint


def spec_of(backbone: str) -> NetworkSpec:
    about = BACKBONES[backbone]
    size = 32 if about.fixed else 16
    side, width = max(about.smallest, size), None if about.fixed else 6
    return NetworkSpec(backbone, 3, (side, side), num_outputs=4, head="linear", width=width)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_the_same_but_for_rounding(backbone: str) -> None:
    """Losses and gradients of three steps, each from the plain network's weights."""
    if backbone == "inception_resnet_v2" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    spec = spec_of(backbone)
    images, labels = torch.rand(8, 3, *spec.size, generator=stream(0, "images")), torch.arange(8) % 4
    plain = build(spec, stream(0, "init")).to(memory_format=torch.contiguous_format)
    turned = copy.deepcopy(plain).to(memory_format=LAYOUT)
    assert all(w.is_contiguous() for w in plain.parameters())
    assert turned.spec.backbone.startswith(("mlp", "linear")) or lies_so(turned)  # no convolution
    for step in range(3):
        losses = []
        for network in (plain, turned):
            network.zero_grad()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(step)  # of dropout
                losses.append(cross_entropy(network(images), labels))
            losses[-1].backward()
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
        gradients = [torch.cat([p.grad.flatten() for p in n.parameters()]) for n in (plain, turned)]
        assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[0].norm()  # a ReLU may turn at a tie
        with torch.no_grad():
            for p in plain.parameters():
                p -= 0.01 * p.grad
        turned.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 7, 8, 12])
def test_a_pointwise_convolution_with_a_stride_has_the_gradient_of_float64(channels: int) -> None:
    """oneDNN's is wrong below eight channels in channels_last, on processors without AVX512."""
    layer = PointwiseConv(channels, 2 * channels, 2)
    exact = nn.Conv2d(channels, 2 * channels, 1, 2).double()
    exact.load_state_dict(layer.state_dict())
    images = torch.rand(8, channels, 16, 16, generator=stream(0, "images"))
    layer.to(memory_format=LAYOUT)(images.to(memory_format=LAYOUT)).square().sum().backward()
    exact(images.double()).square().sum().backward()
    for one, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


def lies_so(network: torch.nn.Module) -> bool:
    weights = [p for p in network.parameters() if p.ndim == 4]
    return bool(weights) and all(w.is_contiguous(memory_format=LAYOUT) for w in weights)


def test_networks_built_read_and_copied_lie_so() -> None:
    network = build(spec_of("resnet18"), stream(0, "init"))
    read = from_spec(network.spec)
    read.load_state_dict({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    for one in (network, read, copy.deepcopy(read), make_teacher(read)):
        assert lies_so(one)
    x = torch.randn(2, 3, 16, 16, generator=stream(0, "x"))
    layers = torch.nn.Sequential(*list(network.features)[:2])
    assert not x.is_contiguous(memory_format=LAYOUT)
    assert layers(x).is_contiguous(memory_format=LAYOUT)  # images follow, so views need not turn them


@dataclass
class Trained:
    network: torch.nn.Module
    optimizer: torch.optim.Optimizer


def test_a_resumed_run_has_weights_and_averages_of_gradients_in_the_layout_of_an_uninterrupted_one() -> None:
    def start() -> Trained:
        network = build(spec_of("small_cnn"), stream(0, "init"))
        return Trained(network, torch.optim.Adam(network.parameters()))

    state, again = start(), start()
    state.network(torch.randn(4, 3, 16, 16, generator=stream(0, "x"))).square().mean().backward()
    state.optimizer.step()
    checkpoint.unpack(again, *checkpoint.pack(state))
    assert lies_so(again.network)
    for ours, theirs in zip(again.network.parameters(), state.network.parameters(), strict=True):
        for name, value in state.optimizer.state[theirs].items():
            assert torch.equal(again.optimizer.state[ours][name], value)
            assert again.optimizer.state[ours][name].stride() == value.stride()
