"""The papers: every printed number is accounted for, cells follow from the rows, a smoke run of each ends in a table."""

import csv
import importlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from noisyctl import config, methods
from noisyctl.artifacts import metrics, store, tensor_files
from noisyctl.artifacts.kinds import TRACE
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.layout import Layout
from noisyctl.papers import budgets as budgets_of
from noisyctl.papers import compare, files, project
from noisyctl.papers import printed as papers
from noisyctl.papers.cells import GROUPS, Cell, Cells, merge
from noisyctl.papers.comparison import comparison
from noisyctl.papers.plan import Plan
from noisyctl.params import module_spec
from noisyctl.session import Session
from noisyctl.training import warmup
from stages import plan, table
from stages.warmup import PROFILES

ROOT = Path(__file__).parent.parent
PAPERS = ("jo_src", "mixnn", "scanmix", "smp", "two_stage")
SMALLEST = {"jo_src": "6", "mixnn": "II", "scanmix": "3", "smp": "5", "two_stage": "2"}
FULL = budgets_of.Budget("full")


def shared_of(*plans: Plan) -> Cells:
    """The cells of the work that the runs of these plans share."""
    return merge(cell for one in plans for cell in one.shared())


def full(paper: str) -> Plan:
    """One seed of every table, on the paper's schedule."""
    return Plan(papers.load(paper), FULL, (), 1)


def all_cells(*plans: Plan) -> list[Cell]:
    groups = [*shared_of(*plans).values(), *(group for one in plans for group in one.cells.values())]
    return [cell for group in groups for cell in group.values()]


def numbers(paper: str) -> list[papers.Number]:
    return papers.load(paper).numbers


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """papers/ in a folder of its own, which is the working directory."""
    shutil.copytree(files.PACKAGED, tmp_path / "papers")
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
        (n.printed.table, n.cell(0), n.metric, n.printed.dataset)
        for n in numbers(paper)
        if n.missing is None and not n.label_free  # what has no labels in it is printed under every noise
    )
    twice = {key for key, count in keys.items() if count > 1}
    if (
        paper == "two_stage"
    ):  # Tables 3 and 4 print cross-entropy, on clean labels too, as reported by others and as run by themselves
        twice = {key for key in twice if "cross_entropy" not in key[1] and key[0] != "4 row 10"}
    assert twice == set()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_and_every_warm_up_is_used(paper: str) -> None:
    found = papers.load(paper)
    used = {n.row for n in found.readings if n.missing is None}
    assert set(found.params.get("rows")) == used
    profiles = {found.row(n).warmup for n in found.readings if n.missing is None and not n.label_free}
    assert set(found.params.get("warmups")) == profiles


@pytest.mark.parametrize("paper", PAPERS)
def test_every_case_rule_and_metric_fits_a_printed_number(paper: str) -> None:
    """What fits none is a slip of the pen, such as a rate that no table prints."""
    found = papers.load(paper)

    def fits(case: dict[str, object], rows: list[papers.PrintedRow]) -> bool:
        wanted = case.get("where") or {}
        return any(papers.matches(wanted, row, paper) for row in rows)  # type: ignore[arg-type]

    printed = [n.printed for n in found.numbers]
    of_rows = {
        name: [n.printed for n in found.readings if n.row == name] for name in found.params.get("rows")
    }
    with_cell = [row for rows in of_rows.values() for row in rows]
    entries = [(rule, printed) for rule in found.tables.values["rules"]]
    entries += [(metric, with_cell) for metric in found.tables.values["metrics"]]
    entries += [(case, with_cell) for case in found.tables.values.get("noise_cases") or []]
    entries += [(case, with_cell) for case in (found.params.get("common") or {}).values()]
    for name, block in found.params.get("rows").items():
        entries += [(case, of_rows[name]) for case in (block.get("cases") or {}).values()]
    assert [case for case, rows in entries if not fits(case, rows)] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_no_matrix_is_estimated_by_an_untrained_network(paper: str) -> None:
    found = papers.load(paper)
    for number in found.numbers:
        row = found.row(number) if number.missing is None else None
        if row and row.method in ("forward", "backward") and not row.verified:
            profile = found.params.get(f"warmups.{row.warmup}")
            assert profile["epochs"] > 0 or row.params.get("estimation_epochs", 0) > 0, number


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_is_valid_params_of_its_method(paper: str) -> None:
    found = papers.load(paper)
    seen = set()
    for number in found.numbers:
        if number.missing is None and not number.label_free:
            row = found.row(number)
            key = json.dumps([row.method, row.params])
            if key not in seen:
                seen.add(key)
                model = methods.load(row.method).Params
                config.resolve(model, [config.Layer(row.params, found.params.path)], number.row)
    for name, values in found.params.get("warmups").items():
        config.resolve(warmup.Params, [config.Layer(values, found.params.path)], name)


def test_rows_whose_numbers_are_known() -> None:
    """DivideMix, Appendix B, Table 7, and the official code at 90 %; Jo-SRC Table 6; SMP Table 3."""

    def params(paper: str, **wanted: object) -> dict[str, object]:
        found = papers.load(paper)
        (first, *_) = [
            n for n in found.numbers if n.missing is None and wanted.items() <= asdict(n.printed).items()
        ]
        values: dict[str, object] = found.row(first).params
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


