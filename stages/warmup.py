"""Train networks on all noisy labels for a few epochs: what methods start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import Option, Session, Stage, block_of


@dataclass(frozen=True)
class Inputs:
    images: Path
    labels: Path
    out: Path
    encoder: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one warm-up profile."""
    import torch

    from noisyctl.nn.networks import build
    from noisyctl.seeds import stream
    from noisyctl.training import warmup
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold
    from stages import training

    device = session.start()
    images = training.read_images(inputs.images)
    labels = training.read_labels(inputs.labels, images)
    names = labels.attributes["class_names"]
    y = torch.as_tensor(labels.array("noisy_labels")).to(device)
    task, held_out = training.make_task(images, device, num_classes=len(names), labels=y)
    spec = training.spec(params, images, len(names), "linear")
    networks = [
        build(spec, stream(session.seed, "warmup", "init", i)).to(device) for i in range(params.networks)
    ]
    made_from = {"images": images.digest, "labels": labels.digest}
    if inputs.encoder is not None:
        made_from["encoder"] = _load_encoder(inputs.encoder, networks, images)
    recorded = params.model_dump() | {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {"params": recorded, "inputs": made_from, "device": str(device)}
    with hold(session.scratch, "warmup", facts) as scratch:
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
        )
        arrays = fitted.arrays | {
            "train_id": images.array("train_id"),
            "noisy_labels": labels.array("noisy_labels"),
        }
        about = {"params": recorded, "inputs": made_from, "method": "warmup", "class_names": names}
        header = {
            "kind": "networks",
            "method": "warmup",
            "epochs": params.epochs,
            "inputs": made_from,
            **training.preprocessing(images),
        }
        training.publish_run(inputs.out, arrays, fitted.state, about, header)
    return {"epochs": params.epochs, "networks": params.networks, "out": str(inputs.out)}


def _load_encoder(path: Path, networks: list[Any], images: Any) -> str:
    from noisyctl.errors import ArtifactError
    from stages import training

    built, header = training.read_networks(path, "noisyctl pretrain-simclr")
    if header["inputs"]["images"] != images.digest:
        raise ArtifactError(
            f"{path} was not trained on {images.path}; remake it with `noisyctl pretrain-simclr`"
        )
    for network in networks:
        try:
            network.features.load_state_dict(built["network"].features.state_dict())
        except RuntimeError as error:
            had, wants = built["network"].spec, network.spec
            raise ArtifactError(
                f"{path} holds {had['backbone']} of width {had['width']}, the warm-up builds {wants['backbone']} of width "
                f"{wants['width']}; give both the same backbone and width"
            ) from error
    return str(header["digest"])


STAGE = Stage(
    name="warmup",
    summary="Train networks on all noisy labels for a few epochs.",
    example="noisyctl warmup --profile default",
    run=run,
    inputs=lambda given, layout, extra: Inputs(
        given["images"], given["labels"], given["out"] or layout.warmup(given["profile"]), given["encoder"]
    ),
    options=(
        Option("profile", "block of `warmups:`", lambda layout: "default"),
        Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
        Option("labels", "labels.zarr", lambda layout: layout.labels),
        Option("encoder", "encoder.safetensors to start from"),
        Option("out", "folder to write [data/SET/warmup/PROFILE/NOISE-sSEED]", output=True),
    ),
    params=lambda file, layout, given: (
        block_of(file, "warmups", given["profile"], "default"),
        "noisyctl.training.warmup",
    ),
    fields=("noisyctl.training.warmup",),
)
