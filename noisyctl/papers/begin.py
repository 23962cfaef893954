"""A project of the user's own: params.yaml for their data, the pipeline made from it, and git and DVC around it.

Nothing that lies in the folder is overwritten, and all that can be refused is refused before anything is written.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from noisyctl import datasets
from noisyctl.config import read_params_file
from noisyctl.errors import DataError, NoisyctlError, ParamsError
from noisyctl.layout import Layout
from noisyctl.papers import files, pipeline, printed
from noisyctl.papers.demonstration import Profiles

PARAMS, IGNORE = Path("params.yaml"), Path(".gitignore")
IGNORED = ("/.noisyctl/", "/plans/", "/tracking/", "/data/")
ENCODER = "efficientnet_lite0"
SIDE = 224  # pixels that the encoder sees
MOST_IN_MEMORY = 10_000  # photos, of SIDE pixels a side about 1.5 GB
HEAD = """\
# What `dvc repro` makes of your data. All other values are defaults: `noisyctl train-method NAME --dry-run` shows them.
# After a change in this file, or with another version of noisyctl: `noisyctl plan && dvc repro`.
"""
REST = f"""\
pretrain: {ENCODER}  # the encoder, which comes trained; or timm:NAME
embed: {{image_size: 0}}  # pixels a side that the encoder sees; 0: as many as it was made for
input: features  # what methods are trained on: the features of the encoder
seed: 0
precision: float32
threads: 0  # 0: as many as torch takes
knn: {{k: 20}}
warmups:
  default: {{backbone: mlp, epochs: 10}}  # networks on all labels, from which methods start
methods:  # `noisyctl methods` lists what else there is
  knn_vote: {{}}
  cross_entropy: {{epochs: 20}}  # the baseline, which takes every label as it is
  elr: {{epochs: 20}}
  smp: {{epochs: 20, start_epoch: 15, decay_period: 7}}