def test_another_reading_of_a_row_stands_beside_its_number_and_counts_for_none() -> None:
    found = papers.load("two_stage")
    beside = [n for n in found.readings if n.beside]
    assert {n.row for n in beside} == {"two_stage_consistent"} and len(beside) == 8
    assert len(found.readings) == len(found.numbers) + 8
    first = found.readings.index(beside[0])
    assert found.readings[first - 1].printed.value == beside[0].printed.value
    assert beside[0].printed.method == "Two-Stage, all consistent labels kept"
    assert found.row(beside[0]).params["keep_rate"] == 1.0
    made = Plan(found, FULL, ("3",))
    assert {n.cell(0) for n in beside} <= set(made.cells["train"])
    assert project.counts(made)["numbers"] == 88


def test_two_stage_table_3_is_run_as_its_sources_say() -> None:
    """Patrini et al. restore the epoch of least validation loss; the improved baseline's is chosen on refined labels."""
    found = papers.load("two_stage")
    of = {(n.printed.method, n.printed.dataset): n for n in found.numbers if n.printed.table == "3"}
    assert all(number.missing is None for number in of.values())
    loss = {
        method for (method, _), n in of.items() if n.metric == "test_accuracy.least_noisy_validation_loss"
    }
    assert loss == {method for method, _ in of} - {
        "cross-entropy (own run)",
        "improved baseline",
        "Two-Stage",
    }
    baseline = of["improved baseline", "MNIST"]
    assert baseline.metric == "test_accuracy.stage1_best_on_refined_validation"
    params = found.row(baseline).params
    assert (params["epochs"], params["stage1_epochs"], params["optimizer"]) == (80, 40, "adagrad")
    assert found.row(of["unhinged (BN)", "MNIST"]).warmup == "mlp_bn"
    corrected = found.row(of["forward (estimated T)", "CIFAR-10"]).params
    assert (corrected["epochs"], corrected["estimation_epochs"], corrected["decayed"]) == (
        240,
        120,
        "kernels",
    )


@pytest.mark.parametrize("paper", PAPERS)
def test_a_row_that_has_the_name_of_a_method_is_that_method(paper: str) -> None:
    rows = papers.load(paper).params.get("rows")
    others = [
        name for name, row in rows.items() if name != row.get("method")
    ]  # SCAN's clusters are of no method
    assert set(others).isdisjoint([*methods.available(), *methods.RENAMED])


def test_no_row_is_called_by_a_former_name() -> None:
    loaded = [papers.load(name) for name in PAPERS]
    rows = [one.row(n) for one in loaded for n in one.numbers if n.missing is None and not n.label_free]
    assert {row.method for row in rows} <= set(methods.available())


def test_scanmix_table_4_is_its_code_without_the_clustering_and_webvision_clusters_on_strong_views() -> None:
    paper = papers.load("scanmix")
    rows = {}
    for number in paper.of_tables(["4"]):
        if number.missing is None:
            rows[number.row, number.dataset, number.noise] = paper.row(number)
    with_clusters = {key[1:]: row for key, row in rows.items() if key[0] == "scanmix"}
    without = {key[1:]: row for key, row in rows.items() if key[0] == "scanmix_classification"}
    assert len(without) == len(with_clusters) == 10
    for key, row in without.items():
        whole = with_clusters[key]
        assert (row.method, row.warmup) == ("scanmix", whole.warmup)
        assert row.params == whole.params | {"terms": "classification"}
        assert "clean_threshold" not in row.params  # 0.5 at 90 % too, unlike DivideMix's row
    (webvision,) = [n for n in paper.of_tables(["3"]) if n.row == "scanmix"]
    found = paper.row(webvision)
    assert found.params["cluster_views"] == "strong" and found.params["noise_threshold"] == 1.0
    assert not [text for text in found.deviations if "views" in text]


def test_webvision_s_label_free_work_is_that_of_scanmix_s_code() -> None:
    block = files.read(files.home() / "shared" / "params.yaml").get("datasets.webvision50")
    assert block["knn"] == {"k": 20, "space": "features"}  # 50 are mined there, 20 used
    assert block["scan"] == {"include_self": True, "epochs": 100, "batch_size": 256, "views": "simclr"}
    queue = next(f for f in module_spec("noisyctl.pretraining.moco").fields if f.name == "queue_size")
    assert queue.default == 65536 and "queue_size" not in block["moco"]


@pytest.mark.parametrize(
    ("paper", "profile", "expected"),
    [
        ("scanmix", "webvision1", {"learning_rate": 0.01, "batch_size": 64, "weight_decay": 5e-4}),
        ("scanmix", "webvision1_scan", {"learning_rate": 0.02, "batch_size": 128, "train": "head"}),
        ("mixnn", "resnet34_10", {"weight_decay": 1e-3, "period": 10, "floor_rate": 1e-3, "epochs": 10}),
        ("mixnn", "resnet34_30", {"weight_decay": 1e-3, "period": 10, "floor_rate": 1e-3, "epochs": 30}),
        ("mixnn", "official_9", {"weight_decay": 1e-3, "period": 10, "views": "plain", "epochs": 9}),
        ("mixnn", "official_29", {"weight_decay": 1e-3, "period": 10, "views": "plain", "epochs": 29}),
        (
            "mixnn",
            "clothing1m",
            {"weight_decay": 1e-3, "epoch_batches": 2000, "batch_size": 64, "period": 10, "floor_rate": 1e-4},
        ),
        ("mixnn", "webvision", {"learning_rate": 0.01, "batch_size": 32, "period": 10, "floor_rate": 1e-3}),
    ],
)
def test_warm_ups_are_as_the_codes_and_texts_have_them(
    paper: str, profile: str, expected: dict[str, object]
) -> None:
    values = papers.load(paper).params.get(f"warmups.{profile}")
    found, _ = config.resolve(warmup.Params, [config.Layer(values, paper)], profile)
    assert expected.items() <= found.model_dump().items()


