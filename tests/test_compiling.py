"""Compiled networks compute the same as plain ones, resume as they do, and give way to them where there is no compiler."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import modes
import pipeline
import pytest
import torch
from torch import Tensor, nn

from noisyctl import compiling
from noisyctl.artifacts import tensor_files
from noisyctl.errors import ParamsError
from noisyctl.methods import dividemix, elr
from noisyctl.nn import compiled
from noisyctl.nn.compiled import compile_backbones
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.nn.teacher import make_teacher
from noisyctl.pretraining import simclr
from noisyctl.seeds import stream
from noisyctl.session import Session
from noisyctl.task import Task
from noisyctl.training import scratch
from noisyctl.views import ImageViews
from stages import train_method

CPU = torch.device("cpu")
SPEC = NetworkSpec("small_cnn", 1, (8, 8), 3, "linear", 2)


class Told:
    """A session's screen that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def epochs(self, what: str) -> Any:
        return lambda *about: None

    def steps(self, what: str, unit: str, kept: bool = False) -> Any:
        return lambda done, total: None

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks go through torch.compile, but its graphs are run as they are: no compiler is waited for."""
    monkeypatch.setattr(compiled, "OPTIONS", {"dynamic": True, "backend": "aot_eager"})
    monkeypatch.setattr(compiling, "obstacle", lambda device: "")


def task() -> Task:
    images = torch.randint(256, (32, 8, 8, 1), dtype=torch.uint8, generator=stream(0, "images"))
    labels = torch.arange(32) % 3
    return Task(images, ImageViews("digits", (0.5,), (0.25,)), 3, CPU, labels=labels)


METHODS: dict[str, tuple[Any, Any, int]] = {
    "elr": (elr, elr.Params(epochs=1, batch_size=16), 1),
    "dividemix": (dividemix, dividemix.Params(epochs=1, batch_size=16), 2),
    "simclr": (simclr, simclr.Params(epochs=1, batch_size=16), 1),
}


@pytest.mark.parametrize("name, backbone", [("dividemix", "mlp256"), ("simclr", "small_cnn")])
@pytest.mark.usefixtures("quick")
def test_every_step_is_that_of_a_plain_network(name: str, backbone: str, tmp_path: Path) -> None:
    compare_steps(name, replace(SPEC, backbone=backbone), tmp_path)


def test_compiled_kernels_compute_what_torch_does(tmp_path: Path) -> None:
    """The smallest network, since a compiler takes seconds for each kernel."""
    if found := compiling.obstacle("cpu"):
        pytest.skip(found)
    compare_steps("elr", replace(SPEC, backbone="mlp256"), tmp_path)


def compare_steps(name: str, spec: NetworkSpec, tmp_path: Path) -> None:
    """From the same weights: a loss and a step differ by the rounding of float32, which is a thousandth of what it moves."""
    method, params, number = METHODS[name]

    def train(folder: str, **mode: Any) -> modes.Steps:
        networks: list[nn.Module] = [build(spec, stream(k, "init")) for k in range(number)]
        return modes.steps(method, networks, task(), params, tmp_path / folder, **mode)

    plain = train("plain")
    other = train("compiled", lead=plain, compiled=True)
    assert any(compiles(part) for part in vars(other.state).values() if isinstance(part, nn.Module))
    assert len(plain.losses) == len(other.losses) > 1
    for expected, found in zip(plain.losses, other.losses, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    before = [build(spec, stream(k, "init")).state_dict() for k in range(number)]
    for expected_weights, found_weights in zip(plain.weights, other.weights, strict=True):
        for old, one, another in zip(before, expected_weights, found_weights, strict=True):
            moved = torch.cat([(one[key] - old[key]).float().ravel() for key in one])
            apart = torch.cat([(one[key] - another[key]).float().ravel() for key in one])
            assert list(one) == list(another)
            assert apart.norm() <= 1e-3 * moved.norm()
        before = expected_weights
    assert not any("_orig_mod" in key for weights in other.weights for key in weights[0])


def compiles(network: nn.Module) -> bool:
    return any(part._compiled_call_impl is not None for part in network.modules())


def test_a_backbone_is_compiled_and_its_copies_and_names_are_plain() -> None:
    network = build(SPEC, stream(0, "init"))
    names = list(network.state_dict())
    compile_backbones(nn.ModuleList([network]))
    assert compiles(network) and list(network.state_dict()) == names
    assert not compiles(make_teacher(network))


class Stopped(Exception):
    """Where a run was interrupted."""


@pytest.mark.usefixtures("quick")
def test_a_resumed_run_equals_an_uninterrupted_one_and_neither_mode_goes_on_in_the_other(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = pipeline.session(tmp_path)
    on, params = replace(plain, compile="on"), pipeline.params_of("cross_entropy", 3)

    def train(name: str, session: Session) -> dict[str, bytes]:
        train_method.run(pipeline.inputs(home, "cross_entropy", tmp_path / name), params, session)
        return pipeline.tree(tmp_path / name)

    save, whole = scratch.Scratch.save, {"on": train("whole", on), "off": train("plain", plain)}
    assert whole["on"] != whole["off"]

    def save_one(self: scratch.Scratch, epoch: int, *rest: Any) -> None:
        save(self, epoch, *rest)
        if epoch == 1:
            raise Stopped

    for again in ("on", "off"):
        with monkeypatch.context() as patch:
            patch.setattr(scratch.Scratch, "save", save_one)
            with pytest.raises(Stopped):
                train(f"begun-{again}", on)
        assert train(f"begun-{again}", replace(plain, compile=again)) == whole[again]
    assert "compile: on, now off" in capsys.readouterr().err
    (networks,) = [path for path in whole["on"] if path.endswith("networks.safetensors")]
    names = [list(tensor_files.read(tmp_path / n / networks, "")[0]) for n in ("whole", "plain")]
    assert names[0] == names[1]


def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    import torch._inductor.config as inductor
    import torch._inductor.cpp_builder as builder

    place = tmp_path / "cache"
    if how == "no compiler":
        builder.cpp_compiler_search.cache_clear()
        monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "no-compiler"),))
    else:  # a folder cannot be made there, whoever asks
        place = tmp_path / "file"
        place.write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place / "below"))
    torch._dynamo.reset()
    compiling.obstacle.cache_clear()


@pytest.mark.parametrize("how", ["no compiler", "no place for the cache"])
def test_without_a_compiler_a_run_is_a_plain_one_and_says_so_once(
    how: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    plain = replace(pipeline.session(tmp_path), shows=told)
    params = pipeline.params_of("cross_entropy", 1)
    with monkeypatch.context() as patch:
        broken(patch, tmp_path, how)
        for name, session in (("asked", replace(plain, compile="on")), ("plain", plain)):
            train_method.run(pipeline.inputs(home, "cross_entropy", tmp_path / name), params, session)
    torch._dynamo.reset()
    compiling.obstacle.cache_clear()
    (line,) = [line for line in told.lines if line.startswith("compile")]
    assert line.startswith("compile off: nothing can be compiled here (")
    assert pipeline.tree(tmp_path / "asked") == pipeline.tree(tmp_path / "plain")


def test_on_and_off_are_the_choices() -> None:
    with pytest.raises(ParamsError, match=r"--compile is 'onn'; did you mean 'on'\?"):
        compiling.resolve("onn", CPU)
    assert compiling.resolve("off", CPU) == ("off", "not asked for")
    assert dataclasses.fields(Session) and Session().compile == "off"


def test_yaml_reads_on_and_off_as_true_and_false(tmp_path: Path) -> None:
    from noisyctl import config
    from noisyctl.cli.resolve import settings

    (tmp_path / "params.yaml").write_text("compile: on\n")
    file = config.read_params_file(tmp_path / "params.yaml")
    assert settings(file, {"json": False}, {})[1].compile == "on"
    assert settings(file, {"json": False, "compile": "off"}, {})[1].compile == "off"


def test_modules_without_a_backbone_are_left_alone() -> None:
    head = nn.Linear(2, 3)
    compile_backbones(head)
    assert not compiles(head) and isinstance(head(torch.zeros(1, 2)), Tensor)