"""


@dataclass(frozen=True)
class About:
    """What a project is about: photos in a folder for each class, or named in a manifest; a data set; or a paper.

    A manifest's paths are relative to the folder of `photos`, or without one to its own.
    """

    photos: Path | None = None
    manifest: Path | None = None
    dataset: str | None = None
    paper: str | None = None

    @property
    def root(self) -> Path | None:
        """The folder of the photos, as an absolute path: experiments run in copies of this folder, without the photos."""
        place = self.photos or (self.manifest and self.manifest.parent)
        return place.expanduser().resolve() if place is not None else None


@dataclass(frozen=True)
class Begun:
    """What was made, and the command that comes next."""

    made: tuple[str, ...]
    next: str


def begin(about: About, presets: Profiles, *, git: bool = True) -> Begun:
    """Make a project in the current folder. Raises NoisyctlError, where it can before anything is made."""
    if about.paper is not None:
        papers = _papers(printed.load(about.paper).name)
        _require_free([files.OWN])
        made = [*_repositories(git), *_ignore(IGNORED)]
        for source, target in papers:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return Begun(
            (*made, f"{files.OWN}/: the rows of {about.paper}"),
            f"noisyctl sweep {about.paper} --budget smoke",
        )
    _require_free([PARAMS, pipeline.DVC_YAML, pipeline.CELLS, Path("dvc.lock")])
    text = params_text(about)
    made = [*_repositories(git), *_ignore([*IGNORED, *_photos_inside(about)])]
    _write_new(PARAMS, text)
    _write_new(pipeline.DVC_YAML, f"{pipeline.HEAD}\n")  # so that the plan may fill it
    file = read_params_file(PARAMS)
    layout = Layout(str(file.get("dataset")), ENCODER, input="features")
    cells = pipeline.write(file, layout, presets, range(1), pipeline.CELLS)
    made += [
        f"{PARAMS}: the data, the encoder, the methods; yours to edit",
        f"{pipeline.DVC_YAML}, {pipeline.CELLS}: the pipeline, made from it by `noisyctl plan`",
    ]
    runs = (
        f"dvc repro    # {len(cells['train_cells'])} methods, evaluate and table: {layout.home / 'table.md'}"
    )
    return Begun(tuple(made), runs)


def params_text(about: About) -> str:
    """params.yaml for these data. Raises DataError where there are no photos, and ParamsError for an unknown data set."""
    if about.dataset is not None:
        datasets.REGISTRY.module_of(about.dataset)
        pipeline.require_clean(about.dataset)
        data = f"dataset: {about.dataset}\n"
        noise = "noises:\n  sym40: {kind: symmetric, rate: 0.4, include_true_class: false}  # how labels are made wrong\n"
        return HEAD + data + noise + REST
    count = _count_photos(about)
    name = _name(about)
    block = {"kind": "folder", "root": str(about.root)}
    block |= {"manifest": str(about.manifest.expanduser().resolve())} if about.manifest else {}
    keep = "pixels" if count <= MOST_IN_MEMORY else "files"
    words = ", ".join(
        f"{key}: {value if key == 'kind' else json.dumps(value, ensure_ascii=False)}"
        for key, value in block.items()
    )
    data = (
        f"dataset: {name}\ndatasets:\n  # {count} photos, which are only read; a path is absolute, so that copies of this "
        f"project find them\n  {name}: {{{words}, image_size: {SIDE}, keep: {keep}}}\n"
    )
    return HEAD + data + REST


def _count_photos(about: About) -> int:
    """How many photos there are. Raises DataError where there are none."""
    from noisyctl.datasets import folder

    root = folder.existing_folder(str(about.root))
    place = about.manifest
    source = folder.from_folders(root) if place is None else folder.from_manifest(root, str(place))
    if not source.samples:
        raise DataError(
            f"{about.manifest or root} has no photo in a folder of a class; put each photo into {root}/CLASS/, or give a "
            "--manifest with the columns path and label"
        )
    if place is not None and not any((root / sample.path).exists() for sample in source.samples):
        raise DataError(
            f"none of the {len(source.samples)} photos that {place} names lies in {root}; give the folder that its paths "
            "start from with --photos"
        )
    return len(source.samples)


def _name(about: About) -> str:
    """What the data set is called: as the folder or the manifest, in letters that mean nothing to YAML, DVC or a shell."""
    place = about.photos or about.manifest or Path()
    text = re.sub(r"[^A-Za-z0-9_-]+", "-", place.expanduser().resolve().stem).strip("-")
    plain = text[:1].isalpha() and isinstance(yaml.safe_load(text), str) and text not in datasets.available()
    return text if plain else f"photos-{text}".strip("-")


def _papers(name: str) -> list[tuple[Path, Path]]:
    """The files that a paper is planned from, and where they are copied to."""
    names = (
        files.PRINTED,
        "budgets.yaml",
        "shared/params.yaml",
        f"{name}/tables.yaml",
        f"{name}/params.yaml",
    )
    return [(files.PACKAGED / one, files.OWN / one) for one in names]


def _require_free(places: list[Path]) -> None:
    """Raise ParamsError if something lies where a project is to be made."""
    for place in places:
        if place.exists() or place.is_symlink():
            raise ParamsError(
                f"{place} lies here already, so nothing was touched; begin in another folder, or go on here: `dvc repro` "
                "runs a pipeline, `noisyctl plan` makes it follow params.yaml"
            )


def _photos_inside(about: About) -> list[str]:
    """The line of .gitignore for photos that lie in this folder: git is no place for them."""
    here, root = Path.cwd().resolve(), about.root
    return (
        [f"/{root.relative_to(here).as_posix()}/"]
        if root is not None and root != here and root.is_relative_to(here)
        else []
    )


def _ignore(lines: Iterable[str]) -> Iterator[str]:
    """Add what git is to ignore to .gitignore, below what it holds."""
    before = IGNORE.read_text() if IGNORE.exists() else ""
    new = [line for line in lines if line not in before.splitlines()]
    if new:
        gap = "" if before.endswith("\n") or not before else "\n"
        IGNORE.write_text(before + gap + "".join(f"{line}\n" for line in new))
        yield f"{IGNORE}: {' '.join(new)}"


def _repositories(use_git: bool) -> list[str]:
    """Make the folder a git repository and a DVC project where it is none, and say what was made.

    A folder inside another git repository belongs to that, and is a DVC project of its own in it (`--subdir`), also below
    another DVC project. Without git, DVC does without.
    """
    git = shutil.which("git") if use_git else None
    made, flags = [], ["--no-scm"]
    if git is not None:
        top = _ask(git, "rev-parse", "--show-toplevel")
        if top is None:
            _call([git, "init", "-q"])
            made.append(".git: a git repository")
        elif _ask(git, "check-ignore", "-q", str(pipeline.DVC_YAML)) is not None:
            raise ParamsError(
                f"the git repository {top} ignores this folder, where DVC refuses to work; begin in another folder, or with "
                "--no-git"
            )
        flags = [] if top is None or Path(top).resolve() == Path.cwd().resolve() else ["--subdir"]
    if not Path(".dvc").is_dir():
        _call([sys.executable, "-m", "dvc", "init", *flags])
        _settle_dvc()
        made.append(".dvc: a DVC project" + (", without git" if flags == ["--no-scm"] else ""))
    return made


def _settle_dvc() -> None:
    """Have the new DVC project tell nobody that it is used, and leave out the scratch folder."""
    settings, place = configparser.ConfigParser(interpolation=None), Path(".dvc", "config")
    settings.read(place)
    settings.read_dict({"core": {"analytics": "false", "check_update": "false"}})
    with place.open("w") as file:
        settings.write(file)
    with Path(".dvcignore").open("a") as file:
        file.write("__pycache__\n.noisyctl\n")


def _ask(*words: str) -> str | None:
    """What a command prints; None where it fails."""
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _call(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word why"]
        raise NoisyctlError(f"`{shlex.join([Path(words[0]).name, *words[1:]])}` failed: {said[-1]}")


def _write_new(path: Path, text: str) -> None:
    """Write a file that does not exist."""
    with path.open("x") as file:
        file.write(text)
