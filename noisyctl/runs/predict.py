"""A run's model on images of your own, or on vectors: from a folder or an .npy file to predictions.csv."""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisyctl import embedding, methods
from noisyctl.artifacts import csv_files, files
from noisyctl.datasets import Quarantined
from noisyctl.datasets.features import read_features
from noisyctl.datasets.folder import existing_folder, reasons_of
from noisyctl.errors import ArtifactError, DataError
from noisyctl.images import find, read
from noisyctl.nn import inference
from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.runs.file_parts import SomeFiles, digest_of, parts_of
from noisyctl.runs.headers import Preprocessing, RunHeader
from noisyctl.runs.reading import read_label_free, read_run
from noisyctl.runs.samples import VECTORS, views_of
from noisyctl.runs.workers import Make, Tell, Work, workers_of
from noisyctl.session import Session
from noisyctl.training import warmup
from noisyctl.training.scratch import hold
from noisyctl.views import ImageViews

PREDICTIONS = files.Text((",".join(csv_files.PREDICTIONS),))
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

    A row is path, label, probability; unreadable files are listed with an empty label. Images are decoded and labeled in
    blocks: a folder of any size takes the memory of one, and a command that was stopped goes on after the last one that was
    finished, as long as no file has changed. For a run on vectors each image is first embedded by the encoder that made
    them; `weights` is the file of its weights, where they came from one. Gives how many images were labeled, how many of
    each label, the most frequent first, and how many were set aside. Raises ArtifactError where the run has no networks for
    images.
    """
    device = session.start()
    networks, header, how = read_model(run)
    intake = intake_of(run, how, device, session, weights)
    label = _labeler(networks, header.method, how, intake, device)
    paths, unusable = find(existing_folder(str(root)))
    parts = parts_of(root, paths, inference.BATCH)
    asked = {
        "networks": header.digest,
        "files": digest_of(parts),
        "size": intake.size,
        "weights": "" if weights is None else str(weights),
    }
    with workers_of(session, "predict") as workers:
        numerics = workers.numerics(session.precision)
        of_worker = (run, header.digest, weights, replace(workers.session(), precision=numerics["precision"]))
        seen = (run, root, *([weights] if weights else []))
        work = Work(open_labeler, of_worker, seen, True, functools.partial(_labeled, intake, label))
        with hold(session.scratch, "predict", asked | numerics, out) as scratch:
            blocks, report = Blocks(scratch, "images"), session.progress("predict", "images", kept=True)
            for _ in workers.finished(work, blocks, parts, report):
                pass  # each is kept, and is read again in order
            answers = ((part.paths, blocks.read(number) or {}) for number, part in enumerate(parts))
            return _write(out, root, answers, how.class_names, unusable)


def open_labeler(run: Path, digest: str, weights: Path | None, session: Session) -> Make:
    """What labels some files. Raises ArtifactError where the run is no longer that of this digest."""
    device = session.start()
    networks, header, how = read_model(run)
    if header.digest != digest:
        raise ArtifactError(f"{run} is not the run that the command began with; run it again")
    intake = intake_of(run, how, device, session, weights)
    return functools.partial(_labeled, intake, _labeler(networks, header.method, how, intake, device))


def _labeled(intake: Intake, label: Any, part: SomeFiles, tell: Tell) -> Tensors:
    """Which of some files can be read, their classes and probabilities, and why the others cannot be read."""
    pixels = read(part.root, part.paths, intake.size, gray=intake.channels == 1)
    reasons = json.dumps([file.reason for file in pixels.quarantine]).encode()
    found = label(pixels.images) if len(pixels.images) else _NOTHING
    return {
        "readable": torch.from_numpy(pixels.readable),
        "classes": found[0].cpu(),
        "probability": found[1].cpu(),
        "reasons": torch.tensor(list(reasons), dtype=torch.uint8),
    }


_NOTHING = torch.empty(0, dtype=torch.int64), torch.empty(0)  # the classes and probabilities of no image


def _write(
    out: Path,
    root: Path,
    answers: Iterator[tuple[Sequence[str], Tensors]],
    names: Sequence[str],
    unusable: Sequence[Quarantined],
) -> dict[str, Any]:
    """Write the answers on blocks of files, and then the files that could not be read; give the counts."""
    aside, count, labels = list(unusable), 0, Counter[str]()
    with (
        files.publish(out, PREDICTIONS) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        csv_files.write(file, [csv_files.PREDICTIONS])
        for part, found in answers:
            readable, reasons = found["readable"].tolist(), json.loads(bytes(found["reasons"].tolist()))
            unread = [path for path, good in zip(part, readable, strict=True) if not good]
            aside += [Quarantined(path, reason) for path, reason in zip(unread, reasons, strict=True)]
            rows = _rows(itertools.compress(part, readable), found["classes"], found["probability"], names)
            csv_files.write(file, rows)
            labels.update(name for _, name, _ in rows)
            count += len(rows)
        aside.sort(key=lambda item: item.path)
        if not count:
            raise DataError(f"{root} has no readable image{reasons_of(aside)}; is --root right?")
        csv_files.write(file, ([item.path, "", ""] for item in aside))
    return {"images": count, "quarantined": len(aside), "labels": dict(labels.most_common())}


def _rows(
    paths: Iterable[str], classes: Tensor, probability: Tensor, names: Sequence[str]
) -> list[tuple[str, str, str]]:
    found = zip(paths, classes.tolist(), probability.tolist(), strict=True)
    return [(path, names[place], f"{share:.6f}") for path, place, share in found]


def predict_vectors(run: Path, array: Path, out: Path, session: Session) -> dict[str, Any]:
    """Label every row of the .npy file `array` with the networks of a run on vectors, and write predictions.csv to `out`.

    A row is the number of the vector from 0 on, label, probability. Gives how many were labeled, and how many of each label.
    Raises ArtifactError where the run is not on vectors, DataError where the vectors are not such as it was trained on.
    """
    device = session.start()
    networks, header = read_run(run, MADE_BY)
    how = header.preprocessing
    if not networks or how is None or how.views != VECTORS:
        raise ArtifactError(
            f"{run} does not label vectors; give a run on vectors, or --root with a folder of images"
        )
    vectors, _ = read_features(array)
    if vectors.shape[1] != len(how.mean):
        raise DataError(
            f"{array} has {vectors.shape[1]} columns, {run} was trained on vectors of {len(how.mean)}"
        )
    label = _labeler(networks, header.method, how, Intake(1, len(how.mean), lambda block: block), device)
    report, labels = session.progress("predict", "vectors"), Counter[str]()
    with (
        files.publish(out, PREDICTIONS) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        csv_files.write(file, [csv_files.PREDICTIONS])
        for start in range(0, len(vectors), inference.BATCH):
            block = np.array(vectors[start : start + inference.BATCH])
            numbers = map(str, range(start, start + len(block)))
            rows = _rows(numbers, *label(block), how.class_names)
            csv_files.write(file, rows)
            labels.update(name for _, name, _ in rows)
            report(start + len(block), len(vectors))
    return {"vectors": len(vectors), "labels": dict(labels.most_common())}


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
) -> Callable[[Any], tuple[Tensor, Tensor]]:
    """What gives the class of each image of a block, and its probability."""
    method = warmup if name == "warmup" else methods.load(name)
    placed = {name: network.to(device) for name, network in networks.items()}
    state = inference.state_of(method.predict, placed)
    views = views_of(how.views, how.mean, how.std)

    def label(images: Any) -> tuple[Tensor, Tensor]:
        block = intake.seen(torch.as_tensor(images).to(device))
        with inference.evaluating(*networks.values()):
            logits = inference.outputs(lambda x: method.predict(state, x), block, views.plain)
        best = logits.float().softmax(dim=1).max(dim=1)
        return best.indices, best.values

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
        if how is not None:
            what += " (a run on vectors of your own labels vectors: --features NEW.npy)"
        raise ArtifactError(
            f"{run}: networks.safetensors does not say {what}, so it cannot label images; make the run again with "
            f"`{MADE_BY}` where its images are at hand"
        )
    return how
