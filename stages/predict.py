"""Label a folder of images with a run's model alone."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from noisyctl.artifacts import files
from noisyctl.errors import ArtifactError
from stages.common import Option, Session, Stage, one

PREDICTIONS = files.Text(("path,label,probability",))


@dataclass(frozen=True)
class Inputs:
    run: Path
    root: Path
    out: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write predictions.csv: path, label, probability; unreadable files are listed with an empty label."""
    import csv

    import torch

    from noisyctl import methods
    from noisyctl.datasets.folder import read_images
    from noisyctl.nn.inference import evaluating, outputs
    from noisyctl.training import warmup
    from noisyctl.views import Views
    from stages import training

    device = session.start()
    networks, header = training.read_run(inputs.run, "noisyctl train-method NAME")
    if not networks:
        raise ArtifactError(
            f"{inputs.run}: {header['method']} trains no network, so it cannot label images; choose another run"
        )
    size = max(header["size"])
    images, ids, quarantine = read_images(inputs.root, size, "gray" if len(header["mean"]) == 1 else "rgb")
    method = warmup if header["method"] == "warmup" else methods.load(header["method"])
    state = SimpleNamespace(**{name: network.to(device) for name, network in networks.items()})
    views = Views(header["views"], header["mean"], header["std"])
    with evaluating(*networks.values()):
        logits = outputs(lambda x: method.predict(state, x), torch.as_tensor(images).to(device), views.plain)
    best = logits.float().softmax(dim=1).max(dim=1)
    with files.publish(inputs.out, PREDICTIONS) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "probability"])
        for name, label, probability in zip(
            ids.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        ):
            writer.writerow([name, header["class_names"][label], f"{probability:.6f}"])
        writer.writerows([item.path, "", ""] for item in quarantine)
    return {"images": len(ids), "quarantined": len(quarantine), "out": str(inputs.out)}


STAGE = Stage(
    name="predict",
    summary="Label a folder of images with a run's model alone.",
    example="noisyctl predict --run data/photos/runs/mixnn/given-s0 --root photos --out predictions.csv",
    run=run,
    inputs=lambda given, layout, extra: Inputs(given["run"], given["root"], given["out"]),
    options=(
        Option("run", "folder of a run", required=True),
        Option("root", "folder of images", required=True),
        Option("out", "file to write", lambda layout: Path("predictions.csv"), writes=one(PREDICTIONS)),
    ),
)
