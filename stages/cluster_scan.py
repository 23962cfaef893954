"""Sort images into clusters without labels (SCAN): where ScanMix's code starts its networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage, inside
from noisyctl.errors import ParamsError
from noisyctl.session import Session

ENCODER_BY = "noisyctl pretrain-simclr` or `noisyctl pretrain-moco"


@dataclass(frozen=True)
class Inputs:
    """`num_classes` is the number of clusters where the params give none."""

    images: Path
    encoder: Path
    neighbors: Path
    out: Path
    num_classes: int | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write clusters.safetensors: the encoder's backbone, trained on, with a head of one output a cluster."""
    import torch

    from noisyctl.artifacts import networks, store
    from noisyctl.artifacts.kinds import NEIGHBORS
    from noisyctl.nn.networks import build
    from noisyctl.pretraining import scan
    from noisyctl.runs import fresh, training
    from noisyctl.seeds import stream
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold

    device = session.start()
    made = fresh.label_free(inputs.images, inputs.encoder.parent, encoder=inputs.encoder)
    fresh.require([made["encoder"], fresh.mined(inputs.images, inputs.neighbors)])
    images = training.read_images(inputs.images)
    encoder, digest = _read_encoder(inputs.encoder, images.digest)
    mined = store.read(inputs.neighbors, NEIGHBORS)
    store.require_input(mined, "images", images.digest, inputs.images)
    clusters = params.num_clusters or inputs.num_classes
    if clusters is None:
        raise ParamsError(
            f"no number of clusters: neither labels.zarr nor truth.zarr lies beside {inputs.images}; "
            "give --num-clusters, as many as there are classes"
        )
    neighbors = torch.as_tensor(mined.array("indices")).long().to(device)
    task, _ = training.make_task(images, device, num_classes=clusters, neighbors=neighbors)
    spec = encoder.spec | {"num_outputs": clusters, "head": "linear"}
    network = build(spec, stream(session.seed, "cluster-scan", "init"))
    network.features.load_state_dict(encoder.features.state_dict())
    made_from = {"images": images.digest, "encoder": digest, "neighbors": mined.digest}
    recorded = params.model_dump() | {"num_clusters": clusters, "seed": session.seed}
    recorded["threads"] = torch.get_num_threads()
    facts = {"params": recorded, "inputs": made_from, **session.numerics(device)}
    with hold(session.scratch, "cluster-scan", facts, inputs.out) as scratch:
        fitted = fit(
            scan,
            [network.to(device)],
            task,
            params,
            name="cluster-scan",
            epochs=params.epochs,
            seed=session.seed,
            scratch=scratch,
            report=session.report("cluster-scan"),
            precision=session.precision_on(device),
        )
        tensors, modules = training.network_tensors(fitted.state)
        header = {"kind": "clusters", "modules": modules, "params": recorded, "inputs": made_from}
        header["hardware"] = session.hardware(device)
        networks.write(inputs.out / "clusters.safetensors", tensors, header)
    sizes = torch.as_tensor(fitted.arrays["train_probabilities"]).argmax(dim=1).bincount(minlength=clusters)
    used = {"clusters": clusters, "smallest": int(sizes.min()), "largest": int(sizes.max())}
    return {"epochs": params.epochs, **used, "out": str(inputs.out)}


def _read_encoder(path: Path, images: str) -> tuple[Any, str]:
    """The encoder and its digest. Raises ArtifactError where it is another network, or of other images."""
    from noisyctl.errors import ArtifactError
    from noisyctl.runs import training

    built, header = training.read_networks(path, ENCODER_BY)
    if header["kind"] != "encoder":
        raise ArtifactError(f"{path} holds {header['kind']}, not an encoder; make one with `{ENCODER_BY}`")
    training.require_images(header, images, path, ENCODER_BY)
    return built["network"], str(header["digest"])


def _num_classes(images: Path) -> int | None:
    """How many classes are named beside the images. Which sample is in which is not read."""
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import LABELS, TRUTH

    for kind in (TRUTH, LABELS):
        path = images.with_name(f"{kind.name}.zarr")
        if path.exists():
            return len(store.read(path, kind).attributes["class_names"])
    return None


STAGE = Stage(
    name="cluster-scan",
    summary="Sort images into clusters without labels (SCAN).",
    example="noisyctl cluster-scan --epochs 50",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["images"],
        given["encoder"],
        given["neighbors"],
        given["out"],
        None if extra["params"].num_clusters else _num_classes(given["images"]),
    ),
    options=(
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option(
            "encoder",
            "encoder.safetensors to start from",
            lambda layout: layout.encoder / "encoder.safetensors",
        ),
        Option("neighbors", "neighbors.zarr", lambda layout: layout.encoder / "neighbors.zarr"),
        Option(
            "out", "folder to write", lambda layout: layout.encoder, writes=inside("clusters.safetensors")
        ),
    ),
    params=lambda file, layout, given: ("scan", "noisyctl.pretraining.scan"),
    fields=("noisyctl.pretraining.scan",),
)
