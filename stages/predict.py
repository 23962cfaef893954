"""Label a folder of images with a run's model alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from noisyctl.artifacts import csv_files, files
from noisyctl.cli.stage import Option, Stage, one
from noisyctl.errors import ArtifactError
from noisyctl.session import Session

PREDICTIONS = files.Text((",".join(csv_files.PREDICTIONS),))
MADE_BY = "noisyctl train-method NAME"
ABOUT = {
    "method": str,
    "size": list,
    "mean": list,
    "std": list,
    "class_names": list,
}  # of networks that label images


@dataclass(frozen=True)
class Inputs:
    run: Path
    root: Path
    out: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write predictions.csv: path, label, probability; unreadable files are listed with an empty label.

    Images are decoded, labeled and written in blocks: a folder of any size takes the memory of one batch.
    """
    import torch

    from noisyctl import methods
    from noisyctl.datasets import Quarantined
    from noisyctl.datasets.folder import read_blocks
    from noisyctl.nn import inference
    from noisyctl.runs import training
    from noisyctl.training import warmup
    from noisyctl.views import Views

    device = session.start()
    networks, header = training.read_run(inputs.run, MADE_BY)
    if not networks:
        raise ArtifactError(
            f"{inputs.run}: {header['method']} trains no network, so it cannot label images; choose another run"
        )
    _check(header, inputs.run)
    method = warmup if header["method"] == "warmup" else methods.load(header["method"])
    state = SimpleNamespace(**{name: network.to(device) for name, network in networks.items()})
    views = Views(header["views"], header["mean"], header["std"])
    names, gray = header["class_names"], len(header["mean"]) == 1
    aside: list[Quarantined] = []
    blocks = read_blocks(inputs.root, max(header["size"]), "gray" if gray else "rgb", inference.BATCH, aside)
    report, count = session.progress("predict", "images"), 0

    def label(images: Any, ids: list[str]) -> Iterator[list[str]]:
        block = torch.as_tensor(images).to(device)
        logits = inference.outputs(lambda x: method.predict(state, x), block, views.plain)
        best = logits.float().softmax(dim=1).max(dim=1)
        for path, place, probability in zip(ids, best.indices.tolist(), best.values.tolist(), strict=True):
            yield [path, names[place], f"{probability:.6f}"]

    with (
        files.publish(inputs.out, PREDICTIONS) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
        inference.evaluating(*networks.values()),
    ):
        csv_files.write(file, [csv_files.PREDICTIONS])
        for images, ids, share in blocks:
            csv_files.write(file, label(images, ids))
            count += len(ids)
            report(count + len(aside), round((count + len(aside)) / share))
        quarantine = sorted(aside, key=lambda item: item.path)
        csv_files.write(file, ([item.path, "", ""] for item in quarantine))
    return {"images": count, "quarantined": len(aside), "out": str(inputs.out)}


def _check(header: dict[str, Any], run: Path) -> None:
    """Refuse networks whose file does not say what images they take. Raises ArtifactError."""
    wrong = [name for name, kind in ABOUT.items() if not isinstance(header.get(name), kind)]
    wrong += [] if "views" in header else ["views"]
    if wrong or header.get("kind") != "networks":
        what = f"does not say its {', '.join(wrong)}" if wrong else f"holds {header.get('kind')}"
        raise ArtifactError(
            f"{run}: networks.safetensors {what}, so it cannot label images; was it written by another program or "
            f"version? Make the run again with `{MADE_BY}`"
        )


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
