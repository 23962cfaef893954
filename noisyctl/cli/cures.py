"""A cure is the exact command for the present data set, noise, seed and paths.

Messages name commands between backticks, such as `noisyctl warmup`, and know nothing of how the failing command was called.
`complete` adds to each what the user had chosen: so that the cure of a run on one's own photos does not train on digits.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from noisyctl.layout import TRAINED_HERE

COMMAND = re.compile(r"`(noisyctl [^`]+)`")
# the choices that a command takes, and the artifacts that it reads, by the names of the options
TAKES = {
    "prepare-data": (("dataset",), ()),
    "inject-noise": (("dataset", "noise", "seed"), ("truth",)),
    "pretrain-simclr": (("dataset", "seed"), ("images",)),
    "pretrain-moco": (("dataset", "seed"), ("images",)),
    "embed": (("dataset",), ("images",)),
    "mine-knn": (("dataset", "pretrain", "seed"), ("features",)),
    "cluster-scan": (
        ("dataset", "pretrain", "input", "seed"),
        ("images", "features", "encoder", "neighbors"),
    ),
    "warmup": (
        ("dataset", "noise", "pretrain", "input", "seed"),
        ("images", "features", "labels", "encoder", "clusters"),
    ),
    "train-method": (
        ("dataset", "noise", "pretrain", "input", "seed"),
        ("images", "features", "labels", "warmup", "neighbors", "clusters", "verified"),
    ),
    "evaluate": (("dataset", "pretrain", "input"), ("truth", "images")),
    "table": (("dataset", "pretrain", "input"), ()),
}
# what a command writes, by the name of the option that another command reads it with; a folder where it writes several
WRITES = {
    "prepare-data": (("images", "truth"), True),
    "inject-noise": (("labels",), False),
    "pretrain-simclr": (("encoder", "features", "neighbors"), True),
    "pretrain-moco": (("encoder", "features", "neighbors"), True),
    "embed": (("features",), False),
    "mine-knn": (("neighbors",), False),
    "cluster-scan": (("clusters",), True),
    "warmup": (("warmup",), False),
}


@dataclass(frozen=True)
class Chosen:
    """What a user chose for the command that failed.

    `choices` are options by name (dataset, noise, pretrain, input, seed, params_file), where they are not the defaults;
    `places` are the paths that were given, by the option's name. `noise` and `pretrain` are those in force. `kind` is the
    kind of the data set where its name is neither a block of params.yaml nor a kind itself, and `home` its folder.
    """

    choices: Mapping[str, str]
    places: Mapping[str, Path] = field(default_factory=dict)
    noise: str = "given"
    pretrain: str = "simclr"
    kind: str | None = None
    home: Path = Path("data")


def complete(message: str, chosen: Chosen) -> str:
    """The message with every command in it made exact."""

    def exact(found: re.Match[str]) -> str:
        return f"`{' && '.join(_exact(part, chosen) for part in found[1].split(' && '))}`"

    return COMMAND.sub(exact, message)


def _exact(command: str, chosen: Chosen) -> str:
    """One command; unchanged where it is none of `TAKES`, or names its output already."""
    from noisyctl.runs.fresh import has_clean_labels

    _, name, *rest = command.split(" ")
    if name == "inject-noise" and chosen.noise == "given" and "--noise" not in rest:
        if has_clean_labels(chosen.home):
            rest = [*rest, "--noise", "NAME"]
        else:
            name = "prepare-data"  # which writes the labels that were given
    if name in ("pretrain-simclr", "pretrain-moco") and "--out" not in rest:
        trained_here = chosen.pretrain in TRAINED_HERE
        name = f"pretrain-{chosen.pretrain}" if trained_here else "embed"
        rest = rest if trained_here else [*rest, "--encoder", chosen.pretrain]
    if name not in TAKES or "--out" in rest:
        return command
    wanted, reads = TAKES[name]
    options = {key: chosen.choices[key] for key in wanted if key in chosen.choices}
    if name == "prepare-data" and chosen.kind is not None:
        options = {"dataset": chosen.kind} | ({"root": "FOLDER"} if chosen.kind != "digits" else {})
        options["out"] = str(chosen.home)
    options |= {key: str(chosen.places[key]) for key in reads if key in chosen.places}
    keys, is_folder = WRITES.get(name, ((), False))
    if place := next((chosen.places[key] for key in keys if key in chosen.places), None):
        options["out"] = str(place.parent if is_folder else place)
    if "params_file" in chosen.choices:
        options["params-file"] = chosen.choices["params_file"]
    words = [word for key, value in options.items() if f"--{key}" not in rest for word in (f"--{key}", value)]
    return " ".join(["noisyctl", name, *rest, *([shlex.join(words)] if words else [])])
