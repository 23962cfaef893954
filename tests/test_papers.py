"""papers/: every printed number is accounted for, cells follow from the rows, a smoke run of each ends in a table."""

import csv
import importlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from noisyctl import config, methods
from noisyctl.artifacts import metrics
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.evaluation import tables
from noisyctl.training import warmup
from stages import paper_cells, papers, plan, table
from stages.common import Layout, Session

ROOT = Path(__file__).parent.parent
PAPERS = ("jo_src", "mixnn", "scanmix", "smp", "two_stage")
SMALLEST = {"jo_src": "6", "mixnn": "II", "scanmix": "3", "smp": "5", "two_stage": "2"}
FULL = papers.Budget("full")


def numbers(paper: str) -> list[papers.Number]:
    return papers.load(paper).numbers


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """papers/ in a folder of its own, which is the working directory."""
    shutil.copytree(ROOT / "papers", tmp_path / "papers")
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copy(ROOT / "params.yaml", tmp_path)  # the demonstration's, which no paper may read
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


# ------------------------------------------------------------------------------------------------------------ coverage


def test_all_717_printed_numbers_are_a_cell_or_have_a_reason() -> None:
    assert papers.names() == sorted(PAPERS)
    found = [number for paper in PAPERS for number in numbers(paper)]
    assert len(found) == 717
    assert all((n.missing is None) == bool(n.row and n.metric and n.dataset and n.noise) for n in found)


@pytest.mark.parametrize("paper", PAPERS)
def test_no_two_printed_numbers_of_a_table_are_the_same_cell_and_metric(paper: str) -> None:
    keys = Counter(
        (n.printed["table"], n.cell(0), n.metric, n.printed["dataset"])
        for n in numbers(paper)
        if n.missing is None
    )
    twice = {key for key, count in keys.items() if count > 1}
    if (
        paper == "two_stage"
    ):  # Tables 3 and 4 print cross-entropy as reported by others and as run by themselves
        twice = {key for key in twice if "cross_entropy" not in key[1]}
    assert twice == set()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_and_every_warm_up_is_used(paper: str) -> None:
    found = papers.load(paper)
    used = {n.row for n in found.numbers if n.missing is None}
    assert set(found.params.get("rows")) == used
    profiles = {found.row(n)["warmup"] for n in found.numbers if n.missing is None}
    assert set(found.params.get("warmups")) == profiles


@pytest.mark.parametrize("paper", PAPERS)
def test_every_case_rule_and_metric_fits_a_printed_number(paper: str) -> None:
    """What fits none is a slip of the pen, such as a rate that no table prints."""
    found = papers.load(paper)

    def fits(case: dict[str, object], rows: list[dict[str, object]]) -> bool:
        wanted = case.get("where") or {}
        return any(papers._matches(wanted, row, paper) for row in rows)  # type: ignore[arg-type]

    printed = [dict(n.printed) for n in found.numbers]
    of_rows = {
        name: [dict(n.printed) for n in found.numbers if n.row == name] for name in found.params.get("rows")
    }
    with_cell = [row for rows in of_rows.values() for row in rows]
    entries = [(rule, printed) for rule in found.tables.values["rules"]]
    entries += [(metric, with_cell) for metric in found.tables.values["metrics"]]
    entries += [(case, with_cell) for case in (found.params.get("common") or {}).values()]
    for name, block in found.params.get("rows").items():
        entries += [(case, of_rows[name]) for case in (block.get("cases") or {}).values()]
    assert [case for case, rows in entries if not fits(case, rows)] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_no_matrix_is_estimated_by_an_untrained_network(paper: str) -> None:
    found = papers.load(paper)
    for number in found.numbers:
        if number.missing is None and found.row(number)["method"] in ("forward", "backward"):
            profile = found.params.get(f"warmups.{found.row(number)['warmup']}")
            assert profile["epochs"] > 0, number


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_is_valid_params_of_its_method(paper: str) -> None:
    found = papers.load(paper)
    seen = set()
    for number in found.numbers:
        if number.missing is None:
            row = found.row(number)
            key = json.dumps([row["method"], row["params"]])
            if key not in seen:
                seen.add(key)
                model = methods.load(row["method"]).Params
                config.resolve(model, [config.Layer(row["params"], found.params.path)], number.row)
    for name, values in found.params.get("warmups").items():
        config.resolve(warmup.Params, [config.Layer(values, found.params.path)], name)


