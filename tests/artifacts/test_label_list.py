"""labels.csv and labels.parquet: what is written comes back, also from a spreadsheet."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisyctl.artifacts import label_list
from noisyctl.artifacts.label_list import LabelList
from noisyctl.errors import ArtifactError, DataError, OutputError

HEADER = (
    "id,path,given,suggested,clean_probability,verdict,rank,kernel_ridge,knn,"
    "neighbors,duplicate_of,group,annotations,agreement,version"
)


def text(*values: str) -> np.ndarray:
    return np.array(values, np.dtypes.StringDType())


ROWS = LabelList(
    ids=text("a1", "b2", "c3"),
    paths=text("hat/1.jpg", 'odd "name"\n, x.jpg', "@home/3.jpg"),
    given=text("hat", "=1+1", "t-shirt"),
    suggested=text("dress", "=1+1", "t-shirt"),
    clean_probability=np.array([0.25, 0.875, 0.5]),
    verdict=text("relabel", "keep", "look"),
    rank=np.array([1, 3, 2]),
    opinions={"kernel_ridge": np.array([0.1, 0.5, 0.25]), "knn": np.array([0.0, 1.0, 0.5])},
    neighbors=((("b2", "=1+1"), ("c3", "t-shirt")), (), (("a1", "hat"),)),
    duplicate_of=text("", "", "a1"),
    group=text("a1", "", "a1"),
    annotations=((("anna", "hat"), ("ben", "dress")), (("anna", "=1+1"),), (("=ben", "hat"),)),
)
ORDER = [0, 2, 1]


def same(found: LabelList, expected: LabelList = ROWS) -> None:
    order = np.argsort(expected.rank)
    for name in ("ids", "paths", "given", "suggested", "clean_probability", "verdict", "rank"):
        assert getattr(found, name).tolist() == getattr(expected, name)[order].tolist(), name
    assert {k: v.tolist() for k, v in found.opinions.items()} == {
        k: v[order].tolist() for k, v in expected.opinions.items()
    }
    assert found.neighbors == tuple(expected.neighbors[i] for i in order)
    assert found.annotations == tuple(expected.annotations[i] for i in order)
    assert found.duplicate_of is not None and found.duplicate_of.tolist() == ["", "a1", ""]
    assert found.group is not None and found.group.tolist() == ["a1", "a1", ""]


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    label_list.write(tmp_path, ROWS)
    same(label_list.read(tmp_path / name))


def test_the_file_begins_with_the_promised_columns_and_is_sorted_and_safe(tmp_path: Path) -> None:
    label_list.write(tmp_path, ROWS)
    first, second, *_ = (tmp_path / "labels.csv").read_text().split("\n")
    assert first == HEADER
    assert second.startswith("a1,hat/1.jpg,hat,dress,0.250000,relabel,1,0.100000,0.000000,")
    rows = list(csv.reader(io.StringIO((tmp_path / "labels.csv").read_text())))
    assert [row[6] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[2][1] == "'@home/3.jpg" and rows[3][2] == "'=1+1"  # a spreadsheet computes neither


def test_agreement_is_the_share_of_people_who_gave_the_label_and_empty_without_people(tmp_path: Path) -> None:
    label_list.write(tmp_path, ROWS)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())))
    assert [row["agreement"] for row in rows] == ["0.500000", "0.000000", "1.000000"]
    assert {row["version"] for row in rows} == {"2"}
    label_list.write(tmp_path, replace(ROWS, annotations=()))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())))
    assert {(row["annotations"], row["agreement"]) for row in rows} == {("", "")}
    for name in ("labels.csv", "labels.parquet"):
        assert label_list.read(tmp_path / name).annotations == ()


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    label_list.write(tmp_path, ROWS)
    before = [(tmp_path / name).read_bytes() for name in ("labels.csv", "labels.parquet")]
    label_list.write(tmp_path, ROWS)
    assert before == [(tmp_path / name).read_bytes() for name in ("labels.csv", "labels.parquet")]


def as_a_spreadsheet_saves_it(path: Path, delimiter: str, comma: bool) -> None:
    rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    number = [
        place for place, name in enumerate(rows[0]) if name in ("clean_probability", "kernel_ridge", "knn")
    ]
    for row in rows[1:]:
        for place in number:
            value = f"{float(row[place]):g}"
            row[place] = value.replace(".", ",") if comma else value
    columns = [*range(3, len(rows[0])), 0, 1, 2]
    rows = [[row[c] for c in columns] for row in [rows[0], *rows[:0:-1]]]
    rows = [[*row, "note" if n == 0 else "mine"] for n, row in enumerate(rows)]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    path.write_bytes(b"\xef\xbb\xbf" + out.getvalue().encode() + b"\r\n")


@pytest.mark.parametrize(("delimiter", "comma"), [(",", False), (";", True), ("\t", True)])
def test_what_a_spreadsheet_does_is_understood(tmp_path: Path, delimiter: str, comma: bool) -> None:
    label_list.write(tmp_path, ROWS)
    as_a_spreadsheet_saves_it(tmp_path / "labels.csv", delimiter, comma)
    same(label_list.read(tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("relabel", "relable", "row 2: verdict 'relable'; one of: keep"),
        ("0.250000", "2.5", "row 2: clean_probability '2.5' is no number from 0 to 1"),
        ("verdict", "verdicts", "there is no column 'verdict'"),
        ("look,2", "look,1", "rows 2 and 3 have the same rank 1"),
        ("look,2", "look,two", "row 3: rank 'two' is no whole number"),
        ("c3", "a1", "have the same id a1"),
        (",hat,dress", ",hat;dress", "row 2 has 14 cells, the first row 15"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    label_list.write(tmp_path, ROWS)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        label_list.read(path)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist; make it with `noisyctl clean`"):
        label_list.read(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"id,\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        label_list.read(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_file_of_another_program_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(OutputError, match="not a file that this command wrote"):
        label_list.write(tmp_path, ROWS)
    assert (tmp_path / name).read_text() == "mine\n"


def test_a_list_of_one_class_name_each_needs_no_further_columns(tmp_path: Path) -> None:
    few = replace(ROWS, opinions={}, neighbors=(), duplicate_of=None, group=None)
    label_list.write(tmp_path, few)
    assert label_list.read(tmp_path / "labels.csv").ids.tolist() == ["a1", "c3", "b2"]
