"""Tables: means over seeds, dashes where nothing was measured, three formats."""

import csv
import io
import statistics

from noisyctl.evaluation import tables


def runs() -> dict[str, dict[str, object]]:
    def run(method: str, last: float | None) -> dict[str, object]:
        return {"method": method, "measured_noise": 0.36, "test_accuracy": {"last": last}}

    return {
        "elr/sym40-s0": run("elr", 90.0),
        "elr/sym40-s1": run("elr", 94.0),
        "elr/sym-so-s0": run("elr", 70.0),  # another noise, with "-s" in its name
        "knn_vote/sym40-s0": {"method": "knn_vote", "verified_labels": True},
    }


def cells(kind: str = "csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.render(tables.table(runs()), kind))))


def test_seeds_are_averaged_and_noises_are_not() -> None:
    rows = [row for row in cells() if row["method"] == "elr"]
    assert [row["seeds"] for row in rows] == ["1", "2"]
    assert rows[0]["last"] == "70.00"
    assert rows[1]["last"] == f"92.00 ± {statistics.stdev([90, 94]):.2f}"


def test_what_was_not_measured_is_a_dash_and_verified_labels_are_stated() -> None:
    (row,) = [row for row in cells() if row["method"].startswith("knn_vote")]
    assert row["method"] == "knn_vote + verified labels"
    assert row["last"] == row["AUC"] == row["measured"] == "-"


def test_selection_on_noisy_validation_has_a_column_where_a_run_has_it() -> None:
    assert "best on noisy validation" not in tables.table(runs())[0]
    more = runs() | {"mixnn/a-s0": {"method": "mixnn", "test_accuracy": {"best_on_noisy_validation": 1.0}}}
    assert "best on noisy validation" in tables.table(more)[0]


def test_markdown_and_latex_escape_what_they_must() -> None:
    table = [["a_b", "c|d"], ["1 ± 2", "50 %"]]
    head, empty, *lines = tables.render(table, "md").splitlines()
    assert (head, empty) == ("<!-- written by noisyctl table -->", "")
    assert lines == ["| a_b | c\\|d |", "| --- | --- |", "| 1 ± 2 | 50 % |"]
    assert r"a\_b & c|d \\" in tables.render(table, "tex")
    assert r"1 $\pm$ 2 & 50 \% \\" in tables.render(table, "tex")


def test_runs_without_truth_have_a_table_of_what_they_call_wrong() -> None:
    """Own photos: nobody knows the right labels, so nothing of them can be right or wrong."""
    found = {
        f"{method}/given-s{seed}": {
            "method": method,
            "list": {"samples": 400, "called_wrong": wrong, "warning": warning},
        }
        for method, seed, wrong, warning in (
            ("elr", 0, 30, None),
            ("elr", 1, 34, None),
            ("knn_vote", 0, 300, "untrustworthy"),
        )
    }
    assert tables.table(found) == [
        ["method", "seeds", "samples", "called wrong", "list"],
        ["elr", "2", "400 ± 0", "32 ± 3", "ok"],
        ["knn_vote", "1", "400", "300", "untrustworthy"],
    ]
    # one run with truth, and the table is the usual one
    assert "last" in tables.table(found | runs())[0]


def test_balanced_accuracy_has_a_column_where_it_is_another_number() -> None:
    def title(balanced: float) -> bool:
        run = {"test_accuracy": {"last": 90.0}, "test_by_class": {"balanced_accuracy": balanced}}
        return "last, balanced" in tables.table({"elr/a-s0": {"method": "elr", **run}})[0]

    assert title(80.0)
    assert title(90.5)
    assert not title(90.4)
    assert not title(90.0)
    assert "last, balanced" not in tables.table(runs())[0]