def test_mixnn_s_rows_are_the_code_with_its_noise_or_the_text_with_its_own() -> None:
    """Tables I and V are the code's; Table IV, on whose other rows there is no code, the text's; real noise the text's."""
    paper = papers.load("mixnn")
    seen = set()
    for number in paper.numbers:
        row = paper.row(number) if number.missing is None else None
        if row is None or row.method not in ("mixnn", "mixnn_official"):
            continue
        table, noise = number.printed.table, number.noise.rpartition("-")[0]
        seen.add((table, row.method, number.dataset, noise or number.noise))
        if row.method == "mixnn_official":
            assert row.params.get("averaged_losses", 1) == (5 if number.printed.rate == 0.8 else 1)
    assert seen == {
        *(
            (table, "mixnn_official", dataset, noise)
            for table in ("I", "V")
            for dataset, noises in (
                ("cifar10", ("sym-incl", "asym10")),
                ("cifar100", ("sym-incl", "asym100")),
            )
            for noise in noises
        ),
        ("IV (ablation)", "mixnn", "cifar10", "sym-excl"),
        ("IV (ablation)", "mixnn", "cifar10", "asym10-iid"),
        ("IV (ablation)", "mixnn", "cifar100", "sym-excl"),
        ("IV (ablation)", "mixnn", "cifar100", "asym100-super"),
        ("II", "mixnn", "clothing1m_noisy", "given"),
        ("III", "mixnn", "webvision50", "given"),
    }


def test_mixnn_trains_300_epochs_in_all_and_200_on_clothing1m() -> None:
    paper = papers.load("mixnn")
    for number in paper.numbers:
        if number.missing is None and (row := paper.row(number)).method.startswith("mixnn"):
            default = {f.name: f.default for f in methods.spec_of(row.method).fields}
            before = paper.params.get(f"warmups.{row.warmup}")["epochs"]
            total = before + row.params.get("epochs", default["epochs"])
            assert total == (200 if number.dataset == "clothing1m_noisy" else 300), number.cell(0)
    alone = {name: methods.load(name).Params().epochs for name in ("mixnn", "mixnn_official")}
    assert alone == {"mixnn": 300 - warmup.Params().epochs, "mixnn_official": 300 - 9}


def test_coverage_page_is_in_step() -> None:
    spec = importlib.util.spec_from_file_location("make_coverage", ROOT / "docs" / "make_coverage.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (ROOT / "docs" / "coverage.md").read_text() == maker.page(), "run python docs/make_coverage.py"


# --------------------------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize("paper", PAPERS)
def test_no_command_reads_the_demonstrations_params(paper: str) -> None:
    assert all("--params-file plans/defaults.yaml" in cell.command for cell in all_cells(full(paper)))
    assert yaml.safe_load(project.EMPTY) is None


def test_a_changed_row_changes_the_commands_of_its_cells_only(copy: Path) -> None:
    before = Plan(papers.load("scanmix"), FULL, ("1",)).cells
    edit(
        copy / "papers/scanmix/params.yaml",
        "params: {unlabeled_weight: 50.0}",
        "params: {unlabeled_weight: 75.0}",
    )
    after = Plan(papers.load("scanmix"), FULL, ("1",)).cells
    changed = {key for group in before for key in before[group] if before[group][key] != after[group][key]}
    assert changed == {"cifar10-dividemix-sym-incl-90-s0"}


def test_a_second_paper_leaves_the_shared_cells_of_the_first_as_they_are() -> None:
    first = Plan(papers.load("smp"), FULL, ("5",))
    second = Plan(papers.load("jo_src"), FULL, ("4",))
    alone, both = shared_of(first), shared_of(first, second)
    assert alone == both  # the same food101n, prepared once
    wide = shared_of(first, Plan(papers.load("jo_src"), FULL))
    assert all(wide[group][name] == cell for group in alone for name, cell in alone[group].items())


def test_one_pretraining_and_one_mining_serve_all_cells_of_a_data_set() -> None:
    shared = shared_of(Plan(papers.load("scanmix"), FULL))
    assert set(shared["pretrain"]) == set(shared["knn"]) == {"cifar10", "cifar100", "webvision50"}
    assert len(Plan(papers.load("scanmix"), FULL).cells["train"]) > 80


def test_no_path_is_the_output_of_two_cells() -> None:
    outs = [path for cell in all_cells(*map(full, PAPERS)) for path in cell.outputs]
    assert [path for path, count in Counter(outs).items() if count > 1] == []
    assert len(outs) > 900


@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_is_one_that_the_command_line_understands(paper: str) -> None:
    """Every option of a cell is one of its command."""
    from noisyctl.cli.options import click_command

    known: dict[str, set[str]] = {}
    for cell in all_cells(full(paper)):
        words = shlex.split(cell.command)
        name = " ".join(words[1:3]) if words[1] == "train-method" else words[1]
        if name not in known:
            known[name] = {
                flag for p in click_command(_stage(words)).params for flag in (*p.opts, *p.secondary_opts)
            }
        assert {word for word in words if word.startswith("--")} <= known[name], cell.command


def _stage(words: list[str]) -> object:
    from noisyctl.cli.commands import stage_named

    return stage_named(words[1:])


# ------------------------------------------------------------------------------------------------------------- budgets


def test_a_short_budget_shrinks_all_that_is_counted_in_epochs_alike() -> None:
    short = budgets_of.budgets()["short"]
    spec = methods.spec_of("dividemix")
    found = short.shorten({"epochs": 291}, spec)
    assert (found["epochs"], found["decay_epoch"], found["ramp_epochs"]) == (29, 15, 2)
    assert "learning_rate" not in found


def test_what_counts_epochs_goes_by_its_name() -> None:
    """A new parameter counted in epochs under another name would not shrink: here are all there are."""
    names = {
        f.name for m in methods.available() for f in methods.spec_of(m).fields if budgets_of.counts_epochs(f)
    }
    others = {
        f.name
        for m in methods.available()
        for f in methods.spec_of(m).fields
        if not budgets_of.counts_epochs(f) and "epoch" in f.name + f.meaning
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
        "schedule",
    }
    assert others <= known | {"counting", "trained_on", "schedule"}


def test_full_is_the_papers_own_schedule() -> None:
    assert budgets_of.budgets()["full"].shorten({"epochs": 291}, methods.spec_of("dividemix")) == {
        "epochs": 291
    }


# ----------------------------------------------------------------------------------------------------------- bad input


def inputs(paper: str, **given: object) -> plan.Inputs:
    out = project.PLANS / paper
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
        (
            "../printed.yaml",
            "std: null",
            "stf: null",
            "printed.yaml: row 1: 'stf' is not a key here; did",
        ),
        ("../printed.yaml", "std: null, ", "", "printed.yaml: row 1: 'std' is missing; write null where"),
    ],
)
def test_a_wrong_name_in_a_papers_files_is_refused(
    copy: Path, file: str, old: str, new: str, said: str
) -> None:
    edit(copy / "papers" / "scanmix" / file, old, new)
    with pytest.raises(ParamsError, match=said):
        print(Plan(papers.load("scanmix"), FULL, ("1",)).cells)


