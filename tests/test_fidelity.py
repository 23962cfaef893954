"""docs/fidelity.md: the methods of the papers are in it, and the params and values that it names exist."""

import re
from pathlib import Path

import pytest

from noisyctl import datasets, methods, noise
from noisyctl.params import module_spec
from stages.warmup import PROFILES

TEXT = (Path(__file__).parent.parent / "docs" / "fidelity.md").read_text()
PAPERS = ("scanmix", "mixnn", "mixnn_official", "jo_src", "smp", "two_stage", "dividemix")
# in code style, but neither a method, a noise, a param nor a value of one
COMMANDS = {"noisyctl", "method", "dry", "run", "evaluate"}
OTHER = COMMANDS | {"clustering_accuracy", "dataset", "labels", "zarr", "phase", "scan", "warmups"}


def known() -> set[str]:
    words = {*methods.available(), *methods.RENAMED, *noise.available(), *PROFILES}
    modules = [*methods.modules().values(), *(f"noisyctl.noise.{kind}" for kind in noise.available())]
    modules += [f"noisyctl.datasets.{name}" for name in datasets.available()]
    for module in (*modules, "noisyctl.training.warmup"):
        for field in module_spec(module).fields:
            words |= {field.name, *re.findall(r"'(\w+)'", field.annotation)}
    return words


@pytest.mark.parametrize("name", PAPERS)
def test_a_section_says_what_the_file_does(name: str) -> None:
    assert re.search(rf"^## .*`{name}`", TEXT, re.M)


def test_every_param_and_value_exists() -> None:
    words = {word for code in re.findall(r"`([^`]+)`", TEXT) for word in re.findall(r"[a-z]\w+", code)}
    assert {"printed", "late_beta1", "mixed_in"} <= words  # the table is read
    assert words - known() <= OTHER
