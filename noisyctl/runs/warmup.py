"""A warm-up: from images and noisy labels to the networks that methods start from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from noisyctl.artifacts import store
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.nn.networks import Classifier, build
from noisyctl.nn.weights import download_weights, load_weights
from noisyctl.runs import fresh
from noisyctl.runs.headers import RunHeader
from noisyctl.runs.needed import vectors
from noisyctl.runs.reading import first_classifier, read_label_free, read_labels, read_trained, require_images
from noisyctl.runs.samples import Samples, ids_of, images_at_hand, read_samples
from noisyctl.runs.tasks import make_task
from noisyctl.runs.train import Training, preprocessing_of, publish_run, spec, train_and_publish
from noisyctl.seeds import stream
from noisyctl.session import Session
from noisyctl.training import warmup


@dataclass(frozen=True)
class Starts:
    """The places that weights may come from: read is the one that the params' `start` names."""

    encoder: Path | None = None
    clusters: Path | None = None
    run: Path | None = None


def warm_up(
    images_path: Path,
    labels_path: Path,
    out: Path,
    params: warmup.Params,
    session: Session,
    starts: Starts = Starts(),
    features_path: Path | None = None,
) -> dict[str, Any]:
    """Train networks on all noisy labels and write networks.safetensors and trace.zarr to the folder `out`.

    Networks see the images, or the vectors of `features_path` where these are given. Gives the
    numbers of epochs and networks. Raises ArtifactError where an input is stale or of other images.
    """
    device = session.start()
    fresh.require(_made_from(images_path, labels_path, params.start, starts, features_path))
    samples = read_samples(images_path, features_path)
    labels = read_labels(labels_path, samples.images)
    store.require_input(labels, "images", samples.made_from["images"], samples.artifact.path)
    names = labels.attributes["class_names"]
    y = torch.as_tensor(labels.array("noisy_labels")).to(device)
    task, held_out = make_task(samples, device, num_classes=len(names), labels=y)
    about = spec(params, samples, len(names), params.head)
    networks = [
        build(about, stream(session.seed, "warmup", "init", i)).to(device) for i in range(params.networks)
    ]
    made_from = {**samples.made_from, "labels": labels.digest}
    if params.start != "random":
        made_from[params.start] = load_start(starts, networks, params, samples=samples, class_names=names)
    training = Training(
        "warmup",
        warmup,
        networks,
        task,
        params,
        inputs=made_from,
        recorded={"weights": params.weights and Path(params.weights).name},
        held_out=held_out,
    )
    header = RunHeader("warmup", params.epochs, made_from, preprocessing_of(samples, names))
    ids = ids_of(samples, labels)
    train_and_publish(
        training, out, session, lambda fitted, origin: publish_run(out, header, fitted, origin, ids, labels)
    )
    return {"epochs": params.epochs, "networks": params.networks}


def load_start(
    starts: Starts,
    networks: Sequence[Classifier],
    params: warmup.Params,
    *,
    samples: Samples | None,
    class_names: list[str],
) -> str:
    """Give all networks the weights that the params' `start` names, and return the digest of where they come from.

    Raises ArtifactError where these are of other images, classes or networks, ParamsError where none are named.
    """
    on_vectors = samples is not None and "features" in samples.made_from
    if on_vectors and params.start in ("encoder", "weights"):
        raise ParamsError(
            f"the warm-up starts from {params.start}, which are weights for images, and it is to see vectors, which an "
            "encoder has made already; give --start random, or --input images"
        )
    match params.start:
        case "encoder":
            return _load(starts.encoder, "encoder", networks, samples, "noisyctl pretrain-simclr")
        case "clusters":
            return _load(starts.clusters, "clusters", networks, samples, "noisyctl cluster-scan")
        case "weights":
            return _load_weights(params.weights, networks)
        case _:
            return _load_run(starts.run, networks, class_names)


def _made_from(
    given_images: Path, labels: Path, start: str, starts: Starts, features: Path | None
) -> list[Any]:
    """The labels and what the warm-up sees and starts from, and what these were made from."""
    images = images_at_hand(given_images, features)
    made = [fresh.labeled(images, labels)]
    if features is not None:
        return [*made, vectors(images, features)]
    if start == "encoder" and starts.encoder:
        made.append(fresh.label_free(images, starts.encoder.parent, encoder=starts.encoder)["encoder"])
    elif start == "clusters" and starts.clusters:
        made.append(fresh.clustered(images, starts.clusters, None))
    return made


def _load(
    path: Path | None,
    kind: Literal["encoder", "clusters"],
    networks: Sequence[Classifier],
    samples: Any,
    made_by: str,
) -> str:
    """Start all networks from label-free work: the backbone of an encoder, or that and the head of clusters. Its digest."""
    assert path is not None
    network, header = read_label_free(path, kind, made_by)
    require_images(header, samples.made_from["images"], path, made_by)
    if header.inputs.get("features") != samples.made_from.get("features"):
        wants = "vectors" if "features" in samples.made_from else "images"
        raise ArtifactError(f"{path} was not trained on these {wants}; remake it with `{made_by}`")
    _copy(network, networks, path, head=kind == "clusters")
    return header.digest


def _load_run(folder: Path | None, networks: Sequence[Classifier], names: list[str]) -> str:
    """Start all networks from the first one of a run, whose images may have been others. Gives its digest."""
    if folder is None:
        raise ParamsError(
            "the warm-up starts from a run, and none is named; give --run DIR, the folder of a train-method or a warmup"
        )
    path = folder / "networks.safetensors"
    built, header = read_trained(path, "noisyctl train-method NAME")
    if header.preprocessing is None:
        raise ArtifactError(f"{path} does not name its classes, for it saw no images; give a run on images")
    learned = header.preprocessing.class_names
    if learned != names:
        raise ArtifactError(
            f"{path} was trained on the classes {', '.join(learned)}, the labels have {', '.join(names)}; "
            "give a run on the same classes in the same order"
        )
    _copy(first_classifier(built), networks, path, head=True)
    return header.digest


def _copy(found: Any, networks: Sequence[Classifier], path: Path, *, head: bool) -> None:
    """Give all networks the weights of one. Raises ArtifactError where they are of another build."""
    for network in networks:
        try:
            network.features.load_state_dict(found.features.state_dict())
            if head:
                network.head.load_state_dict(found.head.state_dict())
        except RuntimeError as error:
            had, wants = found.spec, network.spec
            raise ArtifactError(
                f"{path} holds {had.backbone} of width {had.width} with {had.num_outputs} outputs, the warm-up "
                f"builds {wants.backbone} of width {wants.width} with {wants.num_outputs}; give both the same"
            ) from error


def _load_weights(weights: str | None, networks: Sequence[Classifier]) -> str:
    """Start all networks from ImageNet weights, and give the digest of the file, or `download`."""
    if weights is None:
        raise ParamsError(
            "the warm-up starts from weights, and none are named; give --weights FILE or --weights download"
        )
    for network in networks:
        if weights == "download":
            download_weights(network)
        else:
            load_weights(network, Path(weights).expanduser())
    if weights == "download":
        return weights
    return hashlib.sha256(Path(weights).expanduser().read_bytes()).hexdigest()