def test_stale_and_edited_cells_are_refused_with_the_command_that_makes_them(copy: Path) -> None:
    cells = project.path_of("smp")
    with pytest.raises(ParamsError, match="smp is not planned yet; plan it with `noisyctl plan smp`"):
        project.read_plan("smp")
    project.write(full("smp"), PROFILES)
    cure = "make it anew with `noisyctl plan smp --budget full --seeds 1`"
    edit(cells, "--samples-per-class 320", "--samples-per-class 321")
    with pytest.raises(ParamsError, match=f"was edited by hand; {cure}"):
        project.read_plan("smp")
    edit(copy / "papers/smp/params.yaml", "samples_per_class: 320", "samples_per_class: 321")
    with pytest.raises(ParamsError, match=f"was made from other files than those there now; {cure}"):
        table.run(table.Inputs((), None, "smp"), None, Session(quiet=True))
    cells.write_text("train: {}\n")
    with pytest.raises(ParamsError, match="does not say what it was made from; make it anew"):
        project.read_plan("smp")


def test_a_sweep_plans_by_itself_and_keeps_what_was_chosen(copy: Path) -> None:
    def about() -> tuple[object, ...]:
        values = files.read_fast(project.path_of("smp"))["about"]
        return values["tables"], values["budget"], values["seeds"]

    def prepare(target: str, *choice: object) -> str:
        return project.prepare(target, project.Choice(*choice), PROFILES)  # type: ignore[arg-type]

    assert prepare("smp", ("5",), "smoke", 2) == "plans/smp/dvc.yaml"
    assert about() == (["5"], "smoke", 2)
    state = files.read_fast(project.path_of("smp"))["about"]["state"]
    edit(copy / "papers/smp/params.yaml", "samples_per_class: 320", "samples_per_class: 321")
    # what was chosen stays, and the cells are those of the files that there are now
    for target in ("smp", "papers/smp", "plans/smp", "plans/smp/dvc.yaml"):
        assert prepare(target) == "plans/smp/dvc.yaml"
    assert about() == (["5"], "smoke", 2)
    assert files.read_fast(project.path_of("smp"))["about"]["state"] != state
    assert prepare("smp:train@a") == "plans/smp/dvc.yaml:train@a"
    assert prepare("smp", (), "full") == "plans/smp/dvc.yaml" and about() == ([], "full", 1)
    for other in ("dvc.yaml", "dvc.yaml:a", "a", "some/dvc.yaml", ""):
        assert prepare(other) == other
    with pytest.raises(
        ParamsError, match="choose what of a paper is run, and 'scanmx' is none; did you mean"
    ):
        prepare("scanmx", ("1",))


def test_shared_work_of_two_papers_is_planned_once_and_that_of_the_first_stays(copy: Path) -> None:
    project.write(Plan(papers.load("smp"), FULL, ("5",)), PROFILES)
    before = files.read_fast(project.path_of("shared"))
    project.write(Plan(papers.load("jo_src"), FULL, ("1",)), PROFILES)
    after = files.read_fast(project.path_of("shared"))
    assert before["prepare_verified"].items() <= after["prepare_verified"].items()
    assert set(after["prepare"]) == {"cifar100", "cifar100_unit"}


