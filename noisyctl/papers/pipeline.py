"""dvc.yaml and cells.yaml of a folder with a params.yaml: the demonstration's, and those of a project of the user's own.

Both are made from params.yaml and template/project.yaml. In a clone of noisyctl a stage depends on the source files that
decide its result. Elsewhere noisyctl is installed, where DVC does not look: there cells.yaml holds a digest of each
stage's code, on which the stage depends as on a parameter, and `noisyctl plan` writes it anew.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import noisyctl
from noisyctl import code
from noisyctl.config import ParamsFile
from noisyctl.errors import ParamsError
from noisyctl.layout import TRAINED_HERE, Layout, folder_of
from noisyctl.papers import demonstration
from noisyctl.papers.demonstration import Profiles
from noisyctl.papers.project import FORM, MADE, publish

Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]

DVC_YAML, CELLS = Path("dvc.yaml"), Path("cells.yaml")
HEAD = f"{MADE}` from params.yaml, and again by the next one; take this line away to edit the file yourself."
HEAD_OF_CELLS = f"{MADE}` from params.yaml and the NEEDS of each method. Do not edit it.\n"
CURVES = {
    "accuracy": "test_accuracy",
    "label_accuracy": "label_accuracy",
    "selection_precision": "selection_precision",
}  # of the plots of evaluate, and the column that each shows
GIVEN_LABELS = ("clothing1m", "food101n", "webvision")  # data sets that come with wrong labels


def in_clone() -> bool:
    """Whether noisyctl's own source files lie in the current folder."""
    return Path(noisyctl.__file__).resolve().parent == Path("noisyctl").resolve()


def write(
    file: ParamsFile, layout: Layout, presets: Profiles, seeds: range, out: Path
) -> dict[str, dict[str, Any]]:
    """Write the cells to `out` and return them. A dvc.yaml that a plan has made for this cells.yaml is made anew."""
    found = cells(file, layout, presets, seeds)
    pipeline = out.with_name(DVC_YAML.name)
    read_by_dvc = (
        out.name == CELLS.name and Path(file.path).resolve() == out.with_name("params.yaml").resolve()
    )
    is_ours = read_by_dvc and pipeline.exists() and FORM.foreign(pipeline) is None
    made = text(file, layout, found) if is_ours else ""  # before anything is written: it may be refused
    publish(out, HEAD_OF_CELLS + yaml.safe_dump(found, sort_keys=True, width=10**6))
    if is_ours:
        publish(pipeline, made)
    return found


def cells(file: ParamsFile, layout: Layout, presets: Profiles, seeds: range) -> dict[str, dict[str, Any]]:
    """What cells.yaml holds: warm-ups and runs of these seeds and, outside of a clone, the digests of the code."""
    found = demonstration.cells_of_seeds(file, layout, presets, seeds)
    return found if in_clone() else found | {"code": digests(file, layout, found)}


def digests(file: ParamsFile, layout: Layout, found: Cells) -> dict[str, str]:
    """A digest of the code of every stage that the pipeline may have, by the stage's name in noisyctl/code.py."""
    trained_here = layout.pretrain in TRAINED_HERE
    names = [f"prepare-data-{_data_set(file, layout)[0]}"]
    names += [f"inject-noise-{block['kind']}" for block in (file.get("noises") or {}).values()]
    names += [
        f"pretrain-{layout.pretrain}" if trained_here else "embed",
        "mine-knn",
        "cluster-scan",
        "warmup",
    ]
    names += [f"train-method-{run['method']}" for run in found["train_cells"].values()]
    return {name: code.code_digest(name) for name in [*dict.fromkeys(names), "evaluate", "table"]}


def text(file: ParamsFile, layout: Layout, found: Cells) -> str:
    """The text of dvc.yaml for the cells that were `found`."""
    import jinja2

    source = importlib.resources.files("noisyctl.papers").joinpath("template", "project.yaml").read_text()
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source).render(_values(file, layout, found))


