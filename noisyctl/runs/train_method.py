"""One method on noisy labels: from images, labels and what the method needs to its run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import NEIGHBORS
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.params import Needs
from noisyctl.runs import fresh, needed
from noisyctl.runs.headers import RunHeader
from noisyctl.runs.needed import Sources
from noisyctl.runs.reading import (
    read_label_free,
    read_labels,
    read_run,
    read_verified,
    require_images,
)
from noisyctl.runs.samples import Samples, ids_of, read_samples
from noisyctl.runs.tasks import hold_out, make_task
from noisyctl.runs.train import Training, preprocessing_of, publish_run, train_and_publish
from noisyctl.session import Session


@dataclass(eq=False)
class _Start:
    """What a run starts from: what the Task is made of, the networks, and the digests of where they come from."""

    samples: Samples | None
    labels: store.Artifact
    device: torch.device
    made_from: dict[str, str]
    known: dict[str, Any] = field(default_factory=dict)
    networks: list[nn.Module] = field(default_factory=list)


def train(
    name: str,
    sources: Sources,
    out: Path,
    params: Any,
    session: Session,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train the method `name` and write networks.safetensors and trace.zarr to the folder `out`.

    `note` is told what the method says of its params, if anything. Gives the method and its epochs. Raises ArtifactError
    that names the command to run first where something that the method needs is missing, stale or of other images.
    """
    device = session.start()
    present, method = methods.present_name(name), methods.load(name)
    needs = method.NEEDS.under(params.model_dump())
    if hasattr(method, "notice") and method.notice(params):
        note(f"note: {method.notice(params)}")
    start = _read(name, sources, needs, params, session, device)
    task, held_out = make_task(start.samples, device, **start.known)
    training = Training(
        f"train-method-{present}",
        method,
        start.networks,
        task,
        params,
        inputs=start.made_from,
        held_out=held_out,
        shown_as=present,
    )
    labels, samples = start.labels, start.samples
    preprocessing = preprocessing_of(samples, labels.attributes["class_names"]) if samples else None
    header = RunHeader(present, params.epochs, start.made_from, preprocessing)
    ids = ids_of(samples, labels)
    train_and_publish(
        training, out, session, lambda fitted, origin: publish_run(out, header, fitted, origin, ids, labels)
    )
    return {"method": present, "epochs": params.epochs}


def _read(
    name: str,
    sources: Sources,
    needs: Needs,
    params: Any,
    session: Session,
    device: torch.device,
) -> _Start:
    """Read all that the method needs, and refuse what does not belong together."""
    given_labels, *starts = needed.made_from(sources, needs, params.warmup_profile)
    fresh.require([given_labels])
    there = sources.features or (sources.images and (sources.images.exists() or needs.networks))
    samples = read_samples(sources.images, sources.features) if there else None
    labels = read_labels(sources.labels, samples.images if samples else None)
    fresh.require(starts)
    made_from = dict(samples.made_from) if samples else {"images": labels.inputs["images"]}
    store.require_input(
        labels, "images", made_from["images"], sources.features or sources.images or labels.path
    )
    start = _Start(samples, labels, device, made_from | {"labels": labels.digest})
    y = torch.as_tensor(labels.array("noisy_labels")).to(device)
    start.known = {"num_classes": len(labels.attributes["class_names"]), "labels": y}
    if needs.neighbors:
        _take_neighbors(start, name, sources, session)
    if sources.verified is not None:
        if not needs.verified:
            raise ParamsError(f"{name} makes no use of verified labels; leave out --verified")
        start.known["verified"], start.made_from["verified"] = read_verified(
            sources.verified, start.made_from["images"], device
        )
    checked: Tensor | None = start.known["verified"][0] if "verified" in start.known else None
    start.known["held_out"] = hold_out(len(y), params.validation_rate, session.seed, device, checked)
    clusters = _read_clusters(start, name, sources, session) if needs.clusters else []
    if needs.warmup:
        _take_warmup(start, name, sources, needs, params, session)
    start.networks = start.networks[: max(needs.networks, 1)] + clusters
    return start


def _take_neighbors(start: _Start, name: str, sources: Sources, session: Session) -> None:
    if sources.neighbors is None or not sources.neighbors.exists():
        raise ArtifactError(
            f"{name} needs mined neighbors ({sources.neighbors}); run "
            f"`{needed.label_free_commands(sources, 'neighbors', session)}` first"
        )
    mined = store.read(sources.neighbors, NEIGHBORS)
    store.require_input(mined, "images", start.made_from["images"], sources.images or sources.labels)
    start.made_from["neighbors"] = mined.digest
    start.known["neighbors"] = torch.as_tensor(mined.array("indices")).long().to(start.device)
    start.known["similarity"] = torch.as_tensor(mined.array("similarity")).to(start.device)


def _read_clusters(start: _Start, name: str, sources: Sources, session: Session) -> list[nn.Module]:
    """The network of the clusters, alone in a list."""
    if sources.clusters is None or not sources.clusters.exists():
        raise ArtifactError(
            f"{name} needs label-free clusters ({sources.clusters}); run "
            f"`{needed.label_free_commands(sources, 'clusters', session)}` first"
        )
    network, header = read_label_free(sources.clusters, "clusters", "noisyctl cluster-scan")
    require_images(header, start.made_from["images"], sources.clusters, "noisyctl cluster-scan")
    needed.require_same_clusters(name, sources, start.made_from.get("features"), header.inputs, session)
    start.made_from["clusters"] = header.digest
    return [network.to(start.device)]


def _take_warmup(
    start: _Start,
    name: str,
    sources: Sources,
    needs: Needs,
    params: Any,
    session: Session,
) -> None:
    """The networks of the warm-up, refused where they learned other labels or do not start where the method's must."""
    place, profile = sources.warmup, params.warmup_profile
    if place is None or not (place / "networks.safetensors").exists():
        raise ArtifactError(
            f"{name} starts from a warm-up ({place}); run "
            f"`{needed.warmup_command(sources, needs, profile, place, session)}` first"
        )
    built, header = read_run(place, "noisyctl warmup")
    if header.inputs["labels"] != start.labels.digest:
        raise ArtifactError(f"{place} was not warmed up on {sources.labels}; run `noisyctl warmup` again")
    features = start.made_from.get("features")
    needed.require_same_input(name, sources, needs, features, header.inputs, profile, session)
    if needs.pretrained:
        needed.require_pretrained(
            name, sources, needs, header.inputs, start.made_from.get("clusters"), profile, session
        )
    start.made_from["warmup"], start.known["warmup_epochs"] = header.digest, header.epochs
    start.networks = [network.to(start.device) for network in built.values()]
    if len(start.networks) < needs.networks:
        raise ArtifactError(
            f"{name} needs {needs.networks} networks, {place} has {len(start.networks)}; "
            f"run `noisyctl warmup --networks {needs.networks}`"
        )
