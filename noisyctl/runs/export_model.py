"""A run's model as one ONNX file, which labels images without noisyctl and without PyTorch.

The file takes images as they are decoded, uint8 [batch height width channel] of the size that its metadata names, and gives
the probability of each class [batch class]. Everything between is inside: the encoder of a run on vectors, the
normalization, the networks, and how a method makes one answer of two networks. Bringing a photo to that size is left to the
caller: turned by its EXIF tag, and as Pillow's `ImageOps.fit` does, its shorter side scaled to that side (bilinear) with the
center kept.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisyctl.artifacts import files
from noisyctl.errors import ParamsError, TrainingError
from noisyctl.runs.model import Model
from noisyctl.runs.predict import intake_of, read_model
from noisyctl.session import Session

KEY = "noisyctl"  # of the file's metadata
TOLERANCE = 1e-4  # of a probability, between this file in ONNX Runtime and the networks in PyTorch
NEEDS = ("onnx", "onnxscript", "onnxruntime")
CHECKED = 4  # images on which both are compared


class OnnxFile:
    """The form of such a file: ours where its metadata has our key."""

    def foreign(self, path: Path) -> str | None:
        """Why what stands at `path` may not be replaced; None where it may."""
        if not path.is_file():
            return files.NO_FILE
        return (
            None if b'"noisyctl": "model"' in path.read_bytes() else "is not a model that noisyctl exported"
        )


def export(run: Path, out: Path, session: Session, *, weights: Path | None = None) -> dict[str, Any]:
    """Write the model of a run to `out` and compare it there, in ONNX Runtime, with the networks it was made from.

    `weights` is the file of the encoder's weights, where the run is on vectors whose encoder's weights came from one. Gives
    the largest difference of a probability. Raises ParamsError where a package is missing, ArtifactError for a run that
    cannot label images, and TrainingError, with nothing written, where the two differ by more than 1e-4.
    """
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise ParamsError(
            f"an ONNX file needs {', '.join(missing)}; install them with `pip install 'noisyctl[onnx]'`"
        )
    files.check([files.Writes({out: OnnxFile()})], [run], ours=lambda path: False)
    device = torch.device("cpu")
    session.start()
    networks, header, how = read_model(run)
    intake = intake_of(run, how, device, session, weights)
    labeler = Model(networks, header.method, how, intake).eval()
    shape = (CHECKED, intake.size, intake.size, intake.channels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = labeler(images)
    about = {
        KEY: "model",
        "method": header.method,
        "run": header.digest,
        "class_names": how.class_names,
        "input": f"uint8 [batch, {intake.size}, {intake.size}, {intake.channels}], RGB or gray, decoded and scaled",
        "output": "probability of each class [batch, class]",
    }
    with files.publish(out, OnnxFile()) as partial:
        _write(labeler, images, about, partial)
        difference = _difference(partial, images, expected)
    return {
        "out": str(out),
        "classes": len(how.class_names),
        "image_size": intake.size,
        "largest_difference": difference,
    }


def _write(labeler: Model, images: Tensor, about: dict[str, Any], path: Path) -> None:
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.onnx.export(
            labeler,
            (images,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(about, sort_keys=True)
    path.write_bytes(model.SerializeToString())


def _difference(path: Path, images: Tensor, expected: Tensor) -> float:
    """The largest difference of a probability. Raises TrainingError where it is more than TOLERANCE."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found = torch.as_tensor(session.run(None, {"images": images.numpy()})[0])
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the exported model differs from the networks by {difference:.2g} in a probability, more than {TOLERANCE:g}; "
            "nothing was written. Please report the versions of torch, onnx and onnxscript"
        )
    return difference
