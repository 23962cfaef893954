"""CSV files that people open: no cell is a formula, every text comes back, numbers stay numbers."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisyctl.artifacts import csv_files
from noisyctl.datasets._tables import read_table
from noisyctl.evaluation.tables import render

DANGEROUS = [
    "=1+1",
    "+a",
    "-a",
    "@x",
    "\tx",
    "\rx",
    "\nx",
    "-2+3+cmd|' /C calc'!A0",
    "'=1+1",
    "''@x",
    "\uff1d1",
]


@pytest.mark.parametrize("text", DANGEROUS)
def test_a_formula_becomes_text(text: str) -> None:
    assert csv_files.quoted(text) == f"'{text}"
    assert csv_files.unquoted(f"'{text}") == text


@pytest.mark.parametrize(
    "cell", [-1, -0.5, "-1.5", "+3", "-1e-05", "-0.3 \u00b1 0.1", "", "a=b", "'s", "''", "photo.jpg"]
)
def test_numbers_and_other_texts_stay(cell: object) -> None:
    assert csv_files.quoted(cell) == cell
    assert csv_files.unquoted(str(cell)) == str(cell)


@given(st.text(st.sampled_from("'=+-@\t\r\n1.ea "), max_size=6))
def test_every_text_comes_back_and_none_begins_as_a_formula(text: str) -> None:
    cell = csv_files.quoted(text)
    assert csv_files.unquoted(cell) == text
    assert cell[:1] not in tuple("=@\t\r\n") or not cell
    assert cell[:1] not in ("+", "-") or csv_files.NUMBER.fullmatch(cell) or cell == csv_files.NOTHING


def test_bytes_of_harmless_rows_are_those_of_the_csv_module() -> None:
    rows = [csv_files.PREDICTIONS, ["a,b.png", 'say "x"', "0.5"], ["c.png", "", ""]]
    ours, plain = io.StringIO(newline=""), io.StringIO(newline="")
    csv_files.write(ours, rows)
    csv.writer(plain).writerows(rows)
    assert ours.getvalue() == plain.getvalue()


@pytest.mark.parametrize(
    "header, back",
    [(csv_files.PREDICTIONS, "=1+1"), (("path", "label"), "'=1+1"), (("label", "path", "x"), "'=1+1")],
)
def test_only_files_of_ours_are_read_back(header: tuple[str, ...], back: str, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv_files.write(file, [header, *[["=1+1"] * len(header)] * 2])
    columns = read_table(tmp_path / "m.csv", ["path", "label"]).columns
    assert columns == {"path": [back, back], "label": [back, back]}


def test_a_table_for_a_spreadsheet() -> None:
    table = [["method", "gap"], ["=HYPERLINK(1)", "-1.2"], ["elr", "\u2014"]]
    assert render(table, "csv") == "method,gap\n'=HYPERLINK(1),-1.2\nelr,\u2014\n"
    assert "| =HYPERLINK(1) |" in render(table, "md")


def test_a_lone_dash_which_tables_write_for_no_number_stays_one() -> None:
    assert csv_files.as_text([["-", "-1", "-x"]]) == "-,-1,'-x\n"
