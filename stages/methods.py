"""List the methods: what each does, its paper, what it needs. Read from the sources; no method is imported."""

import ast
import importlib.util
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noisyctl import methods
from noisyctl.cli.stage import Stage
from noisyctl.params import Needs, module_spec
from noisyctl.session import Session

AUTHORS = r"(?:van |de )?[A-Z][\w-]+(?:, [A-Z][\w-]+)*(?: and [A-Z][\w-]+| et al\.)?"
PAPER = re.compile(rf'({AUTHORS}), "([^"]+)"(?: \([^)]*\))?, ([^.;:]*?\d{{4}})')


class Row(dict[str, Any]):
    """Facts of a method: a mapping for `--json`, one line as text."""

    def __str__(self) -> str:
        cited = "; ".join(map(short, self["papers"])) or "no paper"
        return f"{self['summary']} ({cited}) Needs {needs_text(Needs(**self['needs']))}."


def run(inputs: Any = None, params: Any = None, session: Session = Session()) -> dict[str, Row]:
    """Name to summary, papers and needs of every method, in order."""
    return {name: row(module) for name, module in sorted(methods.modules().items())}


def row(module: str) -> Row:
    """Of the method in a module."""
    spec = module_spec(module)
    return Row(summary=spec.summary, papers=papers(docstring(module)), needs=asdict(spec.needs))


def docstring(module: str) -> str:
    """Of a module, from its source."""
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    return ast.get_docstring(ast.parse(Path(found.origin).read_text())) or ""


def papers(text: str) -> list[dict[str, str]]:
    """The papers that a docstring cites before its steps."""
    before = " ".join(text.split("[1]")[0].split())
    return [
        dict(zip(("authors", "title", "published"), found, strict=True)) for found in PAPER.findall(before)
    ]


def short(paper: dict[str, str]) -> str:
    """Authors, of more than two the first, and year."""
    first, *others = paper["authors"].split(", ")
    return f"{first}{' et al.' if others else ''} {paper['published'][-4:]}"


def needs_text(needs: Needs) -> str:
    """What a method starts from, in words."""
    networks = f"{needs.networks} network{'s' * (needs.networks > 1)}" if needs.networks else ""
    name, value = needs.clusters_unless or ("", "")
    dashed = name.replace("_", "-")
    wanted = {
        networks: bool(needs.networks),
        "warm-up": needs.warmup and not needs.pretrained,
        "warm-up from label-free work": needs.warmup and needs.pretrained,
        "neighbors": needs.neighbors,
        "clusters" + (f" (not for --{dashed} {value})" if dashed else ""): needs.clusters,
        "verified labels (if given)": needs.verified,
    }
    return ", ".join(word for word, wants in wanted.items() if wants) or "labels alone"


STAGE = Stage(
    "methods",
    "List the methods: what each does, its paper, what it needs.",
    "noisyctl methods --json",
    run,
    lambda *_: None,
    answers=True,
)
