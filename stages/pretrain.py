"""Label-free pretraining: an encoder, and its features of every image. Serves every pretraining method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage, inside
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
    method: str
    images: Path
    out: Path


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Train an encoder on images alone and write encoder.safetensors and features.zarr."""
    import torch

    from noisyctl import pretraining
    from noisyctl.artifacts import networks, store
    from noisyctl.artifacts.kinds import FEATURES
    from noisyctl.nn.inference import evaluating, outputs
    from noisyctl.nn.networks import build
    from noisyctl.runs import training
    from noisyctl.seeds import stream
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold

    device = session.start()
    images = training.read_images(inputs.images)
    task, held_out = training.make_task(images, device)
    name = f"pretrain-{inputs.method}"
    spec = training.spec(params, images, params.embedding_size, "projection")
    network = build(spec, stream(session.seed, name, "init")).to(device)
    recorded = params.model_dump() | {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {"params": recorded, "images": images.digest, **session.numerics(device)}
    with hold(session.scratch, name, facts, inputs.out) as scratch:
        method = pretraining.load(inputs.method)
        fitted = fit(
            method,
            [network],
            task,
            params,
            name=name,
            epochs=params.epochs,
            seed=session.seed,
            scratch=scratch,
            report=session.report(name),
            precision=session.precision_on(device),
        )
        encoder = fitted.state.network
        assert task.images is not None and task.views is not None
        arrays = {}
        with evaluating(encoder):
            for prefix, pixels in {
                "": task.images,
                **{f"{s}_": x for s, x in held_out.items() if s == "test"},
            }.items():
                features = outputs(encoder.features, pixels, task.views.plain)
                arrays[f"{prefix}features"] = features.cpu().numpy()
                arrays[f"{prefix}embeddings"] = (
                    torch.cat([encoder.head(f) for f in features.split(1024)]).cpu().numpy()
                )
        tensors = {f"network.{key}": tensor for key, tensor in encoder.state_dict().items()}
        header = {
            "kind": "encoder",
            "modules": {"network": encoder.spec},
            "params": recorded,
            "inputs": {"images": images.digest},
            "hardware": session.hardware(device),
        }
        digest = networks.write(inputs.out / "encoder.safetensors", tensors, header)
        store.write(
            inputs.out / "features.zarr",
            FEATURES,
            arrays,
            params=recorded,
            inputs={"images": images.digest, "encoder": digest},
        )
    return {"epochs": params.epochs, "features": arrays["features"].shape[1], "out": str(inputs.out)}


def stage(method: str) -> Stage:
    """The command `pretrain-METHOD`."""
    return Stage(
        name=f"pretrain-{method}",
        summary=f"Train an encoder without labels ({method}) and write its features.",
        example=f"noisyctl pretrain-{method} --epochs 40",
        run=run,
        inputs=lambda given, layout, extra: Inputs(method, given["images"], given["out"]),
        options=(
            Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
            Option(
                "out",
                "folder to write",
                lambda layout: layout.home / method,
                writes=inside("encoder.safetensors", "features.zarr"),
            ),
        ),
        params=lambda file, layout, given: (method, f"noisyctl.pretraining.{method}"),
        fields=(f"noisyctl.pretraining.{method}",),
    )
