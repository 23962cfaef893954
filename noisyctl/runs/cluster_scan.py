"""Clusters without labels (SCAN): from images, an encoder and neighbors to where ScanMix's code starts its networks."""

from pathlib import Path
from typing import Any

import torch

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import LABELS, NEIGHBORS, TRUTH
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.nn.networks import build
from noisyctl.pretraining import scan
from noisyctl.runs import fresh
from noisyctl.runs.reading import read_images, read_networks, require_images
from noisyctl.runs.tasks import make_task
from noisyctl.runs.training import Training, publish_label_free, train_and_publish
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
) -> dict[str, Any]:
    """Write clusters.safetensors to the folder `out`: the encoder's backbone, trained on, with one output per cluster.

    `num_classes` is the number of clusters where the params give none. Gives the epochs and the sizes of the clusters.
    """
    device = session.start()
    made = fresh.label_free(images_path, encoder_path.parent, encoder=encoder_path)
    fresh.require([made["encoder"], fresh.mined(images_path, neighbors_path)])
    images = read_images(images_path)
    encoder, digest = _read_encoder(encoder_path, images.digest)
    mined = store.read(neighbors_path, NEIGHBORS)
    store.require_input(mined, "images", images.digest, images_path)
    clusters = params.num_clusters or num_classes
    if clusters is None:
        raise ParamsError(
            f"no number of clusters: neither labels.zarr nor truth.zarr lies beside {images_path}; "
            "give --num-clusters, as many as there are classes"
        )
    neighbors = torch.as_tensor(mined.array("indices")).long().to(device)
    task, _ = make_task(images, device, num_classes=clusters, neighbors=neighbors)
    about = encoder.spec | {"num_outputs": clusters, "head": "linear"}
    network = build(about, stream(session.seed, "cluster-scan", "init"))
    network.features.load_state_dict(encoder.features.state_dict())
    training = Training(
        "cluster-scan",
        scan,
        [network.to(device)],
        task,
        params,
        inputs={"images": images.digest, "encoder": digest, "neighbors": mined.digest},
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


def count_classes(images_path: Path) -> int | None:
    """How many classes are named beside the images; None where none are. Which sample is in which class is not read."""
    for kind in (TRUTH, LABELS):
        path = images_path.with_name(f"{kind.name}.zarr")
        if path.exists():
            return len(store.read(path, kind).attributes["class_names"])
    return None


def _read_encoder(path: Path, images: str) -> tuple[Any, str]:
    """The encoder and its digest. Raises ArtifactError where it is another network, or of other images."""
    built, header = read_networks(path, ENCODER_BY)
    if header["kind"] != "encoder":
        raise ArtifactError(f"{path} holds {header['kind']}, not an encoder; make one with `{ENCODER_BY}`")
    require_images(header, images, path, ENCODER_BY)
    return built["network"], str(header["digest"])
