"""One training, from a Task and networks to a published artifact: what every stage that trains calls."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from noisyctl.artifacts import store, tensor_files
from noisyctl.artifacts.kinds import TRACE
from noisyctl.nn.inference import modules_of
from noisyctl.nn.networks import Classifier, Head, NetworkSpec
from noisyctl.runs.headers import LabelFreeHeader, Preprocessing, RunHeader
from noisyctl.runs.reading import image_size
from noisyctl.runs.samples import Samples
from noisyctl.session import Session
from noisyctl.task import Method, Task
from noisyctl.training import memory
from noisyctl.training.loop import Fitted, fit
from noisyctl.training.scratch import Unkept, hold


@dataclass(frozen=True, eq=False)
class Training:
    """What is trained on what.

    `stage` names the work as in `noisyctl.code.files_of`; the generators of every epoch are drawn from it. `inputs` are the
    digests of what the training starts from, by name, and `recorded` what its artifacts say of the params beside their
    values. `held_out` are images of other splits, which only the runner sees. `precision` is set where the user has no
    choice; then nothing is compiled either. `shown_as` is what the progress calls it.
    """

    stage: str
    method: Method
    networks: Sequence[nn.Module]
    task: Task
    params: Any
    inputs: Mapping[str, str]
    recorded: Mapping[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    shown_as: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a trained artifact comes from, as it says of itself: params, digests of the inputs, and the hardware."""

    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    hardware: str


def train_and_publish(
    training: Training, out: Path, session: Session, publish: Callable[[Fitted, Origin], Any]
) -> Fitted:
    """Train, and publish while the scratch folder is still held: a kill at any moment loses no finished epoch.

    `publish` writes the artifacts to `out`. Raises TrainingError where another process is at the same work.
    """
    device = training.task.device
    recorded = training.params.model_dump() | dict(training.recorded)
    recorded |= {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {
        "params": recorded,
        "inputs": dict(training.inputs),
        **session.numerics(device, training.precision),
        "compile": session.compile_on(device) if training.precision is None else "off",
    }
    if session.test_every != 1:
        facts["test_every"] = session.test_every
    held = hold(session.scratch, training.stage, facts, out) if session.resumes else nullcontext(Unkept())
    with held as scratch, memory.kept(device):
        fitted = fit(
            training.method,
            training.networks,
            training.task,
            training.params,
            name=training.stage,
            epochs=training.params.epochs,
            seed=session.seed,
            scratch=scratch,
            held_out=training.held_out,
            report=session.report(training.shown_as or training.stage),
            precision=facts["precision"],
            compiled=facts["compile"] == "on",
            test_every=session.test_every,
        )
        publish(fitted, Origin(recorded, training.inputs, session.hardware(device, facts["compile"] == "on")))
    return fitted


def preprocessing_of(samples: Samples, class_names: list[str]) -> Preprocessing:
    """How new samples are brought to the networks. Of vectors whose images are not at hand no encoder is known."""
    size = samples.size if samples.images is None else image_size(samples.images)
    return Preprocessing(class_names, samples.mean, samples.std, samples.recipe, size, samples.encoder)


def spec(params: Any, samples: Samples, num_outputs: int, head: str) -> NetworkSpec:
    """What a network is built from that sees these samples."""
    height, width = samples.size
    return NetworkSpec(params.backbone, samples.channels, (height, width), num_outputs, head, params.width)


def network_tensors(state: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Every network of a State: tensors by `field.name`, and the field's spec as JSON."""
    modules = modules_of(state)
    tensors = {
        f"{field}.{key}": t for field, module in modules.items() for key, t in module.state_dict().items()
    }
    return tensors, {
        field: cast(Classifier | Head, module).spec.to_json() for field, module in modules.items()
    }


def publish_run(
    out: Path,
    header: RunHeader,
    fitted: Fitted,
    origin: Origin,
    sample_ids: np.ndarray,
    labels: store.Artifact,
) -> None:
    """networks.safetensors and trace.zarr, the trace last and with the networks' digest: see `require_whole_run`."""
    tensors, specs = network_tensors(fitted.state)
    digest = tensor_files.write(out / "networks.safetensors", tensors, header.to_json() | {"modules": specs})
    store.write(
        out / "trace.zarr",
        TRACE,
        fitted.arrays | {"train_id": sample_ids, "noisy_labels": labels.array("noisy_labels")},
        params=origin.params,
        inputs={**origin.inputs, "networks": digest},
        attributes={
            "method": header.method,
            "class_names": labels.attributes["class_names"],
            "hardware": origin.hardware,
        },
    )


def publish_label_free(path: Path, kind: str, network: Classifier, origin: Origin) -> str:
    """A network that learned without labels, as a file of the kind encoder or clusters. Gives its digest."""
    tensors = {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
    header = LabelFreeHeader(kind, origin.params, origin.inputs, origin.hardware)
    return tensor_files.write(
        path, tensors, header.to_json() | {"modules": {"network": network.spec.to_json()}}
    )
