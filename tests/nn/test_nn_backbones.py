"""Backbones: parameter counts of the official classes, what the layers do, what they refuse."""

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from noisyctl.errors import ParamsError
from noisyctl.nn import backbones, preact_resnet, resnet
from noisyctl.nn.backbones import BACKBONES, check_backbone
from noisyctl.nn.networks import Classifier, NetworkSpec
from noisyctl.nn.patrini_resnet import Unit
from noisyctl.seeds import stream

NO_TIMM = importlib.util.find_spec("timm") is None
needs_timm = pytest.mark.skipif(NO_TIMM, reason="timm is not installed")
NAMES = [pytest.param(n, marks=needs_timm if n == "inception_resnet_v2" else ()) for n in BACKBONES]


def classifier(backbone: str, num_outputs: int = 10, head: str = "linear", **spec: object) -> Classifier:
    """As in the papers: 32x32 in color, the paper's width."""
    about: dict[str, Any] = {"channels": 3, "size": (32, 32)} | spec
    return Classifier(NetworkSpec(backbone, num_outputs=num_outputs, head=head, **about))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "num_outputs", "head", "expected"),
    [
        ("preact_resnet18", 10, "linear", 11_171_274),
        ("preact_resnet18", 100, "linear", 11_217_444),
        ("resnet18", 10, "linear", 11_173_962),  # SCAN's ClusteringModel
        ("resnet18", 128, "projection", 11_497_152),  # its ContrastiveModel
        ("resnet34", 10, "linear", 21_282_635 - 513),  # MixNN's counts hold a head 512 -> 1 that nothing uses
        ("resnet34", 100, "linear", 21_328_805 - 513),
        ("cnn7", 10, "linear", 518_150),
        ("cnn7", 80, "linear", 536_140),
        ("cnn7", 100, "linear", 541_280),
        ("cnn7", 80, "mlp", 689_228),  # Jo-SRC
        ("cnn7", 100, "mlp", 699_488),
        ("cnn9", 10, "linear", 4_434_570),
        ("cnn9", 100, "linear", 4_446_180),
        ("cnn_small", 10, "linear", 62_006),
        ("resnet14", 10, "linear", 175_626),
        ("resnet32", 10, "linear", 467_946),
        ("resnet44", 100, "linear", 668_676),
    ],
)
def test_parameters_of_the_papers_networks(backbone: str, num_outputs: int, head: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(classifier(backbone, num_outputs, head)) == expected


@pytest.mark.parametrize(("backbone", "expected"), [("mlp", 118_282), ("mlp256", 203_530)])
def test_parameters_of_the_mlps_for_mnist(backbone: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(classifier(backbone, channels=1, size=(28, 28))) == expected


@pytest.mark.parametrize(
    ("backbone", "expected"), [("resnet18_imagenet", 11_689_512), ("resnet50_imagenet", 25_557_032)]
)
def test_parameters_of_torchvisions_networks(backbone: str, expected: int) -> None:
    """`num_params` in torchvision's table of weights, 1000 classes."""
    with torch.device("meta"):
        assert count(classifier(backbone, 1000, size=(224, 224))) == expected


@needs_timm
def test_parameters_of_dividemixs_inception_resnet_v2() -> None:
    with torch.device("meta"):
        assert count(classifier("inception_resnet_v2", 50, size=(299, 299))) == 54_383_314


def test_scanmix_resnet18_without_a_head() -> None:
    with torch.device("meta"):
        assert count(classifier("resnet18").features) == 11_168_832


def test_resnet14_has_928_running_statistics() -> None:
    with torch.device("meta"):
        buffers = classifier("resnet14").buffers()
        assert sum(b.numel() for b in buffers if b.is_floating_point()) == 928


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_learns_from_its_smallest_images(name: str) -> None:
    """In gray where it can, and not square."""
    about = BACKBONES[name]
    channels, height = about.channels or 1, about.smallest
    with torch.device("meta"):
        network = classifier(name, channels=channels, size=(height, height + 3))
        logits = network(torch.empty(2, channels, height, height + 3))
        logits.sum().backward()
    assert logits.shape == (2, 10)
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", [n for n in BACKBONES if not BACKBONES[n].fixed])
def test_the_papers_width_is_the_default_and_half_of_it_is_smaller(name: str) -> None:
    with torch.device("meta"):
        default, same = classifier(name), classifier(name, width=BACKBONES[name].width)
        half, least = classifier(name, width=BACKBONES[name].width // 2), classifier(name, width=1)
    assert default.spec == same.spec
    assert count(default) == count(same) > count(half) > count(least)


@pytest.mark.parametrize("name", ["small_cnn", "resnet14", "cnn_small", "mlp"])
def test_outputs_and_gradients_are_finite(name: str) -> None:
    network = classifier(name, width=2, size=(16, 16))
    network(torch.randn(4, 3, 16, 16, generator=stream(0, "x")) * 100).logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


IMAGES = torch.randn(2, 4, 5, 5, generator=stream(0, "block"))


def silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def test_a_silent_post_activation_block_is_relu() -> None:
    block = resnet.Block(4, 4, 1)
    silence(block.bn2)
    torch.testing.assert_close(block(IMAGES), IMAGES.relu())


def test_the_shortcut_of_dividemix_starts_after_batch_norm_and_relu() -> None:
    same, wider = preact_resnet.PreActBlock(4, 4, 1).eval(), preact_resnet.PreActBlock(4, 8, 2).eval()
    silence(same.conv2)
    silence(wider.conv2)
    started = (IMAGES / (1 + 1e-5) ** 0.5).relu()  # running mean 0, variance 1
    torch.testing.assert_close(same(IMAGES), started)
    torch.testing.assert_close(wider(IMAGES), wider.shortcut(started))


def test_the_shortcut_of_patrini_starts_at_the_raw_input() -> None:
    same, wider = Unit(4, 4, 1), Unit(4, 8, 2)
    silence(same.conv2)
    silence(wider.conv2)
    torch.testing.assert_close(same(IMAGES), IMAGES)
    torch.testing.assert_close(wider(IMAGES), wider.shortcut(IMAGES))


def test_patrini_units_in_full() -> None:
    """A unit by torch's functions, in the order of the paper."""
    unit = Unit(4, 8, 2).double()
    x = IMAGES.double()
    f = nn.functional
    started = f.batch_norm(x, None, None, training=True, eps=1e-3).relu()
    middle = f.conv2d(started, unit.conv1.weight, unit.conv1.bias, stride=2, padding=1)
    middle = f.batch_norm(middle, None, None, training=True, eps=1e-3).relu()
    out = f.conv2d(middle, unit.conv2.weight, unit.conv2.bias, padding=1)
    assert isinstance(unit.shortcut, nn.Conv2d)
    expected = out + f.conv2d(x, unit.shortcut.weight, unit.shortcut.bias, stride=2)
    torch.testing.assert_close(unit(x), expected)


def test_the_ends_of_the_resnets() -> None:
    """DivideMix pools what the last convolution gives, of either sign; the others pool after a ReLU."""
    images = torch.randn(8, 3, 8, 8, generator=stream(0, "images"))
    ends = {
        name: classifier(name, width=4, size=(8, 8)).features(images).min()
        for name in ("preact_resnet18", "resnet18", "resnet14")
    }
    assert ends["preact_resnet18"] < 0
    assert ends["resnet18"] >= 0
    assert ends["resnet14"] >= 0


def test_keras_batch_norm_and_a_silent_dropout_in_resnet14() -> None:
    modules = list(classifier("resnet14").modules())
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d)]
    dropouts = [m for m in modules if isinstance(m, nn.Dropout)]
    assert len(norms) == 13  # stem, 2 in each of 6 units but 1 in the first, end
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert [m.p for m in dropouts] == [0.0] * 6


def test_the_dropouts_and_the_leaks_of_the_papers() -> None:
    cnn9, mlp = (list(classifier(name, width=4).modules()) for name in ("cnn9", "mlp"))
    assert [m.p for m in cnn9 if isinstance(m, nn.Dropout2d)] == [0.25, 0.25]
    assert {m.negative_slope for m in cnn9 if isinstance(m, nn.LeakyReLU)} == {0.01}
    assert [m.p for m in mlp if isinstance(m, nn.Dropout)] == [0.2, 0.2]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_says_which_backbones_have_dropout_and_a_raised_rate_perturbs(name: str) -> None:
    about = BACKBONES[name]
    if not about.dropout:
        assert backbones.dropouts(classifier(name, size=(80, 80), channels=3)) == []
        return
    width = None if about.fixed else 4
    side = max(32, about.smallest)
    network = classifier(name, width=width, size=(side, side)).train()
    images = torch.randn(4, 3, side, side, generator=stream(0, "images"))
    backbones.set_dropout(network, 0.0)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))  # a silent dropout draws nothing
        backbones.set_dropout(network, 0.5)
        assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", ["resnet18_imagenet", "resnet50_imagenet"])
