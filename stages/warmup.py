"""Train networks on all noisy labels for a few epochs: what methods start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import RUN, Option, Stage, block_of
from noisyctl.session import Session

PROFILES: dict[
    str, dict[str, Any]
] = {  # there without a block of `warmups:`; a block of that name changes values
    "default": {},
    "clustered": {"start": "clusters", "train": "head", "views": "strong"},  # ScanMix's code
    "pretrained": {"start": "encoder"},  # ScanMix 3.2
}


@dataclass(frozen=True)
class Inputs:
    images: Path
    labels: Path
    out: Path
    encoder: Path | None = None
    clusters: Path | None = None
    run: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one warm-up profile."""
    import torch

    from noisyctl.nn.networks import build
    from noisyctl.runs import fresh, training
    from noisyctl.seeds import stream
    from noisyctl.training import warmup
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold

    device = session.start()
    fresh.require(_made_from(inputs, params.start))
    images = training.read_images(inputs.images)
    labels = training.read_labels(inputs.labels, images)
    names = labels.attributes["class_names"]
    y = torch.as_tensor(labels.array("noisy_labels")).to(device)
    task, held_out = training.make_task(images, device, num_classes=len(names), labels=y)
    spec = training.spec(params, images, len(names), params.head)
    networks = [
        build(spec, stream(session.seed, "warmup", "init", i)).to(device) for i in range(params.networks)
    ]
    made_from = {"images": images.digest, "labels": labels.digest}
    if params.start == "encoder":
        made_from["encoder"] = _load(inputs.encoder, networks, images, "noisyctl pretrain-simclr", head=False)
    elif params.start == "clusters":
        made_from["clusters"] = _load(inputs.clusters, networks, images, "noisyctl cluster-scan", head=True)
    elif params.start == "weights":
        made_from["weights"] = _load_weights(params.weights, networks)
    elif params.start == "run":
        made_from["run"] = _load_run(inputs.run, networks, names)
    recorded = params.model_dump() | {"weights": params.weights and Path(params.weights).name}
    recorded |= {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {"params": recorded, "inputs": made_from, **session.numerics(device)}
    with hold(session.scratch, "warmup", facts, inputs.out) as scratch:
        fitted = fit(
            warmup,
            networks,
            task,
            params,
            name="warmup",
            epochs=params.epochs,
            seed=session.seed,
            scratch=scratch,
            held_out=held_out,
            report=session.report("warmup"),
            precision=session.precision_on(device),
        )
        arrays = fitted.arrays | {
            "train_id": images.array("train_id"),
            "noisy_labels": labels.array("noisy_labels"),
        }
        about = {"params": recorded, "inputs": made_from, "method": "warmup", "class_names": names}
        about["hardware"] = session.hardware(device)
        header = {
            "kind": "networks",
            "method": "warmup",
            "epochs": params.epochs,
            "inputs": made_from,
            **training.preprocessing(images, names),
        }
        training.publish_run(inputs.out, arrays, fitted.state, about, header)
    return {"epochs": params.epochs, "networks": params.networks, "out": str(inputs.out)}


def _made_from(inputs: Inputs, start: str) -> list[Any]:
    """The labels and what the warm-up starts from, and what these were made from."""
    from noisyctl.runs import fresh

    made = [fresh.labeled(inputs.images, inputs.labels)]
    if start == "encoder" and inputs.encoder:
        encoder = fresh.label_free(inputs.images, inputs.encoder.parent, encoder=inputs.encoder)["encoder"]
        made.append(encoder)
    elif start == "clusters" and inputs.clusters:
        made.append(fresh.clustered(inputs.images, inputs.clusters, None))
    return made


def _load(path: Path | None, networks: list[Any], images: Any, made_by: str, *, head: bool) -> str:
    """Start all networks from the weights of label-free work: its backbone, or its head too. Gives its digest."""
    from noisyctl.runs import training

    assert path is not None
    built, header = training.read_networks(path, made_by)
    training.require_images(header, images.digest, path, made_by)
    _copy(built["network"], networks, path, head=head)
    return str(header["digest"])


def _load_run(folder: Path | None, networks: list[Any], names: list[str]) -> str:
    """Start all networks from the first one of a run, whose images may have been others. Gives its digest."""
    from noisyctl.errors import ArtifactError, ParamsError
    from noisyctl.runs import training

    if folder is None:
        raise ParamsError(
            "the warm-up starts from a run, and none is named; give --run DIR, the folder of a train-method or a warmup"
        )
    path = folder / "networks.safetensors"
    built, header = training.read_networks(path, "noisyctl train-method NAME")
    if header["class_names"] != names:
        raise ArtifactError(
            f"{path} was trained on the classes {', '.join(header['class_names'])}, the labels have {', '.join(names)}; "
            "give a run on the same classes in the same order"
        )
    _copy(built[min(built)], networks, path, head=True)
    return str(header["digest"])


def _copy(found: Any, networks: list[Any], path: Path, *, head: bool) -> None:
    """Give all networks the weights of one. Raises ArtifactError where they are of another build."""
    from noisyctl.errors import ArtifactError

    for network in networks:
        try:
            network.features.load_state_dict(found.features.state_dict())
            if head:
                network.head.load_state_dict(found.head.state_dict())
        except RuntimeError as error:
            had, wants = found.spec, network.spec
            raise ArtifactError(
                f"{path} holds {had['backbone']} of width {had['width']} with {had['num_outputs']} outputs, the warm-up "
                f"builds {wants['backbone']} of width {wants['width']} with {wants['num_outputs']}; give both the same"
            ) from error


def _load_weights(weights: str | None, networks: list[Any]) -> str:
    """Start all networks from ImageNet weights, and give the digest of the file, or `download`."""
    import hashlib

    from noisyctl.errors import ParamsError
    from noisyctl.nn.weights import download_weights, load_weights

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


STAGE = Stage(
    name="warmup",
    summary="Train networks on all noisy labels for a few epochs.",
    example="noisyctl warmup --profile default",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["images"],
        given["labels"],
        given["out"] or layout.warmup(given["profile"]),
        given["encoder"],
        given["clusters"],
        given["run"],
    ),
    options=(
        Option(
            "profile",
            f"block of `warmups:`; without one there are {', '.join(PROFILES)}",
            lambda layout: "default",
            metavar="name",
        ),
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option("labels", "labels.zarr", lambda layout: layout.labels),
        Option(
            "encoder",
            "where start is encoder: its file",
            lambda layout: layout.encoder_file,
        ),
        Option(
            "clusters",
            "where start is clusters: their file",
            lambda layout: layout.clusters,
        ),
        Option("run", "where start is run: folder of a train-method or a warmup, maybe on other images"),
        Option(
            "out",
            "folder to write [data/SET/warmup/PROFILE/NOISE-sSEED]",
            writes=RUN,
        ),
    ),
    params=lambda file, layout, given: (
        block_of(file, "warmups", given["profile"], PROFILES),
        "noisyctl.training.warmup",
    ),
    fields=("noisyctl.training.warmup",),
    presets={f"warmups.{name}": values for name, values in PROFILES.items()},
)