def _values(file: ParamsFile, layout: Layout, found: Cells) -> dict[str, Any]:
    """What the template asks for. Paths keep DVC's `${dataset}`, so that they are the same for every data set."""
    kind, block = _data_set(file, layout)
    noises, on_features = bool(file.get("noises")), layout.input == "features"
    encoder = "${pretrain}" if folder_of(layout.pretrain) == layout.pretrain else folder_of(layout.pretrain)
    features = f"data/${{dataset}}/{encoder}"
    clusters = (
        f"{features}/vectors/clusters.safetensors" if on_features else f"{features}/clusters.safetensors"
    )
    trained = features if on_features else "data/${dataset}"
    wanted = [cell["clusters"] != cell["labels"] for cell in found["train_cells"].values()]
    wanted += [cell["start"] == str(layout.clusters) for cell in found["warmup_cells"].values()]
    made = _made_of_data_set(kind, block, given=not noises)
    values = {
        "head": HEAD,
        "in_clone": in_clone(),
        "kind": kind,
        "data_set_block": bool(block),
        "data_set_code": _data_set_code(kind),
        "sources": [f"${{datasets.{layout.dataset}.{name}}}" for name in _paths_in(kind, block)],
        "made_of_data_set": made,
        "noises": noises,
        "pretrain": layout.pretrain,
        "trained_here": layout.pretrain in TRAINED_HERE,
        "encoder": encoder,
        "on_features": on_features,
        "clusters": clusters if any(wanted) else "",
        "warmups": _warmup_params(file, found),
        "trained": trained,
        "curves": CURVES if "truth.zarr" in made else {},
        "curves_in": f"{layout.trained}/results/plots",
    }
    values["judged_by"] = _judged_by(values, features)
    return values | {"given": lambda *names: [name for name in names if file.get(name) is not None]}


def _judged_by(values: Mapping[str, Any], features: str) -> list[str]:
    """What evaluate reads beside the runs."""
    home, made = "data/${dataset}", values["made_of_data_set"]
    noise = [f"{home}/noise"] if values["noises"] else []
    of_data_set = [f"{home}/{name}" for name in ("truth.zarr", "images.zarr") if name in made]
    of_data_set += [
        f"{home}/{name}" for name in ("paths.zarr", "labels.zarr", "verified.zarr") if name in made
    ]
    probed = [f"{features}/encoder.safetensors"] if values["trained_here"] else []
    probed += [values["clusters"]] if values["clusters"] and values["trained_here"] else []
    return [*noise, *of_data_set, *probed, *([f"{features}/features.zarr"] if values["trained_here"] else [])]


def _data_set(file: ParamsFile, layout: Layout) -> tuple[str, dict[str, Any]]:
    """The kind of the data set, and its block of params.yaml without the kind."""
    block = dict(file.get(f"datasets.{layout.dataset}") or {})
    return str(block.pop("kind", layout.dataset)), block


def _data_set_code(kind: str) -> list[str]:
    """The source files that decide what prepare-data makes: digits are pixels, all others may come from files."""
    if kind == "digits":
        return ["noisyctl/datasets/__init__.py", "noisyctl/datasets/digits.py"]
    return ["noisyctl/datasets", "noisyctl/images.py", "noisyctl/streaming.py"]


def _paths_in(kind: str, block: Mapping[str, Any]) -> list[str]:
    """The fields of a data set's block that name files or folders which the data set is made from."""
    names = ("root", "manifest", "truth_manifest", "verified_manifest")
    return [name for name in names if block.get(name) and kind == "folder"]


def _made_of_data_set(kind: str, block: Mapping[str, Any], *, given: bool) -> list[str]:
    """What prepare-data writes. Raises ParamsError for a data set that the pipeline has no stages for."""
    if kind != "folder":
        require_clean(kind)
        return ["images.zarr", "truth.zarr"]
    from noisyctl.datasets import folder

    if not block.get("root"):
        raise ParamsError(
            "the block of the data set has no root in params.yaml; write the folder of the photos there"
        )
    root = folder.existing_folder(str(block["root"]))
    manifest = block.get("manifest")
    source = folder.from_manifest(root, str(manifest)) if manifest else folder.from_folders(root)
    truth = block.get("truth_manifest") or {sample.split for sample in source.samples} != {"train"}
    if not (truth or given):
        raise ParamsError(
            "noises need clean labels, and these images come with none; take noises: out of params.yaml"
        )
    made = ["images.zarr", "paths.zarr", "labels.zarr"]
    return (
        made
        + (["truth.zarr"] if truth else [])
        + (["verified.zarr"] if block.get("verified_manifest") else [])
    )


def require_clean(kind: str) -> None:
    """Raise ParamsError for what is no data set with images and clean labels."""
    if kind in ("folder", "features"):
        raise ParamsError(
            f"{kind} is no data set that comes with labels; for photos there are --photos and --manifest, for vectors "
            "`noisyctl clean --features X.npy --labels y.npy`"
        )
    if kind in GIVEN_LABELS:
        raise ParamsError(
            f"{kind} comes with wrong labels of its own, for which this pipeline has no stages; plan a paper that has it "
            "(`noisyctl plan PAPER`), or name its images and labels in a --manifest"
        )


def _warmup_params(file: ParamsFile, found: Cells) -> str:
    """What a warm-up depends on in params.yaml; "" where no method has a warm-up.

    A profile may have no block of its own; then a change of any block makes it stale.
    """
    profiles = {cell["profile"] for cell in found["warmup_cells"].values()}
    known = file.get("warmups") or {}
    if not profiles or not known:
        return ""
    return "warmups.${item.profile}" if profiles <= set(known) else "warmups"
