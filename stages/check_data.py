"""Tell whether the files of a data set are whole, what is missing, and where and on which terms it is to be had."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.cli.stage import Option, Stage
from noisyctl.errors import DataError, ParamsError, suggest
from noisyctl.session import Session

SAMPLE = 256  # images that are decoded of a data set without published checksums
TERMS = {  # of the data sets with published checksums
    "cifar10": "none stated; its author asks to be cited",
    "cifar100": "none stated; its author asks to be cited",
    "fashion_mnist": "MIT",
    "mnist": "none stated by its first site; often given as CC BY-SA 3.0",
}

FURTHER = {
    "webvision": "ILSVRC12's validation images are not checked; --ilsvrc12 FOLDER makes of them the split ilsvrc12_val"
}


@dataclass(frozen=True)
class Inputs:
    name: str
    path: Path


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """What was checked, what was found wrong, and what to do."""
    module = _module(inputs.name)
    root = str(inputs.path)
    released = hasattr(module, "RELEASE")
    found = _released(module, root) if released else _listed(module, root, session.seed)
    origin = module.RELEASE if released else module.ORIGIN
    terms = TERMS[inputs.name] if released else origin.terms
    return {
        "data set": inputs.name,
        "path": root,
        "ok": not found["problems"],
        **found,
        "from": origin.sites[0] if released else origin.site,
        "terms": terms,
        "wants": ", ".join(file.name for file in origin.files) if released else ", ".join(origin.layout),
        "next": origin.cure
        if found["problems"]
        else f"noisyctl prepare-data --dataset {inputs.name} --root {root}",
    } | ({"note": FURTHER[inputs.name]} if inputs.name in FURTHER else {})


def _module(name: str) -> Any:
    """The module of a data set that needs files of known names. Raises ParamsError naming those there are."""
    from noisyctl import datasets

    modules = {known: datasets.load(known) for known in datasets.available()}
    checked = {k: module for k, module in modules.items() if {"RELEASE", "ORIGIN"} & set(vars(module))}
    if name not in checked:
        raise ParamsError(f"no files of {name!r} can be checked; {suggest(name, checked)}")
    return checked[name]


def _released(module: Any, root: str) -> dict[str, Any]:
    """Every file is read and must have its published checksum."""
    problems: list[str] = []
    images: dict[str, int] = {}
    try:
        data = module.prepare(module.Params(root=root))
        images = {name: len(split.ids) for name, split in data.splits.items()}
    except DataError as error:
        release, said = module.RELEASE, str(error)
        problems.append(
            said.removesuffix(f"; {release.cure}").removesuffix(f"; {release.cure_at(str(root))}")
        )
    return {"checked": "every byte, by published checksums", "images": images, "problems": problems}


def _listed(module: Any, root: str, seed: int) -> dict[str, Any]:
    """Files, lists, numbers, and a sample of the images: nobody has published checksums."""
    from noisyctl.images import scan

    place, problems, sample = Path(root).expanduser(), [], []
    try:
        lists = module.read(module.Params(root=root))
    except DataError as error:
        missing = [
            f"{root}/{name} is missing" for name in module.ORIGIN.layout if not (place / name).exists()
        ]
        reasons = missing or [str(error).removesuffix(f"; {module.ORIGIN.cure}")]
        return {"checked": "the lists", "images": {}, "problems": reasons}
    for name, images in lists.splits.items():
        problems += _numbers(name, images, place, module.ORIGIN.sizes.get(name))
        sample += _drawn(list(images), SAMPLE // len(lists.splits), seed)
    there = [path for path in sample if (place / path).exists()]
    unreadable = scan(place, there, 32, gray=False).quarantine
    return {
        "checked": f"the lists, the numbers, and {len(there)} images drawn at random; no checksums are published",
        "images": {name: len(images) for name, images in lists.splits.items()},
        "problems": problems + [f"{root}/{file.path}: {file.reason}" for file in unreadable],
    }


def _numbers(name: str, images: Mapping[str, int], root: Path, published: int | None) -> list[str]:
    """What is wrong with the numbers of a split's listed images and of those that are there."""
    from noisyctl.errors import few

    problems = []
    if published is not None and len(images) != published:
        problems.append(f"{name}: {len(images):,} images are listed, {published:,} in the release")
    missing = [path for path in images if not (root / path).exists()]
    if missing:
        problems.append(f"{name}: {len(missing):,} of {len(images):,} images are missing: {few(missing)}")
    return problems


def _drawn(paths: list[str], number: int, seed: int) -> list[str]:
    import numpy as np

    rows = np.random.default_rng(seed).permutation(len(paths))[:number]
    return [paths[row] for row in rows]


STAGE = Stage(
    "check-data",
    "Tell whether a data set's files are whole, and where to get what is missing.",
    "noisyctl check-data cifar10 data/raw/cifar10",
    run,
    lambda given, layout, extra: Inputs(given["name"], given["path"]),
    answers=True,
    options=(
        Option("name", "data set", required=True, type=str, argument=True),
        Option("path", "folder of its files", required=True, argument=True),
    ),
)