def test_layers_of_imagenet_s_networks_keep_torchvision_s_names_and_outputs(name: str) -> None:
    import torchvision

    network, plain = classifier(name), getattr(torchvision.models, name.removesuffix("_imagenet"))()
    wanted = {k: v for k, v in plain.state_dict().items() if not k.startswith("fc.")}
    network.features.load_state_dict(wanted)
    plain.fc = nn.Identity()
    images = torch.randn(2, 3, 32, 32, generator=stream(0, "images"))
    with torch.no_grad():
        torch.testing.assert_close(network.train().features(images), plain.train()(images))


def test_he_normal_weights_in_the_mlp_of_patrini_s_code() -> None:
    first, second = (
        m for m in classifier("mlp", size=(28, 28), channels=1).features if isinstance(m, nn.Linear)
    )
    assert first.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.02)
    assert second.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert not first.bias.any() and not second.bias.any()


def test_a_missing_dropout_is_refused_with_the_backbones_that_have_one() -> None:
    backbones.require_dropout(classifier("cnn9"), "dropout", 0.2)
    with pytest.raises(ParamsError, match=r"dropout is 0\.2, and backbone 'cnn7' has no dropout") as error:
        backbones.require_dropout(classifier("cnn7"), "dropout", 0.2)
    offered = str(error.value).split("one that has: ")[1].split(";")[0].split(", ")
    assert {"resnet14", "resnet18", "resnet50_imagenet", "mlp"} <= set(offered)
    assert not {"cnn7", "mlp256", "cnn_small"} & set(offered)