@pytest.mark.parametrize("table", ["3", "4"])
def test_the_smoke_budget_has_symmetric_noise_in_the_place_of_label_files(table: str, copy: Path) -> None:
    """ScanMix Table 4 has semantic noise from files, whose `file` symmetric noise does not know."""
    made = Plan(papers.load("scanmix"), budgets_of.budgets()["smoke"], (table,))
    assert all(cell.command for cell in all_cells(made))
    noises = shared_of(made)["noise"]
    assert len(noises) == {"3": 0, "4": 10}[table]
    semantic = [cell for name, cell in noises.items() if "semantic" in name]
    assert all("--kind symmetric --" in c.command and "--file" not in c.command for c in semantic)


def test_an_empty_folder_has_the_packaged_papers_and_papers_of_ones_own_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").mkdir()  # of PDFs, say
    (tmp_path / "papers" / "ours.pdf").touch()
    assert papers.names() == sorted(PAPERS)
    packaged = Plan(papers.load("smp"), FULL)
    assert packaged.paper.params.path == str(files.PACKAGED / "smp" / "params.yaml")
    project.write(packaged, PROFILES)
    assert [(project.PLANS / source).is_file() for source in packaged.about["sources"]] == [True] * 3
    state = packaged.about["state"]

    shutil.copytree(files.PACKAGED, tmp_path / "papers", dirs_exist_ok=True)
    edit(tmp_path / "papers/smp/params.yaml", "samples_per_class: 320", "samples_per_class: 321")
    own = Plan(papers.load("smp"), FULL)
    assert own.paper.params.path == "papers/smp/params.yaml"
    assert own.about["state"] != state
    assert own.about["sources"] == ["papers/printed.yaml", "papers/smp/tables.yaml", "papers/smp/params.yaml"]
    (tmp_path / "papers/shared/params.yaml").unlink()
    with pytest.raises(
        ParamsError, match=r"papers/shared/params\.yaml does not exist; put it there, or move"
    ):
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
    made = Plan(papers.load("smp"), FULL, ("5",), 1)
    (number, *_) = [n for n in made.numbers if n.row == "smp"]
    cell = number.cell(0)
    params = made.cells["train"][cell].resolved
    run = {"test_accuracy": {"last": 70.0}, "params": params | {"seed": 0}}
    place = made.metrics(cell) / "metrics.json"
    place.parent.mkdir(parents=True)
    metrics.write(place, {"runs": {"smp/given-s0": run}})
    assert compare.compare(made, number).values == [70.0]
    run["params"] = params | {"epochs": 31}
    metrics.write(place, {"runs": {"smp/given-s0": run}})
    shown = comparison([compare.compare(made, number)])[1]
    assert (shown[5], shown[-1]) == ("-", "made with other params; run it again")


def test_a_run_from_a_warm_up_of_other_params_is_not_shown(copy: Path) -> None:
    """The row is as it was; the warm-up's profile was changed, or the warm-up was made anew after the run."""
    made = Plan(papers.load("smp"), FULL, ("5",), 1)
    (number, *_) = [n for n in made.numbers if n.row == "smp"]
    planned = made.cells["train"][number.cell(0)]
    (cell,) = [c for c in made.cells["warmup"].values() if c.out == planned.reads["warmup"]]
    profile = cell.resolved

    def warm_up(changed: dict[str, object]) -> str:
        out, about = cell.out, {"method": "warmup", "class_names": ["a"]}
        arrays = {"train_id": np.array(["x"]), "noisy_labels": np.array([0])}
        params = profile | {"weights": "resnet50.pth"} | changed
        store.write(out / "trace.zarr", TRACE, arrays, params=params, inputs={}, attributes=about)
        return tensor_files.write(out / "networks.safetensors", {"w": torch.zeros(1)}, {"params": params})

    def shown(digest: str) -> object:
        run = {"test_accuracy": {"last": 70.0}, "inputs": {"warmup": digest}}
        run["params"] = planned.resolved
        place = made.metrics(number.cell(0)) / "metrics.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        metrics.write(place, {"runs": {"smp/x": run}})
        found = compare.compare(made, number)
        return found.values or found.missing

    assert shown("any") == [70.0]  # the warm-up was removed: nobody can tell
    digest = warm_up({})
    assert shown(digest) == [70.0]
    assert shown("of another warm-up") == "made with other params; run it again"
    digest = warm_up({"learning_rate": 0.5})
    assert shown(digest) == "made with other params; run it again"


def test_seeds_whose_params_changed_are_left_out_and_counted(copy: Path) -> None:
    made = Plan(papers.load("smp"), FULL, ("5",), 3)
    (number, *_) = [n for n in made.numbers if n.row == "smp"]
    for seed, changed in ((0, {}), (1, {"epochs": 31}), (2, {})):
        params = made.cells["train"][number.cell(seed)].resolved
        run = {"test_accuracy": {"last": 70.0 + seed}, "params": params | changed}
        place = made.metrics(number.cell(seed)) / "metrics.json"
        place.parent.mkdir(parents=True)
        metrics.write(place, {"runs": {"smp/x": run}})
    head, shown = comparison([compare.compare(made, number)])
    row = dict(zip(head, shown, strict=True))
    assert (row["ours"], row["seeds"]) == ("71.00 ± 1.41", "2 of 3")  # 70 and 72
    assert row["deviations"].startswith("1 of 3 runs left out: made with other params; run it again")


