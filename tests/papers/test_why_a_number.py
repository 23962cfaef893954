"""`plan PAPER --why TEXT`: from a printed number to the cells that answer it, their params and the comparison."""

import json
import sys
from pathlib import Path

import pytest

from noisyctl.cli.main import main
from noisyctl.errors import ParamsError
from noisyctl.papers import compare, project, why
from noisyctl.papers.cells import Cell

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with papers/."""
    (tmp_path / "papers").symlink_to(ROOT / "noisyctl" / "papers" / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISYCTL_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_printed_value_leads_to_its_cells_params_and_comparison() -> None:
    plan = project.plan_of("scanmix")
    (found,) = why.origins(plan, "Table 1 91")
    assert found.title == "Table 1, ScanMix, CIFAR-10, sym 0.9, best: 91"
    assert found.place == f"papers/scanmix/params.yaml:{line_of('  scanmix:')}"
    cells = dict(found.cells)
    name = "cifar10-scanmix-sym-incl-90-s0"
    assert cells == {
        "warmup": plan.cells["warmup"]["cifar10-scan10-sym-incl-90-s0"],
        "train": plan.cells["train"][name],
        "evaluate": plan.cells["evaluate"][name],
    }
    assert why.changed(cells["train"])["averaged_losses"] == {"value": 5, "default": 1}
    assert found.metrics == cells["evaluate"].out / "metrics.json"
    numbers = [number for number, _ in compare.by_table(plan)["1"]]
    assert found.number in numbers and found.table == Path("data/papers/scanmix/tables/table-1.md")
    text = "\n".join(why.lines(plan, [found]))
    assert all(cell.command in text for cell in cells.values())
    assert "run it     noisyctl sweep scanmix:evaluate@cifar10-scanmix-sym-incl-90-s0" in text


def line_of(text: str) -> int:
    return (ROOT / "noisyctl/papers/data/scanmix/params.yaml").read_text().splitlines().index(text) + 1


@pytest.mark.parametrize(
    "text", ["cifar10-scanmix-sym-incl-90-s0 best", "scanmix cifar-10 90% best", "ScanMix CIFAR-10 0.9 best"]
)
def test_a_number_is_found_by_words_of_its_table_and_by_its_cell(text: str) -> None:
    found = why.origins(project.plan_of("scanmix", ("1",)), text)
    assert "Table 1, ScanMix, CIFAR-10, sym 0.9, best: 91" in [one.title for one in found]


def test_only_params_that_are_no_defaults_are_told() -> None:
    cell = Cell("x", "train-method elr", Path("out"), "elr", "noisyctl.methods.elr", {"learning_rate": 0.5})
    default = next(field.default for field in cell.spec.fields if field.name == "learning_rate")  # type: ignore[union-attr]
    assert why.changed(cell) == {"learning_rate": {"value": 0.5, "default": default}}
    same = Cell(
        "x", "train-method elr", Path("out"), "elr", "noisyctl.methods.elr", {"learning_rate": default}
    )
    assert why.changed(same) == {}


def test_a_number_without_a_run_says_why_and_many_have_a_line_each() -> None:
    plan = project.plan_of("scanmix")
    found = why.origins(plan, "MLNT")
    assert len(found) > why.MOST_TOLD
    said = list(why.lines(plan, found))
    assert said[1] == "  no run: method not built: MLNT"
    assert said[-1].startswith(f"{len(found)} printed numbers; give more words")
    assert "the first rule that fits in papers/scanmix/tables.yaml" in list(why.lines(plan, found[:1]))[1]
    assert "missing" in found[0].to_json() and "cells" not in found[0].to_json()


def test_words_that_no_number_has() -> None:
    with pytest.raises(
        ParamsError, match=r"no printed number of scanmix has 'ScanMx'.*did you mean 'ScanMix'"
    ):
        why.origins(project.plan_of("scanmix"), "ScanMx")


def test_the_command_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("plan", "scanmix", "--table", "1", "--why", "91")
    assert call(monkeypatch, *words) == 0
    assert capsys.readouterr().out.startswith("Table 1, ScanMix, CIFAR-10, sym 0.9, best: 91\n")
    assert call(monkeypatch, *words, "--json") == 0
    (number,) = json.loads(capsys.readouterr().out)["numbers"]
    assert number["cells"][1]["command"].startswith("noisyctl train-method scanmix --images")
    assert sorted(path.name for path in folder.iterdir()) == ["papers"]
    assert call(monkeypatch, "plan", "--why", "91") == 2
    assert "--why needs a paper: noisyctl plan PAPER --why TEXT" in capsys.readouterr().err
