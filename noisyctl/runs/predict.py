"""A run's model on images of your own: from a folder of images to predictions.csv."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from noisyctl import embedding, methods
from noisyctl.artifacts import csv_files, files
from noisyctl.datasets import Quarantined
from noisyctl.datasets.folder import read_blocks
from noisyctl.errors import ArtifactError
from noisyctl.nn import inference
from noisyctl.runs.headers import Preprocessing, RunHeader
from noisyctl.runs.reading import read_label_free, read_run
from noisyctl.runs.samples import VECTORS, views_of
from noisyctl.session import Session
from noisyctl.training import warmup
from noisyctl.views import ImageViews

MADE_BY = "noisyctl train-method NAME"
PRETRAIN = "noisyctl pretrain-simclr` or `noisyctl pretrain-moco"


@dataclass(frozen=True)
class Intake:
    """How images from files come to the networks: their side in pixels, their channels, and what is done to a block.

    `seen` makes of a block of images [b h w ch] what the views take: the images themselves, or their vectors. `encoder` is
    what makes vectors, a network and a function of a few images; None where the networks see images.
    """

    size: int
    channels: int
    seen: Callable[[Tensor], Tensor]
    encoder: tuple[nn.Module, Callable[[Tensor], Tensor]] | None = None


def predict(
    run: Path, root: Path, out: Path, session: Session, *, weights: Path | None = None
) -> dict[str, Any]:
    """Label every image below the folder `root` with the networks of a run, and write predictions.csv to `out`.

    A row is path, label, probability; unreadable files are listed with an empty label. Images are decoded, labeled and
    written in blocks: a folder of any size takes the memory of one batch. For a run on vectors each image is first embedded
    by the encoder that made them; `weights` is the file of its weights, where they came from one. Gives how many images were
    labeled, how many of each label, the most frequent first, and how many were set aside. Raises ArtifactError where the run
    has no networks for images.
    """
    device = session.start()
    networks, header, how = read_model(run)
    intake = intake_of(run, how, device, session, weights)
    kind: Literal["gray", "rgb"] = "gray" if intake.channels == 1 else "rgb"
    aside: list[Quarantined] = []
    blocks = read_blocks(root, intake.size, kind, inference.BATCH, aside)
    report, count, labels = session.progress("predict", "images"), 0, Counter[str]()
    form = files.Text((",".join(csv_files.PREDICTIONS),))
    label = _labeler(networks, header.method, how, intake, device)
    with files.publish(out, form) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv_files.write(file, [csv_files.PREDICTIONS])
        for images, ids, share in blocks:
            rows = list(label(images, ids))
            csv_files.write(file, rows)
            labels.update(name for _, name, _ in rows)
            count += len(ids)
            report(count + len(aside), round((count + len(aside)) / share))
        quarantine = sorted(aside, key=lambda item: item.path)
        csv_files.write(file, ([item.path, "", ""] for item in quarantine))
    return {"images": count, "quarantined": len(aside), "labels": dict(labels.most_common())}


def read_model(run: Path) -> tuple[dict[str, Any], RunHeader, Preprocessing]:
    """The networks of a run, and how images are brought to them. Raises ArtifactError where it cannot label images."""
    networks, header = read_run(run, MADE_BY)
    if not networks:
        raise ArtifactError(
            f"{run}: {header.method} trains no network, so it cannot label images; choose another run"
        )
    return networks, header, _preprocessing(header, run)


def _labeler(
    networks: dict[str, Any], name: str, how: Preprocessing, intake: Intake, device: torch.device
) -> Callable[[Any, list[str]], Iterator[list[str]]]:
    """What gives the rows of a block of images."""
    method = warmup if name == "warmup" else methods.load(name)
    state = SimpleNamespace(**{name: network.to(device) for name, network in networks.items()})
    views, names = views_of(how.views, how.mean, how.std), how.class_names

    def label(images: Any, ids: list[str]) -> Iterator[list[str]]:
        block = intake.seen(torch.as_tensor(images).to(device))
        with inference.evaluating(*networks.values()):
            logits = inference.outputs(lambda x: method.predict(state, x), block, views.plain)
        best = logits.float().softmax(dim=1).max(dim=1)
        for path, place, probability in zip(ids, best.indices.tolist(), best.values.tolist(), strict=True):
            yield [path, names[place], f"{probability:.6f}"]

    return label


def intake_of(
    run: Path, how: Preprocessing, device: torch.device, session: Session, weights: Path | None
) -> Intake:
    """How images come to a run's networks. Raises ArtifactError where the encoder of its vectors is not at hand."""
    size, about = max(how.size), how.encoder
    if about is None:
        return Intake(size, len(how.mean), lambda images: images)
    if "weights" not in about:
        network, embed_few = _trained_here(run, about, device)

        def seen(images: Tensor) -> Tensor:
            with inference.evaluating(network):
                return torch.cat([embed_few(block) for block in images.split(inference.BATCH)])

        return Intake(size, about["channels"], seen, (network, embed_few))
    encoder = embedding.load(about["encoder"], weights, image_size=about["image_size"])
    if encoder.weights != about["weights"]:
        raise ArtifactError(
            f"{run} was trained on vectors by {about['encoder']} with the weights {about['weights']}, and these are "
            f"{encoder.weights}; give the file of those weights to --weights, or install that version of the package"
        )
    autocast = torch.bfloat16 if session.precision_on(device) == "bfloat16" else None

    def embed(images: Tensor) -> Tensor:
        found = embedding.features_of(encoder, images, device, autocast=autocast)
        return torch.cat(list(found)).to(device)

    few = (encoder.network, lambda images: encoder.network(encoder.prepared(images)).flatten(1))
    return Intake(encoder.resize if about["from_files"] else size, about["channels"], embed, few)


def _trained_here(
    run: Path, about: Mapping[str, Any], device: torch.device
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The encoder that `pretrain-*` trained, in whose folder the run lies, and what makes vectors of images with it."""
    place = run.absolute().parents[2] / "encoder.safetensors"
    found = read_label_free(place, "encoder", PRETRAIN) if place.exists() else None
    if found is None or found[1].digest != about["digest"]:
        raise ArtifactError(
            f"{run} was trained on vectors, and the encoder that made them is not {place}; put it there, or make it again "
            f"with `{PRETRAIN}`"
        )
    encoder = found[0].to(device)
    plain = ImageViews(about["views"], about["mean"], about["std"]).plain
    return encoder, lambda images: encoder.features(plain(images))


def _preprocessing(header: RunHeader, run: Path) -> Preprocessing:
    """How images are brought to the networks of a run. Raises ArtifactError where its file does not say that."""
    how = header.preprocessing
    if how is None or (how.views == VECTORS and how.encoder is None):
        what = "how images are brought to the networks" if how is None else "its encoder"
        raise ArtifactError(
            f"{run}: networks.safetensors does not say {what}, so it cannot label images; make the run again with "
            f"`{MADE_BY}` where its images are at hand"
        )
    return how