# ------------------------------------------------------------------------------------------------------ rows and papers


def of(paper: str, **wanted: object) -> list[papers.Number]:
    return [n for n in numbers(paper) if wanted.items() <= asdict(n.printed).items()]


def test_at_least_572_printed_numbers_have_a_cell_and_none_with_settings_of_another_data_set() -> None:
    found = [n for paper in PAPERS for n in numbers(paper)]
    assert sum(n.missing is None for n in found) >= 572
    for method in ("M-correction", "Joint-Optim", "P-correction"):
        (number,) = of("jo_src", table="3", method=method)
        assert number.missing and "settings not known" in number.missing
    (number,) = of("smp", method="Joint Optim.")
    assert number.missing and "settings not known" in number.missing


def test_one_million_noisy_images_are_those_alone_and_checked_ones_are_there_where_they_are_used() -> None:
    """Clothing1M: which images each row trains on."""
    expected = {
        "smp": {
            "1 row 1": "noisy",
            "1 row 2": "noisy",
            "1 row 5": "noisy",
            "1 row 6": "both",
            "1 row 9": "both",
        }
        | {"1 row 10": "all", "1 row 13": "all", "2": "both"},
        "jo_src": {},
        "mixnn": {"II": "noisy"},
        "two_stage": {"4 row 4": "noisy", "4 row 5": "noisy", "4 row 7": "noisy", "4 row 8": "both"}
        | {f"4 row {row}": "clean" for row in (10, 11, 12, 13)},
    }
    for paper, tables_ in expected.items():
        for name, variant in tables_.items():
            found = {n.dataset for n in of(paper, table=name, dataset="Clothing1M") if n.missing is None}
            assert found == {f"clothing1m_{variant}"}, (paper, name)
    for number in of("smp", table="3"):
        checked = "verify" in number.printed.note
        assert number.dataset == ("clothing1m_both" if checked else "clothing1m_noisy")
        assert papers.load("smp").row(number).verified == checked
    for number in of("jo_src", table="3"):
        if number.missing is None:
            own = number.printed.method == "Jo-SRC"
            assert number.dataset == ("clothing1m_all" if own else "clothing1m_noisy")


def test_the_cells_of_a_variant_prepare_it_and_ask_for_checked_labels_only_where_it_has_some() -> None:
    made = Plan(papers.load("smp"), FULL, ("1",))
    shared = shared_of(made)
    assert set(shared["prepare_given"]) == {"clothing1m_noisy"}
    assert set(shared["prepare_verified"]) == {"clothing1m_both", "clothing1m_all"}
    for name, cell in (shared["prepare_given"] | shared["prepare_verified"]).items():
        assert f"--train {name.removeprefix('clothing1m_')} " in cell.command
    asks = {key: "--verified" in cell.command for key, cell in made.cells["evaluate"].items()}
    assert asks == {key: "clothing1m_noisy" not in key for key in asks}


def test_fine_tuning_starts_from_the_run_of_another_row_which_is_planned_with_it(copy: Path) -> None:
    """Two-Stage Table 4, row 13: the network of row 8 on the 50K clean images."""
    made = Plan(papers.load("two_stage"), FULL, ("4 row 13",))
    assert set(made.cells["train"]) == {
        "clothing1m_clean-finetuned_verified-given-s0",
        "clothing1m_both-two_stage_verified-given-s0",
    }
    warm = made.cells["warmup"]["clothing1m_clean-resnet50_of_verified-given-s0"]
    source = made.cells["train"]["clothing1m_both-two_stage_verified-given-s0"].out
    assert warm.depends["start"] == source
    assert f"--run {source} " in warm.command and "--start run" in warm.command
    shared = shared_of(made)
    assert set(shared["prepare_given"]) == {"clothing1m_clean"}
    assert set(shared["prepare_verified"]) == {"clothing1m_both"}
    assert project.counts(made)["numbers"] == 1
    edit(copy / "papers/two_stage/params.yaml", "{row: two_stage_verified,", "{row: two_stage_verifed,")
    with pytest.raises(
        ParamsError, match=r"rows\.finetuned_verified starts from .* which is no printed number's"
    ):
        print(Plan(papers.load("two_stage"), FULL, ("4",)).cells)


def test_smp_initial_is_what_the_prototypes_say_of_test_images() -> None:
    found = of("smp", table="3", metric="correction_accuracy_initial")
    assert len(found) == 8 and {n.metric for n in found} == {"test_accuracy_of.prototypes.initial"}
    (label,) = of("smp", table="2", metric="correct_initial")
    assert label.metric == "label_accuracy.initial"


def test_copied_baselines_have_jocor_s_protocol_and_only_jo_src_s_own_numbers_the_oracle() -> None:
    found = papers.load("jo_src")
    for number in of("jo_src", table="1"):
        own = number.printed.method == "Jo-SRC"
        assert number.dataset == ("cifar100" if own else "cifar100_unit")
        both = "test_accuracy_of.both_networks.mean_last_10"
        assert number.metric == ("test_accuracy.mean_last_10" if own else both)
    for number in (*of("jo_src", table="3"), *of("jo_src", table="4")):
        if number.missing is None:
            assert ("oracle" in number.metric) == (number.printed.method == "Jo-SRC"), number.printed
    standard = found.row(of("jo_src", table="1", method="Standard")[0])
    assert (standard.method, standard.params["assumed_noise_rate"]) == ("co_teaching", 0.0)
    shared = shared_of(Plan(found, FULL, ("1",)))
    assert "--pixels unit" in shared["prepare"]["cifar100_unit"].command
    assert "--pixels" not in shared["prepare"]["cifar100"].command