def test_rows_whose_numbers_are_known() -> None:
    """DivideMix, Appendix B, Table 7, and the official code at 90 %; Jo-SRC Table 6; SMP Table 3."""

    def params(paper: str, **wanted: object) -> dict[str, object]:
        found = papers.load(paper)
        (first, *_) = [
            n for n in found.numbers if n.missing is None and wanted.items() <= dict(n.printed).items()
        ]
        values: dict[str, object] = found.row(first)["params"]
        return values

    def weight(dataset: str, noise: str, rate: float) -> object:
        about = {"method": "DivideMix", "dataset": dataset, "noise": noise, "rate": rate, "table": "1"}
        return params("scanmix", **about).get("unlabeled_weight", 25.0)

    assert [weight("CIFAR-10", "sym", rate) for rate in (0.2, 0.5, 0.8, 0.9)] == [0, 25, 25, 50]
    assert [weight("CIFAR-100", "sym", rate) for rate in (0.2, 0.5, 0.8, 0.9)] == [25, 150, 150, 150]
    assert weight("CIFAR-10", "asym", 0.4) == 0
    at90 = params("scanmix", method="DivideMix", dataset="CIFAR-100", rate=0.9)
    assert (at90["clean_threshold"], at90["averaged_losses"], at90["epochs"]) == (0.6, 5, 271)
    of_code = {"counting": "code", "teacher_statistics": "batch", "late_beta1": 0.1}
    id_only = of_code | {"trained_on": "id", "consistency_weight": 0.0}
    assert params("jo_src", method="Jo-SRC-CI", table="6") == id_only
    assert params("smp", method="SMP m=320", table="3") == {"samples_per_class": 320}


