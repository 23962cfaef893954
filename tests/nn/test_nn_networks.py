"""Classifiers and heads: from a spec and back, seeds, copies."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.nn.networks import (
    HEADS,
    Classifier,
    Head,
    HeadSpec,
    NetworkSpec,
    build,
    from_spec,
    spec_from_json,
)
from noisyctl.seeds import stream

SPEC = NetworkSpec(
    backbone="small_cnn",
    width=2,
    channels=1,
    size=(8, 8),
    num_outputs=3,
    head="linear",
)
IMAGES = torch.randn(5, 1, 8, 8, generator=stream(0, "images"))


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """No test here may move the global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), head=st.sampled_from(HEADS))
def test_same_generator_same_weights(seed: int, head: str) -> None:
    spec = replace(SPEC, head=head)
    assert same(build(spec, stream(seed, "a")), build(spec, stream(seed, "a")))
    assert not same(build(spec, stream(seed, "a")), build(spec, stream(seed, "b")))


def test_two_networks_of_one_generator_differ() -> None:
    rng = stream(0, "pair")
    assert not same(build(SPEC, rng), build(SPEC, rng))


def test_the_default_device_changes_nothing() -> None:
    with torch.device("meta"):
        elsewhere = build(SPEC, torch.Generator("cpu").manual_seed(1))
        rebuilt = from_spec(SPEC)
    assert same(elsewhere, build(SPEC, torch.Generator("cpu").manual_seed(1)))
    assert {p.device.type for p in rebuilt.parameters()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_generator_of_the_gpu_moves() -> None:
    before = torch.cuda.get_rng_state()
    rng = torch.Generator("cuda").manual_seed(1)
    twin = torch.Generator("cuda").manual_seed(1)
    assert same(build(SPEC, rng), build(SPEC, twin))
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ["small_cnn", "resnet14", "cnn_small", "mlp", "preact_resnet18"])
def test_a_spec_in_json_and_the_weights_make_the_network(backbone: str, head: str) -> None:
    spec = replace(SPEC, backbone=backbone, head=head, size=(16, 17))
    network = build(spec, stream(0, "init")).eval()
    twin = from_spec(spec_from_json(json.loads(json.dumps(network.spec.to_json())))).eval()
    twin.load_state_dict(network.state_dict())
    images = torch.randn(4, 1, 16, 17, generator=stream(0, "images"))
    assert type(twin) is Classifier
    assert torch.equal(twin(images), network(images))
    assert twin.spec == network.spec == spec


def test_a_width_that_is_left_out_is_the_papers() -> None:
    left_out = NetworkSpec("small_cnn", channels=1, size=(8, 8), num_outputs=3, head="linear")
    with torch.device("meta"):
        assert Classifier(left_out).spec == replace(SPEC, width=16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wdith": 3}, "network is another one: 'wdith' is not a key here; did you mean 'width'"),
        ({"size": None}, "network is another one: 'size' is missing"),
        ({"kind": "head"}, "head is another one: 'backbone' is not a key here"),
    ],
)
def test_a_spec_with_an_unknown_or_a_missing_key_is_refused(change: dict[str, object], said: str) -> None:
    about = {key: value for key, value in (SPEC.to_json() | change).items() if value is not None}
    with pytest.raises(ArtifactError, match=said):
        spec_from_json(about)


def test_logits_are_the_head_of_the_features() -> None:
    network = build(SPEC, stream(0, "init")).eval()
    features = network.features(IMAGES)
    assert features.shape == (5, 16)
    torch.testing.assert_close(network.head(features), network(IMAGES))
    linear = network.head[0]
    torch.testing.assert_close(network(IMAGES), features @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("head", HEADS)
def test_logits_are_float32_in_bfloat16_too(head: str) -> None:
    network = build(replace(SPEC, head=head), stream(0, "weights"))
    with torch.autocast("cpu", torch.bfloat16):
        features = network.features(IMAGES)
        assert features.dtype == torch.bfloat16
        assert network(IMAGES).dtype == network.head(features).dtype == torch.float32
        surest = (network(IMAGES) + 10 * torch.eye(3)[0]).softmax(dim=1)[:, 0]
    assert ((surest > 0.9961) & (surest < 1)).all()  # no bfloat16 lies between 0.9961 and 1


def test_a_second_head_is_rebuilt_alone() -> None:
    """As ScanMix has two on one backbone, both from the head that clustered."""
    network = build(SPEC, stream(0, "init"))
    second = copy.deepcopy(network.head)
    twin = from_spec(spec_from_json(json.loads(json.dumps(second.spec.to_json()))))
    twin.load_state_dict(second.state_dict())
    features = torch.randn(4, 16, generator=stream(0, "features"))
    assert type(twin) is Head
    assert torch.equal(twin(features), network.head(features))
    nn.init.zeros_(second[0].weight)
    assert not torch.equal(second(features), network.head(features))


@pytest.mark.parametrize(("num_outputs", "expected"), [(10, 11_179_092), (100, 11_271_432)])
def test_parameters_of_scanmix_with_two_heads(num_outputs: int, expected: int) -> None:
    spec = replace(SPEC, backbone="resnet18", width=64, channels=3, num_outputs=num_outputs)
    with torch.device("meta"):
        network = Classifier(spec)
        second = Head(network.head.spec)
        assert sum(p.numel() for module in (network, second) for p in module.parameters()) == expected


def test_heads_layer_by_layer() -> None:
    with torch.device("meta"):
        heads = {kind: Head(HeadSpec(kind, 256, 80)) for kind in HEADS}
    shapes = {
        kind: [tuple(p.shape) for name, p in head.named_parameters() if "weight" in name]
        for kind, head in heads.items()
    }
    assert shapes == {
        "linear": [(80, 256)],
        "projection": [(256, 256), (80, 256)],
        "mlp": [(512, 256), (512,), (80, 512)],  # the one between is batch norm's
        "batch_norm": [(80, 256), (80,)],  # one scale an output
    }


def test_the_mlp_head_is_he_initialized() -> None:
    head = from_spec(HeadSpec("mlp", 256, 200))
    for layer, inputs in ((head[0], 256), (head[3], 512)):
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.02)
        assert (layer.bias == 0).all()


def test_a_copy_keeps_mode_and_dropout_and_is_its_own() -> None:
    network = build(replace(SPEC, backbone="mlp"), stream(0, "init")).eval()
    network.features[3].p = 0.5
    twin = copy.deepcopy(network)
    assert not twin.training
    assert twin.features[3].p == 0.5
    nn.init.zeros_(twin.head[0].weight)
    assert not same(twin, network)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"unknown head 'liner'; did you mean 'linear'\?"):
        Head(HeadSpec("liner", num_features=4, num_outputs=2))