def test_scan_s_rows_are_one_probe_of_the_shared_clusters_without_a_run() -> None:
    found = [n for n in numbers("scanmix") if n.row == "scan"]
    assert len(found) == 16  # ten of the rerun, six published
    assert {n.cell(7) for n in found} == {"cifar10-scan", "cifar100-scan"}
    made = Plan(papers.load("scanmix"), FULL, ("4",))
    assert not [
        key
        for key in made.cells["train"]
        if "scan-" in key and "dividemix" not in key and "scanmix" not in key
    ]
    cell = made.cells["evaluate"]["cifar10-scan"]
    assert cell.depends["run"] == Path("data/cifar10/simclr/clusters.safetensors")
    assert "--encoder data/cifar10/simclr" in cell.command and "--run" not in cell.command


def test_params_come_from_the_cell_and_not_from_its_command(copy: Path) -> None:
    """A bool is an option without a value: read back from the command it was the word that follows."""
    made = Plan(papers.load("scanmix"), FULL, ("4",))
    shared = shared_of(made)
    cluster, pretrain = shared["cluster"]["cifar10"], shared["pretrain"]["cifar10"]
    assert "--include-self --seed" in cluster.command
    wanted = cluster.resolved
    assert wanted["include_self"] is True
    (number, *_) = [n for n in made.numbers if n.row == "scan" and n.dataset == "cifar10"]
    probe = {
        "clustering_accuracy": 80.0,
        "encoder_params": pretrain.resolved | {"seed": 0},
        "clusters_params": wanted
        | {"num_clusters": 10, "seed": 0, "threads": 1},  # as cluster-scan records it
    }
    place = made.metrics(number.cell(0)) / "metrics.json"
    place.parent.mkdir(parents=True)
    metrics.write(place, {"runs": {}, "knn_probe": probe})
    assert compare.compare(made, number).values == [80.0]
    for changed in ({"clusters_params": wanted | {"include_self": False}}, {"encoder_params": {"epochs": 3}}):
        metrics.write(place, {"runs": {}, "knn_probe": probe | changed})
        assert compare.compare(made, number).missing == "made with other params; run it again"


@pytest.mark.parametrize("paper", PAPERS)
def test_every_cell_s_params_are_those_of_its_command(paper: str) -> None:
    """Through the command line: what the command resolves to is what the cell says."""
    seen = set()
    for cell in all_cells(full(paper)):
        key = json.dumps([cell.module, dict(cell.params)])
        if cell.spec is None or key in seen:
            continue
        seen.add(key)
        words = shlex.split(cell.command)
        given = dict(zip(words, [*words[1:], ""], strict=True))
        for spec in cell.spec.fields:
            if spec.annotation == "bool":
                said = True if spec.option in words else False if spec.off in words else spec.default
            else:
                said = config.read_scalar(given[spec.option]) if spec.option in given else spec.default
            value = cell.resolved[spec.name]
            assert said == value or str(said) == str(value), (cell.command, spec.name)


PLUGIN = '''"""A method with a switch."""
from noisyctl.params import MethodParams, param

class Params(MethodParams):
    cosine: bool = param(True, "decay on a cosine")
    epochs: int = param(3, "epochs")
'''


