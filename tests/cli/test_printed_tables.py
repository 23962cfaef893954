"""Tables on stdout: whole rows for other commands, whole cells for a terminal of 100 columns."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from noisyctl.artifacts import metrics
from noisyctl.cli import tables

ROOT = Path(__file__).parent.parent.parent
NOISYCTL = str(Path(sys.executable).with_name("noisyctl"))
WORDS = [NOISYCTL, "table", "--metrics", "metrics.json", "--out", "t.md"]


def written(folder: Path) -> dict[str, str]:
    """Metrics of two methods over two seeds, and the environment of a command that reads them."""
    run = {
        "measured_noise": 0.631,
        "nominal_noise": 0.6,
        "detection": {"precision": 0.9, "recall": 0.8, "auc": 0.7},
    }
    accuracy = dict.fromkeys(("last", "mean_last_10", "best_on_test_oracle", "gap_best_last"), 90.0)
    runs = {
        f"{name}/sym60-s{seed}": run
        | {"method": name, "test_accuracy": {k: v + seed for k, v in accuracy.items()}}
        for name in ("dividemix", "cross_entropy")
        for seed in (0, 1)
    }
    metrics.write(folder / "metrics.json", {"runs": runs})
    return dict(os.environ) | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def test_grep_finds_a_method_in_one_whole_line(tmp_path: Path) -> None:
    done = subprocess.run(
        WORDS, cwd=tmp_path, env=written(tmp_path), capture_output=True, text=True, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if "dividemix" in line]
    assert "90.50 ± 0.71" in line and "0.700 ± 0.000" in line  # the last column too
    assert "dividemix" not in done.stderr


def test_a_terminal_of_100_columns_shows_whole_names(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        WORDS,
        cwd=tmp_path,
        env=written(tmp_path),
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    os.close(theirs)
    lines = os.read(ours, 10**6).decode().splitlines()
    os.close(ours)
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if "sym" not in line][-2:] == ["cross_entropy", "dividemix"]
    assert 'not shown on a terminal of this width: "gap best - last"' in done.stderr
    assert "all columns are in t.csv" in done.stderr


WIDE = [
    ["method", "noise nominal", "measured", "last", "gap best - last", "recall", "hardware"],
    ["two_stage + verified labels", "0.600", "0.631", "95.00 ± 1.20", "0.40", "0.987", "CPU AVX512"],
    ["knn_vote", "0.600", "0.631", "-", "-", "0.9", "CPU AVX512"],
]


@pytest.mark.parametrize("width", [45, 55, 60, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_cell(width: int) -> None:
    found = tables.narrowed(WIDE, width)
    shown, left_out = found.table, found.left_out
    assert [title for title in WIDE[0] if title not in (*left_out, *found.common)] == shown[0]
    assert max(map(len, tables.as_text(shown, broken_titles=True).splitlines())) <= width
    assert [row[0] for row in shown] == [row[0] for row in WIDE]  # the names of the methods, whole
    assert "last" in shown[0]
    assert (left_out == []) == (width in (60, 200))
    common = {"noise nominal": "0.600", "measured": "0.631", "hardware": "CPU AVX512"}
    assert found.common == ({} if width == 200 else common)
    assert left_out == [
        title for title in tables.DISPENSABLE if title in left_out
    ]  # the least important first


def test_a_text_has_each_row_on_one_line() -> None:
    lines = tables.as_text(WIDE).splitlines()
    assert len(lines) == 4  # head, rule, rows
    (line,) = [line for line in lines if "two_stage" in line]
    assert line.split()[-2:] == ["CPU", "AVX512"] and "95.00 ± 1.20" in line


def test_one_row_and_results_are_never_told_beside_the_table() -> None:
    one = [WIDE[0], WIDE[1]]
    assert tables.narrowed(one, 60).common == {}
    alike = [["method", "last", "seeds"], ["a" * 50, "90.00", "1"], ["b", "90.00", "1"]]
    assert tables.narrowed(alike, 60).common == {"seeds": "1"}  # `last` is a result, though the same
