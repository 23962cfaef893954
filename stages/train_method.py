"""Train one method on noisy labels."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import RUN, Option, Stage
from noisyctl.layout import Layout
from noisyctl.params import Needs, module_spec
from noisyctl.session import Session


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
    params_file: str = "params.yaml"  # for the commands that a message names


def run(inputs: Inputs, params: Any, session: Session = Session()) -> dict[str, Any]:
    """Write networks.safetensors and trace.zarr of one run."""
    import torch

    from noisyctl import methods
    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import NEIGHBORS
    from noisyctl.errors import ArtifactError, ParamsError
    from noisyctl.runs import fresh, training
    from noisyctl.training.loop import fit
    from noisyctl.training.scratch import hold

    device = session.start()
    name_of_method, method = methods.present_name(inputs.method), methods.load(inputs.method)
    needs = method.NEEDS.under(params.model_dump())
    if hasattr(method, "notice") and method.notice(params):
        print(f"note: {method.notice(params)}", file=sys.stderr)
    given_labels, *starts = _made_from(inputs, needs, params.warmup_profile)
    fresh.require([given_labels])
    images = (
        training.read_images(inputs.images)
        if inputs.images and (inputs.images.exists() or needs.networks)
        else None
    )
    labels = training.read_labels(inputs.labels, images)
    fresh.require(starts)
    made_from = {"images": labels.inputs["images"], "labels": labels.digest}
    names = labels.attributes["class_names"]
    known: dict[str, Any] = {
        "num_classes": len(names),
        "labels": torch.as_tensor(labels.array("noisy_labels")).to(device),
    }
    if needs.neighbors:
        if inputs.neighbors is None or not inputs.neighbors.exists():
            raise ArtifactError(
                f"{inputs.method} needs mined neighbors ({inputs.neighbors}); run "
                f"`{_label_free(inputs, 'neighbors', session)}` first"
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
    checked = known["verified"][0] if "verified" in known else None
    known["held_out"] = training.hold_out(
        len(known["labels"]), params.validation_rate, session.seed, device, checked
    )
    networks: list[Any] = []
    clusters: Any = None
    if needs.clusters:
        if inputs.clusters is None or not inputs.clusters.exists():
            raise ArtifactError(
                f"{inputs.method} needs label-free clusters ({inputs.clusters}); run "
                f"`{_label_free(inputs, 'clusters', session)}` first"
            )
        built, header = training.read_networks(inputs.clusters, "noisyctl cluster-scan")
        training.require_images(header, made_from["images"], inputs.clusters, "noisyctl cluster-scan")
        clusters, made_from["clusters"] = built["network"].to(device), header["digest"]
    if needs.warmup:
        if inputs.warmup is None or not (inputs.warmup / "networks.safetensors").exists():
            raise ArtifactError(
                f"{inputs.method} starts from a warm-up ({inputs.warmup}); run "
                f"`{_warmup(inputs, needs, params.warmup_profile, inputs.warmup, session)}` first"
            )
        built, header = training.read_run(inputs.warmup, "noisyctl warmup")
        if header["inputs"]["labels"] != labels.digest:
            raise ArtifactError(
                f"{inputs.warmup} was not warmed up on {inputs.labels}; run `noisyctl warmup` again"
            )
        if needs.pretrained:
            _require_pretrained(inputs, needs, header["inputs"], made_from, params.warmup_profile, session)
        made_from["warmup"], known["warmup_epochs"] = header["digest"], header["epochs"]
        networks = [network.to(device) for network in built.values()]
        if len(networks) < needs.networks:
            raise ArtifactError(
                f"{inputs.method} needs {needs.networks} networks, {inputs.warmup} has {len(networks)}; "
                f"run `noisyctl warmup --networks {needs.networks}`"
            )
    networks = networks[: max(needs.networks, 1)] + ([] if clusters is None else [clusters])
    task, held_out = training.make_task(images, device, **known)
    recorded = params.model_dump() | {"seed": session.seed, "threads": torch.get_num_threads()}
    facts = {"params": recorded, "inputs": made_from, **session.numerics(device)}
    name = f"train-method-{name_of_method}"
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
            report=session.report(name_of_method),
            precision=session.precision_on(device),
        )
        ids = (images or labels).array("train_id")
        arrays = fitted.arrays | {"train_id": ids, "noisy_labels": labels.array("noisy_labels")}
        about = {"params": recorded, "inputs": made_from, "method": name_of_method, "class_names": names}
        about["hardware"] = session.hardware(device)
        header = {"kind": "networks", "method": name_of_method, "epochs": params.epochs, "inputs": made_from}
        header |= training.preprocessing(images, names) if images else {}
        training.publish_run(inputs.out, arrays, fitted.state, about, header)
    return {"method": name_of_method, "epochs": params.epochs, "out": str(inputs.out)}


def _made_from(inputs: Inputs, needs: Needs, profile: str) -> list[Any]:
    """The labels, then what else the method starts from; each with what it was made from."""
    from noisyctl.runs import fresh

    images = inputs.images if inputs.images and inputs.images.exists() else None
    labels = fresh.labeled(images, inputs.labels)
    made = [labels]
    if needs.neighbors and inputs.neighbors:
        made.append(fresh.mined(images, inputs.neighbors))
    clusters = None
    if needs.clusters and inputs.clusters:
        clusters = fresh.clustered(images, inputs.clusters, inputs.neighbors)
        made.append(clusters)
    if needs.warmup and inputs.warmup:
        made.append(fresh.warmed_up(labels, inputs.warmup, profile, clusters))
    return made


def _require_pretrained(
    inputs: Inputs,
    needs: Needs,
    of_warmup: Mapping[str, str],
    made_from: Mapping[str, str],
    profile: str,
    session: Session,
) -> None:
    """Refuse a warm-up from random weights, or from other clusters than those of the run."""
    from noisyctl.errors import ArtifactError

    started = {name for name in ("encoder", "clusters", "weights") if name in of_warmup}
    if needs.clusters and of_warmup.get("clusters") == made_from["clusters"]:
        return
    if not needs.clusters and started & {"encoder", "clusters"}:
        return
    assert inputs.warmup is not None
    wanted = f"the clusters {inputs.clusters}" if needs.clusters else "an encoder or clusters"
    found = "other clusters" if "clusters" in started else "".join(started) or "random weights"
    own = "clustered" if needs.clusters else "pretrained"
    home = inputs.warmup.parent.parent if inputs.warmup.parent.name == profile else inputs.warmup.parent
    out = home / own / inputs.warmup.name
    raise ArtifactError(
        f"{inputs.method} needs a warm-up that started from {wanted}, and {inputs.warmup} started from {found}; "
        f"run `{_warmup(inputs, needs, own, out, session)}`, and train with `--warmup {shlex.quote(str(out))}`"
    )


def _command(inputs: Inputs, *words: str, **paths: Path | None) -> str:
    """A command line with these paths as options."""
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path)) if path]
    file = [] if inputs.params_file == "params.yaml" else ["--params-file", inputs.params_file]
    return shlex.join(["noisyctl", *words, *options, *file])


def _label_free(inputs: Inputs, wanted: str, session: Session) -> str:
    """The commands that make neighbors or clusters, from the first artifact on that is not there."""
    neighbors, clusters = inputs.neighbors, inputs.clusters
    assert neighbors is not None
    folder = neighbors.parent if clusters is None else clusters.parent
    way = "moco" if folder.name == "moco" else "simclr"
    encoder, features = folder / "encoder.safetensors", folder / "features.zarr"
    seed = ["--seed", str(session.seed)] if session.seed else []
    images = inputs.images
    steps = [
        (features, _command(inputs, f"pretrain-{way}", *seed, images=images, out=folder)),
        (neighbors, _command(inputs, "mine-knn", features=features, out=neighbors)),
    ]
    if wanted == "clusters":
        made_from = {"images": images, "encoder": encoder, "neighbors": neighbors}
        steps.append((folder, _command(inputs, "cluster-scan", *seed, **made_from, out=folder)))
    missing = [command for path, command in steps[:-1] if not path.exists()]
    return " && ".join([*missing, steps[-1][1]])


def _warmup(inputs: Inputs, needs: Needs, profile: str, out: Path | None, session: Session) -> str:
    """The command that makes a warm-up that the method can start from."""
    words = ["warmup", "--profile", profile]
    paths: dict[str, Path | None] = {"images": inputs.images, "labels": inputs.labels}
    if needs.clusters:
        paths["clusters"] = inputs.clusters
    elif needs.pretrained and inputs.neighbors is not None:
        paths["encoder"] = inputs.neighbors.with_name("encoder.safetensors")
    if needs.pretrained:
        words += ["--start", "clusters" if needs.clusters else "encoder"]
    words += ["--seed", str(session.seed)] if session.seed else []
    return _command(inputs, *words, **paths, out=out)


def stage(method: str, module: str, summary: str) -> Stage:
    """The command `train-method METHOD`. What the method does not need is not read."""
    of_method = module_spec(module).needs

    def inputs(given: Any, layout: Layout, extra: Any) -> Inputs:
        needs = of_method.under(extra["params"].model_dump())
        return Inputs(
            method,
            given["labels"],
            given["out"] or layout.run(method),
            given["images"],
            (given["warmup"] or layout.warmup(extra["params"].warmup_profile)) if needs.warmup else None,
            given["neighbors"] if needs.neighbors else None,
            given["clusters"] if needs.clusters else None,
            given["verified"],
            extra["file"].path,
        )

    return Stage(
        name=method,
        group="train-method",
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