@pytest.mark.parametrize("value, option", [(False, "--no-cosine"), (True, "--cosine")])
def test_a_row_s_bool_reaches_the_command_and_comes_back_as_it_was(
    value: bool, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cosine: false` in a row: the command as it is typed gives the params that the table compares a run with."""
    from noisyctl.cli.options import click_command
    from noisyctl.cli.stage import Stage

    (tmp_path / "switched.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("")
    cell = Cell(
        "c",
        "switched",
        Path("out"),
        module="switched",
        params={"cosine": value, "epochs": 5},
        params_file=Path("empty.yaml"),
    )
    words = shlex.split(cell.command)
    assert words[2:5] == [option, "--epochs", "5"]
    ran: list[dict[str, object]] = []
    stage = Stage(
        name="switched",
        summary="",
        example="",
        run=lambda inputs, params, session: ran.append(params.model_dump()) or {},
        inputs=lambda given, layout, extra: None,
        params=lambda file, layout, given: ("methods.switched", "switched"),
        fields=("switched",),
    )
    click_command(stage)(words[2 : words.index("--out")], standalone_mode=False)
    (params,) = ran
    assert params == cell.resolved
    assert yaml.safe_load(yaml.safe_dump(cell.as_yaml(GROUPS["prepare"])))["params"]["cosine"] is value


@pytest.mark.parametrize("paper", PAPERS)
def test_a_smoke_run_of_the_smallest_table_ends_in_a_table(paper: str, copy: Path) -> None:
    """The cells of the last two rows by their own commands, in one process, on digits in the place of the paper's data."""
    session = Session(device="cpu", quiet=True)
    plan.run(inputs(paper, tables=(SMALLEST[paper],), budget="smoke"), None, session)
    made = project.read_plan(paper)
    runnable = [number for number in made.numbers if number.missing is None]
    rows = list(dict.fromkeys(number.row for number in runnable))[-2:]
    chosen = [number for number in runnable if number.row in rows]
    shared = [cell for group in shared_of(made).values() for cell in group.values()]
    of_numbers = {
        (group, cell.name): cell
        for group in ("warmup", "train", "evaluate")
        for number in chosen
        for of, cell in made.cells_of(number, 0)
        if of == group
    }
    for cell in [*shared, *of_numbers.values()]:
        run_command(cell.command)
    found = table.run(table.Inputs((), None, paper), None, session)
    assert found["measured"] == len(chosen) > 0
    told = list(csv.DictReader((copy / found["out"] / f"table-{SMALLEST[paper]}.csv").open()))
    ran = [row for row in told if row["ours"] != "-"]
    assert len(ran) == len(chosen)
    assert {row["budget"] for row in ran} == {"smoke"}
    assert {row["difference"] for row in ran} == {"-"}  # digits are no CIFAR
    assert all(row["data set"].startswith("digits for ") and row["hardware"].startswith("CPU") for row in ran)


def run_command(line: str) -> None:
    from noisyctl.cli.main import app

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


def test_dvc_runs_a_smoke_budget_and_what_changes_outside_of_its_folder_makes_it_stale(
    tmp_path: Path,
) -> None:
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = dict(os.environ) | {"PYTHONPATH": str(tmp_path), "NOISYCTL_SCRATCH": ".noisyctl"}

    def call(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    repro = ("dvc", "--cd", "plans", "repro", "two_stage/dvc.yaml")
    call("dvc", "init", "-q", "--no-scm")
    call("dvc", "remote", "add", "-d", "shelf", "shelf")
    call("noisyctl", "plan", "two_stage", "--table", "2", "--budget", "smoke")
    assert call(*repro).count("Running stage") == 6
    assert (tmp_path / "data/smoke/papers/two_stage/tables/table-2.md").exists()
    assert "Running stage" not in call(*repro)
    # compiled code of another Python is no change, and neither is planning again
    (tmp_path / "noisyctl/nn/__pycache__").mkdir(exist_ok=True)
    (tmp_path / "noisyctl/nn/__pycache__/x.cpython-399.pyc").write_text("")
    assert json.loads(call("noisyctl", "sweep", "two_stage", "--json")) == {
        "ran": 0,
        "restored": 0,
        "unchanged": 6,
    }
    # the project's own DVC does not look into plans/, which shares its cache and its remote
    assert call("dvc", "stage", "list", "--all").strip() == ""
    assert "shelf" in call("dvc", "--cd", "plans", "remote", "list")
    assert (tmp_path / ".dvc/cache/files").is_dir() and not (tmp_path / "plans/.dvc/cache").exists()
    # code outside of plans/ goes stale, and only what depends on it runs again
    with (tmp_path / "noisyctl/evaluation/tables.py").open("a") as file:
        file.write("# edited\n")
    ran = [line for line in call(*repro).splitlines() if line.startswith("Running stage")]
    assert ran and all("two_stage/dvc.yaml:" in line for line in ran)
    assert any("table" in line for line in ran) and not any("train" in line for line in ran)
    # plans/ may be removed: what was computed stays, and planning again finds it in the cache
    shutil.rmtree(tmp_path / "plans")
    counts = json.loads(call("noisyctl", "sweep", "two_stage", "--table", "2", "--budget", "smoke", "--json"))
    assert counts["ran"] == 0 and counts["restored"] + counts["unchanged"] == 6


def test_a_plan_is_narrowed_down_and_remembers_it(copy: Path) -> None:
    whole = Plan(papers.load("jo_src"), FULL, ("1",))
    only = ("row=jocor", "row=standard", "dataset=cifar100_unit", "noise=sym-excl-50")
    some = Plan(papers.load("jo_src"), FULL, ("1",), only=only)
    assert {(n.row, n.dataset, n.noise) for n in some.numbers} == {
        ("jocor", "cifar100_unit", "sym-excl-50"),
        ("standard", "cifar100_unit", "sym-excl-50"),
    }
    assert some.cells["train"].items() < whole.cells["train"].items()
    assert {one.module for one in some.cells["train"].values()} == {
        "noisyctl.methods.jocor",
        "noisyctl.methods.co_teaching",  # which forgets nothing in the row standard
    }
    project.write(some, PROFILES)
    assert project.read_plan("jo_src").only == only  # `table --paper` and the next `sweep` keep to it
    assert some.command.endswith(" ".join(f"--only {words}" for words in only))
    project.prepare("jo_src", project.Choice(only=("row=jo_src",)), PROFILES)
    assert {n.row for n in project.read_plan("jo_src").numbers} == {"jo_src"}


@pytest.mark.parametrize(
    "only, said",
    [
        ("row=jo_srcc", "row 'jo_srcc'; did you mean 'jo_src'"),
        ("noise=none", "noise 'none'; one of: "),
        ("method=elr", "one of row=NAME, dataset=NAME, noise=NAME"),
        ("jo_src", "one of row=NAME, dataset=NAME, noise=NAME"),
    ],
)
def test_narrowing_down_to_what_there_is_not_names_what_there_is(only: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        print(Plan(papers.load("jo_src"), FULL, ("1",), only=(only,)).numbers)
