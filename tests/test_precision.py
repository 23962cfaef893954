"""Which precision `auto` is, and why; and that a run in one precision never goes on in another."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pipeline
import pytest
import torch

from noisyctl import methods, precision
from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import IMAGES, TRACE
from noisyctl.cli.progress import Terminal
from noisyctl.errors import ParamsError
from noisyctl.nn.inference import evaluating, outputs
from noisyctl.noise import semantic
from noisyctl.pretraining import scan, simclr
from noisyctl.runs import reading, tasks, train
from noisyctl.runs.samples import Samples
from noisyctl.session import Session
from noisyctl.training import scratch
from noisyctl.training.warmup import Params as WarmupParams
from stages import cluster_scan, doctor, inject_noise, pretrain, train_method, warmup

CPU = torch.device("cpu")
FLAGS = {
    "sapphire rapids": ("fpu avx512f avx512_bf16 amx_bf16 amx_tile", ("AVX512_BF16", "AMX")),
    "zen 4": ("fpu avx2 avx512f avx512_bf16 avx512_vnni", ("AVX512_BF16",)),
    "cascade lake": ("fpu avx2 avx512f avx512_vnni", ()),  # torch calls it AVX512 too
}


def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str) -> None:
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n"
    )
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")


@pytest.mark.parametrize("name", FLAGS)
def test_auto_is_bfloat16_where_the_processor_has_its_units(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, units = FLAGS[name]
    processor(monkeypatch, tmp_path, flags)
    assert precision.cpu_units() == units
    found, why = precision.resolve("auto", CPU)
    assert found == ("bfloat16" if units else "float32")
    assert why == f"this processor has {' and '.join(units) or 'no units for bfloat16'}"
    assert precision.resolve("float32", CPU) == ("float32", "asked for")
    asked, why = precision.resolve("bfloat16", CPU)
    assert asked == "bfloat16"
    assert ("float32 is faster here" in why) == (not units)


def test_a_processor_that_tells_nothing_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    assert precision.resolve("auto", CPU)[0] == "float32"
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "arm")
    assert precision.cpu_units() == ()


def test_another_word_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"--precision is 'bfloat15'; did you mean 'bfloat16'\?"):
        precision.resolve("bfloat15", CPU)


def test_a_stage_and_doctor_say_which_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processor(monkeypatch, tmp_path, "avx512f avx512_bf16")
    session = Session(device="cpu", threads=1, shows=Terminal())
    facts = session.numerics(CPU)
    assert capsys.readouterr().err == "precision bfloat16: this processor has AVX512_BF16\n"
    session.numerics(CPU)
    assert capsys.readouterr().err == ""  # once is enough
    assert facts["precision"] == "bfloat16"
    assert facts["layout"] == "channels_last"
    assert facts["units"].endswith(" AVX512_BF16")
    assert session.hardware(CPU) == f"CPU {facts['units']}, bfloat16, channels_last, 1 threads"
    replace(session, shows=Terminal(quiet=True)).numerics(CPU)
    replace(session, precision="float32").numerics(CPU)
    assert capsys.readouterr().err == ""
    if not torch.cuda.is_available():
        assert doctor.run()["precision"] == "auto is bfloat16: this processor has AVX512_BF16"


class Stopped(Exception):
    """Where a run was interrupted."""


def test_a_run_begun_in_bfloat16_does_not_go_on_in_float32(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(pipeline.session(tmp_path), precision="float32")
    params = pipeline.params_of("cross_entropy", 3)

    def train(name: str, session: Session) -> dict[str, bytes]:
        train_method.run(pipeline.inputs(home, "cross_entropy", tmp_path / name), params, session)
        return pipeline.tree(tmp_path / name)

    whole = train("whole", plain)
    save = scratch.Scratch.save

    def save_one(self: scratch.Scratch, epoch: int, *rest: Any) -> None:
        save(self, epoch, *rest)
        if epoch == 1:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(scratch.Scratch, "save", save_one)
        with pytest.raises(Stopped):
            train("mixed", replace(plain, precision="bfloat16"))
    assert len(list(tmp_path.glob("scratch/scratch/*/checkpoint.safetensors"))) == 1
    assert train("mixed", plain) == whole


def test_every_stage_that_trains_has_precision_layout_and_units_among_its_facts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []

    def stop(root: Path, stage: str, facts: dict[str, Any], *place: Path) -> None:
        found.append(facts)
        raise Stopped

    monkeypatch.setattr(train, "hold", stop)
    images, labels = home / "images.zarr", home / "labels.zarr"
    small: dict[str, Any] = {"backbone": "small_cnn", "width": 4}
    places = (images, home / "simclr/encoder.safetensors", home / "neighbors.zarr", tmp_path)
    noise = inject_noise.Inputs("semantic", home / "truth.zarr", tmp_path / "labels.zarr", images)
    stages: list[tuple[Any, Any, Any]] = [
        (train_method, pipeline.inputs(home, "elr", tmp_path), pipeline.params_of("elr")),
        (warmup, warmup.Inputs(images, labels, tmp_path), WarmupParams(**small)),
        (pretrain, pretrain.Inputs("simclr", images, tmp_path), simclr.Params(**small)),
        (cluster_scan, cluster_scan.Inputs(*places), scan.Params(num_clusters=10)),
        (inject_noise, noise, semantic.Params()),
    ]
    for stage, inputs, params in stages:
        seen = []
        for asked in ("float32", "bfloat16"):
            with pytest.raises(Stopped):
                stage.run(inputs, params, replace(pipeline.session(tmp_path), precision=asked))
            seen.append({k: found[-1][k] for k in ("device", "precision", "layout", "units")})
        expected = "float32" if stage is inject_noise else "bfloat16"  # labels are data
        assert [s["precision"] for s in seen] == ["float32", expected]
        assert seen[0]["layout"] == "channels_last"


@pytest.mark.parametrize("method", ["cross_entropy", "dividemix", "elr_plus"])
def test_networks_that_are_read_again_predict_what_the_run_did(
    method: str, home: Path, tmp_path: Path
) -> None:
    """As predict computes, in float32: to rounding of a run in float32, to that of its precision of one in bfloat16."""
    images = store.read(home / "images.zarr", IMAGES)
    task, held_out = tasks.make_task(Samples.of_images(images), CPU)
    assert task.views is not None
    for asked, tolerance in (("float32", 1e-6), ("bfloat16", 0.03)):
        session = replace(pipeline.session(tmp_path), precision=asked)
        train_method.run(
            pipeline.inputs(home, method, tmp_path / asked), pipeline.params_of(method, 2), session
        )
        found, _ = reading.read_networks(tmp_path / asked / "networks.safetensors", "")
        module = methods.load(method)
        state = object.__new__(get_type_hints(module.predict)["state"])
        vars(state).update(found)
        with evaluating(*found.values()):
            logits = outputs(lambda x: module.predict(state, x), held_out["test"], task.views.plain)  # noqa: B023
        assert logits.dtype == torch.float32
        recorded = store.read(tmp_path / asked / "trace.zarr", TRACE).array("test_probabilities")
        np.testing.assert_allclose(logits.softmax(dim=1), recorded, atol=tolerance)
        assert (asked == "float32") == np.allclose(logits.softmax(dim=1), recorded, atol=1e-6)


def test_what_is_published_names_precision_and_layout(home: Path, tmp_path: Path) -> None:
    session = replace(pipeline.session(tmp_path), precision="bfloat16")
    train_method.run(
        pipeline.inputs(home, "cross_entropy", tmp_path / "run"),
        pipeline.params_of("cross_entropy", 1),
        session,
    )
    about = store.read(tmp_path / "run/trace.zarr", TRACE).attributes["hardware"]
    assert about == session.hardware(CPU)
    assert ", bfloat16, channels_last, 1 threads" in about
    plain = pipeline.session(home).hardware(CPU)
    assert store.read(home / "warmup/trace.zarr", TRACE).attributes["hardware"] == plain
    for name in ("simclr/encoder.safetensors", "clusters.safetensors"):
        assert tensor_files.read(home / name, "")[1]["hardware"] == plain
