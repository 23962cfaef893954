"""A run's model on images of your own: from a folder of images to predictions.csv."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch

from noisyctl import methods
from noisyctl.artifacts import csv_files, files
from noisyctl.datasets import Quarantined
from noisyctl.datasets.folder import read_blocks
from noisyctl.errors import ArtifactError
from noisyctl.nn import inference
from noisyctl.runs.reading import read_run
from noisyctl.session import Session
from noisyctl.training import warmup
from noisyctl.views import Views

MADE_BY = "noisyctl train-method NAME"
ABOUT = {
    "method": str,
    "size": list,
    "mean": list,
    "std": list,
    "class_names": list,
}  # of networks that label images
Label = Callable[[Any, list[str]], Iterator[list[str]]]


def predict(run: Path, root: Path, out: Path, session: Session) -> dict[str, Any]:
    """Label every image below the folder `root` with the networks of a run, and write predictions.csv to `out`.

    A row is path, label, probability; unreadable files are listed with an empty label. Images are decoded, labeled and
    written in blocks: a folder of any size takes the memory of one batch. Gives how many images were labeled and how many
    were set aside. Raises ArtifactError where the run has no networks for images.
    """
    label, header = _labeler(run, session)
    kind: Literal["gray", "rgb"] = "gray" if len(header["mean"]) == 1 else "rgb"
    aside: list[Quarantined] = []
    blocks = read_blocks(root, max(header["size"]), kind, inference.BATCH, aside)
    report, count = session.progress("predict", "images"), 0
    form = files.Text((",".join(csv_files.PREDICTIONS),))
    with files.publish(out, form) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv_files.write(file, [csv_files.PREDICTIONS])
        for images, ids, share in blocks:
            csv_files.write(file, label(images, ids))
            count += len(ids)
            report(count + len(aside), round((count + len(aside)) / share))
        quarantine = sorted(aside, key=lambda item: item.path)
        csv_files.write(file, ([item.path, "", ""] for item in quarantine))
    return {"images": count, "quarantined": len(aside)}


def _labeler(run: Path, session: Session) -> tuple[Label, dict[str, Any]]:
    """What gives the rows of a block of images, and the header of the run's networks."""
    device = session.start()
    networks, header = read_run(run, MADE_BY)
    if not networks:
        raise ArtifactError(
            f"{run}: {header['method']} trains no network, so it cannot label images; choose another run"
        )
    _check(header, run)
    method = warmup if header["method"] == "warmup" else methods.load(header["method"])
    state = SimpleNamespace(**{name: network.to(device) for name, network in networks.items()})
    views, names = Views(header["views"], header["mean"], header["std"]), header["class_names"]

    def label(images: Any, ids: list[str]) -> Iterator[list[str]]:
        block = torch.as_tensor(images).to(device)
        with inference.evaluating(*networks.values()):
            logits = inference.outputs(lambda x: method.predict(state, x), block, views.plain)
        best = logits.float().softmax(dim=1).max(dim=1)
        for path, place, probability in zip(ids, best.indices.tolist(), best.values.tolist(), strict=True):
            yield [path, names[place], f"{probability:.6f}"]

    return label, header


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