def test_coverage_page_is_in_step() -> None:
    spec = importlib.util.spec_from_file_location("make_coverage", ROOT / "docs" / "make_coverage.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (ROOT / "docs" / "coverage.md").read_text() == maker.page(), "run python docs/make_coverage.py"


# --------------------------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize("paper", PAPERS)
def test_the_committed_cells_are_the_full_budget_of_one_seed_and_in_step(paper: str) -> None:
    made = paper_cells.read_plan(paper)
    assert (made.budget.name, made.tables, made.seeds) == ("full", (), range(1))


def test_the_committed_shared_cells_are_in_step() -> None:
    committed = yaml.safe_load((ROOT / "papers" / "shared" / "cells.yaml").read_text())
    assert committed == paper_cells.merge_shared(paper_cells.planned())


@pytest.mark.parametrize("paper", PAPERS)
def test_no_command_reads_the_demonstrations_params(paper: str) -> None:
    made = paper_cells.read_plan(paper)
    groups = [*made.cells.values(), *paper_cells.merge_shared([made]).values()]
    commands = [cell["cmd"] for cells in groups for cell in cells.values()]
    assert all("--params-file papers/defaults.yaml" in command for command in commands)
    assert yaml.safe_load((ROOT / "papers" / "defaults.yaml").read_text()) is None


def test_all_papers_have_the_same_dvc_file() -> None:
    assert len({(ROOT / "papers" / paper / "dvc.yaml").read_text() for paper in PAPERS}) == 1


def test_a_changed_row_changes_the_commands_of_its_cells_only(copy: Path) -> None:
    before = paper_cells.Plan(papers.load("scanmix"), FULL, ("1",)).cells
    edit(
        copy / "papers/scanmix/params.yaml",
        "params: {unlabeled_weight: 50.0}",
        "params: {unlabeled_weight: 75.0}",
    )
    after = paper_cells.Plan(papers.load("scanmix"), FULL, ("1",)).cells
    changed = {key for group in before for key in before[group] if before[group][key] != after[group][key]}
    assert changed == {"cifar10-dividemix-sym-incl-90-s0"}


def test_a_second_paper_leaves_the_shared_cells_of_the_first_as_they_are() -> None:
    first = paper_cells.Plan(papers.load("smp"), FULL, ("5",))
    second = paper_cells.Plan(papers.load("jo_src"), FULL, ("4",))
    alone, both = paper_cells.merge_shared([first]), paper_cells.merge_shared([first, second])
    assert alone == both  # the same food101n, prepared once
    wide = paper_cells.merge_shared([first, paper_cells.Plan(papers.load("jo_src"), FULL)])
    assert all(wide[group][name] == cell for group in alone for name, cell in alone[group].items())


def test_one_pretraining_and_one_mining_serve_all_cells_of_a_data_set() -> None:
    shared = paper_cells.merge_shared([paper_cells.Plan(papers.load("scanmix"), FULL)])
    assert set(shared["pretrain"]) == set(shared["knn"]) == {"cifar10", "cifar100", "webvision50"}
    assert len(paper_cells.Plan(papers.load("scanmix"), FULL).cells["train"]) > 80


def test_no_path_is_the_output_of_two_cells() -> None:
    outs: list[str] = []
    for group, cells in paper_cells.merge_shared(paper_cells.planned()).items():
        kinds = {
            "prepare": ("images", "truth"),
            "prepare_given": ("images", "truth", "labels"),
            "prepare_verified": ("images", "truth", "labels", "verified"),
            "noise": ("labels", "facts"),
            "noise_given": ("labels", "facts", "verified"),
            "pretrain": ("encoder", "features"),
        }.get(group, ("out",))
        outs += [cell[kind] for cell in cells.values() for kind in kinds]
    for made in paper_cells.planned():
        outs += [cell["out"] for cells in made.cells.values() for cell in cells.values()]
    assert [path for path, count in Counter(outs).items() if count > 1] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_is_one_that_the_command_line_understands(paper: str) -> None:
    """Every option of a cell is one of its command, and every path that it names is among what it reads or writes."""
    from stages.options import command

    made = paper_cells.read_plan(paper)
    known: dict[str, set[str]] = {}
    for cells in [*made.cells.values(), *paper_cells.merge_shared([made]).values()]:
        for cell in cells.values():
            words = shlex.split(cell["cmd"])
            name = " ".join(words[1:3]) if words[1] == "train-method" else words[1]
            if name not in known:
                known[name] = {
                    flag for p in command(_stage(words)).params for flag in (*p.opts, *p.secondary_opts)
                }
            assert {word for word in words if word.startswith("--")} <= known[name], cell["cmd"]


def _stage(words: list[str]) -> object:
    from stages.cli import COMMANDS

    module = importlib.import_module(COMMANDS[words[1]][0])
    if words[1] == "train-method":
        return module.stage(words[2], methods.modules()[words[2]], "")
    if words[1].startswith("pretrain-"):
        return module.stage(words[1].removeprefix("pretrain-"))
    return module.STAGE


# ------------------------------------------------------------------------------------------------------------- budgets


def test_a_short_budget_shrinks_all_that_is_counted_in_epochs_alike() -> None:
    short = papers.budgets()["short"]
    spec = methods.spec_of("dividemix")
    found = short.shorten({"epochs": 291}, spec)
    assert (found["epochs"], found["decay_epoch"], found["ramp_epochs"]) == (29, 15, 2)
    assert "learning_rate" not in found


def test_what_counts_epochs_goes_by_its_name() -> None:
    """A new parameter counted in epochs under another name would not shrink: here are all there are."""
    names = {
        f.name for m in methods.available() for f in methods.spec_of(m).fields if papers.counts_epochs(f)
    }
    others = {
        f.name
        for m in methods.available()
        for f in methods.spec_of(m).fields
        if not papers.counts_epochs(f) and "epoch" in f.name + f.meaning
    }
    assert {
        "epochs",
        "decay_start",
        "ramp_epochs",
        "decay_period",
        "correction_epoch",
        "start_epoch",
    } <= names
    known = {
        "momentum",
        "late_momentum",
        "averaged_losses",
        "final_temperature",
        "epoch_over",
        "epoch_batches",
    }
    assert others <= known | {"counting", "trained_on"}


def test_full_is_the_papers_own_schedule() -> None:
    assert papers.budgets()["full"].shorten({"epochs": 291}, methods.spec_of("dividemix")) == {"epochs": 291}


# ----------------------------------------------------------------------------------------------------------- bad input


def inputs(paper: str, **given: object) -> plan.Inputs:
    out = papers.HOME / paper / "cells.yaml"
    return plan.Inputs(config.ParamsFile("params.yaml", {}, {}), Layout(), out, paper, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"paper": "scanmx"}, "unknown paper 'scanmx'; did you mean 'scanmix'"),
        ({"paper": "jo_src", "tables": ("7",)}, "jo_src has no table '7'; one of: 1, 2, 3, 4, 5, 6"),
        ({"paper": "jo_src", "budget": "smokey"}, "unknown budget 'smokey'; did you mean 'smoke'"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(given: dict[str, object], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        plan.run(inputs(**given), None, Session(quiet=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "file, old, new, said",
    [
        (
            "params.yaml",
            "averaged_losses: 5",
            "averaged_loses: 5",
            "rows.dividemix.averaged_loses is not a parameter",
        ),
        (
            "params.yaml",
            "backbone: preact_resnet18, epochs: 10}",
            "bakbone: x}",
            "warmups.preact10.bakbone is not",
        ),
        ("params.yaml", "warmup: preact10}", "warmup: preact11}", "no block warmups.preact11; did you mean"),
        (
            "tables.yaml",
            "row: dividemix}",
            "row: devidemix}",
            "no block rows.devidemix; did you mean 'dividemix'",
        ),
        (
            "tables.yaml",
            "{where: {method: MixUp}",
            "{where: {methud: MixUp}",
            "where: asks for 'methud'; did you mean",
        ),
        (
            "tables.yaml",
            "{where: {method: MixUp}",
            "{where: {method: MixUpp}",
            "no rule for table 1, MixUp on CIFAR-10",
        ),
    ],
)
def test_a_wrong_name_in_a_papers_files_is_refused(
    copy: Path, file: str, old: str, new: str, said: str
) -> None:
    edit(copy / "papers" / "scanmix" / file, old, new)
    with pytest.raises(ParamsError, match=said):
        print(paper_cells.Plan(papers.load("scanmix"), FULL, ("1",)).cells)


def test_stale_and_edited_cells_are_refused_with_the_command_that_makes_them(copy: Path) -> None:
    cure = "make it anew with `noisyctl plan smp --budget full --seeds 1`"
    edit(copy / "papers/smp/cells.yaml", "--samples-per-class 320", "--samples-per-class 321")
    with pytest.raises(ParamsError, match=f"was edited by hand; {cure}"):
        paper_cells.read_plan("smp")
    edit(copy / "papers/smp/params.yaml", "samples_per_class: 320", "samples_per_class: 321")
    with pytest.raises(ParamsError, match=f"was made from other files than those there now; {cure}"):
        table.run(table.Inputs((), None, "smp"), None, Session(quiet=True))
    (copy / "papers/smp/cells.yaml").write_text("train: {}\n")
    with pytest.raises(ParamsError, match="does not say what it was made from; make it anew"):
        paper_cells.read_plan("smp")


def test_outside_of_the_project_there_is_a_word_on_where_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="run this in the project's folder, where papers/ lies"):
        plan.run(inputs("smp"), None, Session(quiet=True))


# --------------------------------------------------------------------------------------------------------------- smoke


def test_what_did_not_run_is_missing_in_the_table_and_never_filled(copy: Path) -> None:
    plan.run(inputs("smp", tables=("5",), budget="smoke"), None, Session(device="cpu", quiet=True))
    found = table.run(table.Inputs((), None, "smp"), None, Session(quiet=True))
    assert (found["printed"], found["measured"], found["missing"]) == (4, 0, 4)
    rows = list(csv.DictReader((copy / found["out"] / "table-5.csv").open()))
    assert {row["ours"] for row in rows} == {"-"}
    assert [row["deviations"] for row in rows] == ["not run", *2 * ["method not built: CleanNet"], "not run"]


def test_metrics_of_other_params_are_not_shown(copy: Path) -> None:
    """A row was changed and planned anew; the run of the old one still lies there."""
    made = paper_cells.Plan(papers.load("smp"), FULL, ("5",), 1)
    (number, *_) = [n for n in made.numbers if n.row == "smp"]
    cell = number.cell(0)
    params = paper_cells.options(made.cells["train"][cell]["cmd"], "noisyctl.methods.smp")
    run = {"test_accuracy": {"last": 70.0}, "params": params | {"seed": 0}}
    place = made.metrics(cell) / "metrics.json"
    place.parent.mkdir(parents=True)
    metrics.write(place, {"runs": {"smp/given-s0": run}})
    assert table.compare(made, number).values == [70.0]
    run["params"] = params | {"epochs": 31}
    metrics.write(place, {"runs": {"smp/given-s0": run}})
    shown = tables.comparison([table.compare(made, number)])[1]
    assert (shown[5], shown[-1]) == ("-", "made with other params; run it again")


@pytest.mark.parametrize("paper", PAPERS)
def test_a_smoke_run_of_the_smallest_table_ends_in_a_table(paper: str, copy: Path) -> None:
    """Every cell by its own command, in one process, on digits in the place of the paper's data."""
    session = Session(device="cpu", quiet=True)
    plan.run(inputs(paper, tables=(SMALLEST[paper],), budget="smoke"), None, session)
    made = paper_cells.read_plan(paper)
    shared = paper_cells.merge_shared([made])
    for group in (*(shared[name] for name in paper_cells.SHARED), *made.cells.values()):
        for cell in group.values():
            run_command(cell["cmd"])
    found = table.run(table.Inputs((), None, paper), None, session)
    runnable = [number for number in made.numbers if number.missing is None]
    assert found["measured"] == len(runnable) > 0
    rows = list(csv.DictReader((copy / found["out"] / f"table-{SMALLEST[paper]}.csv").open()))
    ran = [row for row in rows if row["ours"] != "-"]
    assert len(ran) == len(runnable)
    assert {row["budget"] for row in ran} == {"smoke"}
    assert {row["difference"] for row in ran} == {"-"}  # digits are no CIFAR
    assert all(row["data set"].startswith("digits for ") and row["hardware"].startswith("CPU") for row in ran)


def run_command(line: str) -> None:
    from stages.cli import app

    words = shlex.split(line)
    assert words[0] == "noisyctl"
    before = sys.argv
    sys.argv = words
    try:
        app([*words[1:], "--device", "cpu", "--threads", "1", "--json"], standalone_mode=False)
    except NoisyctlError as error:
        raise AssertionError(f"{line}: {error}") from error
    finally:
        sys.argv = before


def test_dvc_runs_a_smoke_budget_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    for name in ("papers", "noisyctl", "stages", "benchmarks/results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".dvcignore").write_text("__pycache__\n*.pyc\n")

    def call(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("dvc", "init", "-q", "--no-scm")
    call("noisyctl", "plan", "two_stage", "--table", "2", "--budget", "smoke")
    target = "papers/two_stage/dvc.yaml"
    assert call("dvc", "repro", target).count("Running stage") == 6
    assert (tmp_path / "data/smoke/papers/two_stage/tables/table-2.md").exists()
    assert "Running stage" not in call("dvc", "repro", target)