@pytest.mark.parametrize(
    ("backbone", "fan"), [("resnet18", 0), ("resnet14", 1)]
)  # a weight has shape [out in 3 3]
def test_he_initialization_counts_the_right_fan(backbone: str, fan: int) -> None:
    """Deviation sqrt(2 / (9 * channels)): out for ScanMix, in for Patrini. The layer that widens tells them apart."""
    wide = [
        m.weight.detach()
        for m in classifier(backbone, width=64).modules()
        if isinstance(m, nn.Conv2d) and m.weight.shape[1] == 64 and m.weight.shape[0] == 128
    ]
    three_by_three = next(w for w in wide if w.shape[2] == 3)
    expected = (2 / (9 * three_by_three.shape[fan])) ** 0.5
    assert three_by_three.std().item() == pytest.approx(expected, rel=0.02)  # of 73,728 draws


def test_cnn7_and_the_mlps_take_the_size_that_is_left() -> None:
    """28 is halved to 14, 7, 3; 16 channels of 3x3 are flattened."""
    assert classifier("cnn7", size=(28, 28), channels=1).head[0].in_features == 16 * 3 * 3
    assert classifier("mlp", size=(4, 6)).features[1].in_features == 3 * 4 * 6


def test_an_unknown_backbone_is_refused_with_the_nearest_name() -> None:
    assert check_backbone("cnn7") == "cnn7"
    with pytest.raises(ParamsError, match="unknown backbone 'resnet81'; did you mean 'resnet"):
        check_backbone("resnet81")
    with pytest.raises(ParamsError, match="unknown backbone 'vgg'; one of: small_cnn, resnet18, "):
        classifier("vgg")


@pytest.mark.parametrize("name", [n for n in BACKBONES if BACKBONES[n].smallest > 1])
def test_images_that_are_too_small_are_refused_with_what_takes_them(name: str) -> None:
    least = BACKBONES[name].smallest
    with pytest.raises(ParamsError) as error:
        classifier(name, channels=1, size=(least - 1, least + 9))
    message = str(error.value)
    assert f"backbone {name!r} takes images of {least}x{least} or more, " in message
    assert f"these are {least - 1}x{least + 9} with 1; prepare such images, or choose one of: " in message
    offered = message.split(": ")[-1].split(", ")
    assert "resnet18" in offered
    assert name not in offered
    assert "resnet18_imagenet" not in offered


def test_imagenet_weights_ask_for_three_channels() -> None:
    with pytest.raises(ParamsError, match="with 3 channels, these are 32x32 with 1; "):
        classifier("resnet50_imagenet", channels=1)


def test_a_fixed_width_cannot_be_chosen() -> None:
    with pytest.raises(ParamsError, match="'resnet18_imagenet' has width 64, not 32; leave width out"):
        classifier("resnet18_imagenet", width=32)


def test_without_timm_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ParamsError, match="needs timm; run `pip install timm`"):
        classifier("inception_resnet_v2", size=(299, 299))


def test_the_smallest_sizes_are_the_smallest() -> None:
    """One pixel less leaves nothing of the map, built past the check."""
    for name, about in BACKBONES.items():
        if about.smallest == 1 or (name == "inception_resnet_v2" and NO_TIMM):
            continue
        with torch.device("meta"):
            module = getattr(importlib.import_module(f"noisyctl.nn.{about.family}"), name)
            network, _ = module(3, about.width, (about.smallest,) * 2)
            network.eval()(torch.empty(2, 3, about.smallest, about.smallest))
            with pytest.raises(RuntimeError):
                network(torch.empty(2, 3, about.smallest - 1, about.smallest - 1))


def test_names_are_read_without_torch() -> None:
    code = (
        f"import sys, {backbones.__name__}; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stages_halve_and_double() -> None:
    seen: list[tuple[int, int, int]] = []

    def block(*about: int) -> nn.Module:
        seen.append(about)
        return nn.Identity()

    assert len(resnet.stages(block, (2, 1, 2), 4)) == 5
    assert seen == [(4, 4, 1), (4, 4, 1), (4, 8, 2), (8, 16, 2), (16, 16, 1)]
