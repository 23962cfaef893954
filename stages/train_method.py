"""Train one method on noisy labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.params import module_spec
from stages.common import RUN, Layout, Option, Session, Stage


@dataclass(frozen=True)
class Inputs:
    method: str
    labels: Path
    out: Path
    images: Path | None = None
    warmup: Path | None = None
    neighbors: Path | None = None
    clusters: Path | None = None
    verified: Path | None = None


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one run."""
    import torch

    from noisyctl import methods
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import NEIGHBORS
    from noisyctl.errors import ArtifactError, ParamsError
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold
    from stages import training

    device = session.start()
    method = methods.load(inputs.method)
    needs = method.NEEDS
    images = (
        training.read_images(inputs.images)
        if inputs.images and (inputs.images.exists() or needs.networks)
        else None
    )
    labels = training.read_labels(inputs.labels, images)
    made_from = {"images": labels.inputs["images"], "labels": labels.digest}
    names = labels.attributes["class_names"]
    known: dict[str, Any] = {
        "num_classes": len(names),
        "labels": torch.as_tensor(labels.array("noisy_labels")).to(device),
    }
    if needs.neighbors:
        if inputs.neighbors is None or not inputs.neighbors.exists():
            raise ArtifactError(
                f"{inputs.method} needs mined neighbors ({inputs.neighbors}); run `noisyctl mine-knn` first"
            )
        mined = store.read(inputs.neighbors, NEIGHBORS)
        store.require_input(mined, "images", made_from["images"], inputs.images or inputs.labels)
        made_from["neighbors"] = mined.digest
        known["neighbors"] = torch.as_tensor(mined.array("indices")).long().to(device)
        known["similarity"] = torch.as_tensor(mined.array("similarity")).to(device)
    if inputs.verified is not None:
        if not needs.verified:
            raise ParamsError(f"{inputs.method} makes no use of verified labels; leave out --verified")
        known["verified"], made_from["verified"] = training.read_verified(
            inputs.verified, made_from["images"], device
        )
    known["held_out"] = training.hold_out(len(known["labels"]), params.validation_rate, session.seed, device)
    networks: list[Any] = []
    if needs.warmup:
        if inputs.warmup is None or not (inputs.warmup / "networks.safetensors").exists():
            raise ArtifactError(
                f"{inputs.method} starts from a warm-up ({inputs.warmup}); run `noisyctl warmup` first"
            )
        built, header = training.read_networks(inputs.warmup / "networks.safetensors", "noisyctl warmup")
        if header["inputs"]["labels"] != labels.digest:
            raise ArtifactError(
                f"{inputs.warmup} was not warmed up on {inputs.labels}; run `noisyctl warmup` again"
            )
        made_from["warmup"], known["warmup_epochs"] = header["digest"], header["epochs"]
        networks = [network.to(device) for network in built.values()]
        if len(networks) < needs.networks:
            raise ArtifactError(
                f"{inputs.method} needs {needs.networks} networks, {inputs.warmup} has {len(networks)}; "
                f"run `noisyctl warmup --networks {needs.networks}`"
            )
    networks = networks[: max(needs.networks, 1)]
    if needs.clusters:
        if inputs.clusters is None or not inputs.clusters.exists():
            raise ArtifactError(
                f"{inputs.method} needs label-free clusters ({inputs.clusters}); run `noisyctl cluster-scan` first"
            )
        built, header = training.read_networks(inputs.clusters, "noisyctl cluster-scan")
        training.require_images(header, made_from["images"], inputs.clusters, "noisyctl cluster-scan")
        made_from["clusters"] = header["digest"]
        networks.append(built["network"].to(device))
    task, held_out = training.make_task(images, device, **known)
    recorded = params.model_dump() | {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {"params": recorded, "inputs": made_from, "device": str(device)}
    name = f"train-method-{inputs.method}"
    with hold(session.scratch, name, facts, inputs.out) as scratch:
        fitted = fit(
            method,
            networks,
            task,
            params,
            name=name,
            epochs=params.epochs,
            seed=session.seed,
            scratch=scratch,
            held_out=held_out,
            report=session.report(inputs.method),
            precision=session.precision_on(device),
        )
        ids = (images or labels).array("train_id")
        arrays = fitted.arrays | {"train_id": ids, "noisy_labels": labels.array("noisy_labels")}
        about = {"params": recorded, "inputs": made_from, "method": inputs.method, "class_names": names}
        about["hardware"] = session.hardware(device)
        header = {"kind": "networks", "method": inputs.method, "epochs": params.epochs, "inputs": made_from}
        header |= training.preprocessing(images, names) if images else {}
        training.publish_run(inputs.out, arrays, fitted.state, about, header)
    return {"method": inputs.method, "epochs": params.epochs, "out": str(inputs.out)}


def stage(method: str, module: str, summary: str) -> Stage:
    """The command `train-method METHOD`. What the method does not need is not read."""
    needs = module_spec(module).needs

    def inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
        return Inputs(
            method,
            given["labels"],
            given["out"] or layout.run(method),
            given["images"],
            (given["warmup"] or layout.warmup(extra["params"].warmup_profile)) if needs.warmup else None,
            given["neighbors"] if needs.neighbors else None,
            given["clusters"] if needs.clusters else None,
            given["verified"],
        )

    return Stage(
        name=method,
        summary=summary,
        example=f"noisyctl train-method {method} --dry-run",
        run=run,
        inputs=inputs,
        options=(
            Option("images", "images.zarr", lambda layout: layout.home / "images.zarr"),
            Option("labels", "labels.zarr", lambda layout: layout.labels),
            Option("warmup", "folder of a warm-up [data/SET/warmup/PROFILE/NOISE-sSEED]"),
            Option("neighbors", "neighbors.zarr", lambda layout: layout.neighbors),
            Option("clusters", "clusters.safetensors", lambda layout: layout.clusters),
            Option("verified", "verified.zarr: samples whose labels you have checked"),
            Option(
                "out",
                "folder to write [data/SET/runs/METHOD/NOISE-sSEED]",
                writes=RUN,
            ),
        ),
        params=lambda file, layout, given: (f"methods.{method}", module),
        fields=(module,),
    )
