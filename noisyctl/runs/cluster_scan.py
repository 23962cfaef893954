"""Clusters without labels (SCAN): from images or vectors and neighbors to where ScanMix's code starts its networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import LABELS, NEIGHBORS, TRUTH
from noisyctl.errors import ParamsError
from noisyctl.nn.networks import Classifier, build
from noisyctl.pretraining import scan
from noisyctl.runs import fresh
from noisyctl.runs.reading import read_label_free, require_images
from noisyctl.runs.samples import Samples, images_at_hand, read_samples
from noisyctl.runs.tasks import make_task
from noisyctl.runs.train import Training, publish_label_free, spec, train_and_publish
from noisyctl.seeds import stream
from noisyctl.session import Session

ENCODER_BY = "noisyctl pretrain-simclr` or `noisyctl pretrain-moco"


def cluster(
    images_path: Path,
    encoder_path: Path,
    neighbors_path: Path,
    out: Path,
    params: scan.Params,
    session: Session,
    *,
    num_classes: int | None = None,
    features_path: Path | None = None,
) -> dict[str, Any]:
    """Write clusters.safetensors to the folder `out`: the encoder's backbone, trained on, with one output per cluster.

    With `features_path` the network sees these vectors, and starts from random weights: the params name its backbone.
    `num_classes` is the number of clusters where the params give none. Gives the epochs and the sizes of the clusters.
    """
    device = session.start()
    at_hand = images_at_hand(images_path, features_path)
    made = fresh.label_free(at_hand, encoder_path.parent, encoder=encoder_path, features=features_path)
    seen = made["encoder" if features_path is None else "features"]
    fresh.require([seen, fresh.mined(at_hand, neighbors_path)])
    samples = read_samples(images_path, features_path)
    mined = store.read(neighbors_path, NEIGHBORS)
    store.require_input(mined, "images", samples.made_from["images"], samples.artifact.path)
    encoder = _read_encoder(encoder_path, samples.made_from["images"]) if features_path is None else None
    clusters = params.num_clusters or num_classes
    if clusters is None:
        raise ParamsError(
            f"no number of clusters: neither labels.zarr nor truth.zarr lies beside {images_path}; "
            "give --num-clusters, as many as there are classes"
        )
    neighbors = torch.as_tensor(mined.array("indices")).long().to(device)
    task, _ = make_task(samples, device, num_classes=clusters, neighbors=neighbors)
    network, made_from = _start(samples, encoder, clusters, params, session)
    training = Training(
        "cluster-scan",
        scan,
        [network.to(device)],
        task,
        params,
        inputs=made_from | {"neighbors": mined.digest},
        recorded={"num_clusters": clusters},
    )
    place = out / "clusters.safetensors"
    fitted = train_and_publish(
        training,
        out,
        session,
        lambda fitted, origin: publish_label_free(place, "clusters", fitted.state.network, origin),
    )
    sizes = torch.as_tensor(fitted.arrays["train_probabilities"]).argmax(dim=1).bincount(minlength=clusters)
    used = {"clusters": clusters, "smallest": int(sizes.min()), "largest": int(sizes.max())}
    return {"epochs": params.epochs, **used}


def _start(
    samples: Samples, encoder: tuple[Any, str] | None, clusters: int, params: scan.Params, session: Session
) -> tuple[Classifier, dict[str, str]]:
    """The network before the first epoch, and the digests of what it sees and starts from."""
    made_from, rng = dict(samples.made_from), stream(session.seed, "cluster-scan", "init")
    if encoder is None:
        return build(spec(params, samples, clusters, "linear"), rng), made_from
    trained, made_from["encoder"] = encoder
    network = build(replace(trained.spec, num_outputs=clusters, head="linear"), rng)
    network.features.load_state_dict(trained.features.state_dict())
    return network, made_from


def count_classes(images_path: Path) -> int | None:
    """How many classes are named beside the images; None where none are. Which sample is in which class is not read."""
    for kind in (TRUTH, LABELS):
        path = images_path.with_name(f"{kind.name}.zarr")
        if path.exists():
            return len(store.read(path, kind).attributes["class_names"])
    return None


def _read_encoder(path: Path, images: str) -> tuple[Any, str]:
    """The encoder and its digest. Raises ArtifactError where it is another network, or of other images."""
    network, header = read_label_free(path, "encoder", ENCODER_BY)
    require_images(header, images, path, ENCODER_BY)
    return network, header.digest
