"""decisions.csv: what is read, what is refused, and how several reviewers come together."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import folders
import pytest

from noisyctl.errors import DataError
from noisyctl.review import result
from noisyctl.review.decisions import COLUMNS, Decision, merge, read
from noisyctl.review.result import Result


@pytest.fixture
def listed(tmp_path: Path) -> Result:
    return folders.make(tmp_path, 12)


def rows_of(listed: Result) -> list[list[str]]:
    """A reviewer's rows: relabel, keep, drop, and one that is not decided."""
    a, b, c, d = listed.rows[:4]
    return [
        [a.id, a.path, a.given, "relabel", a.suggested, listed.digest],
        [b.id, b.path, b.given, "keep", b.given, listed.digest],
        [c.id, c.path, c.given, "drop", "", listed.digest],
        [d.id, d.path, d.given, "", "", listed.digest],
    ]


def write(
    path: Path, rows: Sequence[Sequence[str]], head: Sequence[str] = COLUMNS, separator: str = ","
) -> Path:
    lines = [separator.join(row) for row in [head, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def said(found: dict[str, Decision]) -> list[tuple[str, str]]:
    return [(one.decision, one.label) for one in found.values()]


def test_labels_csv_is_read_as_it_was_written(tmp_path: Path) -> None:
    listed = folders.make(tmp_path, 12)
    rows = folders.rows(tmp_path / "photos", 12)
    assert list(listed.rows) == rows
    assert listed.root == tmp_path / "photos"
    assert listed.opinions == folders.OPINIONS


def test_a_list_that_was_edited_is_refused(listed: Result) -> None:
    path = listed.folder / "labels.csv"
    path.write_bytes(path.read_bytes().replace(b",relabel,", b",keep,", 1))
    with pytest.raises(result.ArtifactError, match="not as clean wrote it"):
        result.read(listed.folder)


def test_a_list_that_a_spreadsheet_saved_without_a_change_is_the_same(listed: Result) -> None:
    path = listed.folder / "labels.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    assert result.read(listed.folder) == listed


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(change(path.read_bytes())), None)[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(edited(lambda b: b), id="as downloaded"),
        pytest.param(edited(lambda b: b"\xef\xbb\xbf" + b), id="BOM"),
        pytest.param(edited(lambda b: b.replace(b"\n", b"\r\n")), id="CRLF"),
        pytest.param(edited(lambda b: b.replace(b"\n", b"\r")), id="CR"),
        pytest.param(edited(lambda b: b.replace(b",", b";")), id="semicolons"),
        pytest.param(edited(lambda b: b"sep=;\r\n" + b.replace(b",", b";")), id="sep=;"),
        pytest.param(edited(lambda b: b.decode().replace(",", "\t").encode("utf-16")), id="UTF-16"),
        pytest.param(
            edited(lambda b: b"\n".join(b.split(b"\n")[:1] + b.split(b"\n")[:0:-1])), id="rows turned"
        ),
        pytest.param(edited(lambda b: b + b",,,,,\n\n,,,,,\n"), id="empty rows"),
        pytest.param(edited(lambda b: b.replace(b",relabel,", b", Relabel ,")), id="capitals and blanks"),
    ],
)
def test_what_a_spreadsheet_does_to_the_file_is_read(
    listed: Result, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = write(tmp_path / "d.csv", rows_of(listed))
    change(path)
    found = read(path, listed)
    a, b, c = listed.rows[:3]
    assert {one.photo.id: one.outcome for one in found.values()} == {
        a.id: a.suggested,
        b.id: b.given,
        c.id: None,
    }


def test_columns_in_another_order_and_more_of_them(listed: Result, tmp_path: Path) -> None:
    rows = [[*row[::-1], "a note"] for row in rows_of(listed)]
    path = write(tmp_path / "d.csv", rows, [*COLUMNS[::-1], "Remarks"])
    assert len(read(path, listed)) == 3


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (0, 0, "00000000deadbeef", "row 2: the id '00000000deadbeef' is not in"),
        (0, 0, "1.23457E+15", "a spreadsheet made a number of it"),
        (1, 1, "hat/another.png", "row 3: the id .* is '.*' in .*, not 'hat/another.png'"),
        (1, 2, "trousers", "row 3: .* has the label '.*' in the list, not 'trousers'"),
        (0, 4, "drss", "row 2: the class 'drss' does not exist; did you mean 'dress'"),
        (0, 4, "", "row 2: relabel, but to which class"),
        (2, 4, "hat", "row 4: drop, but there is a label"),
        (1, 3, "yes", "row 3: decision 'yes' is none of keep, relabel, drop"),
        (1, 4, "other", "row 3: keep, but the label is 'other'"),
        (2, 5, "0" * 64, "row 4: it was decided on another list"),
        (3, 4, "dress", "row 5: decision '' is none of"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_row(
    listed: Result, tmp_path: Path, row: int, column: int, value: str, message: str
) -> None:
    rows = rows_of(listed)
    rows[row][column] = value
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "d.csv", rows), listed)


def test_decisions_of_another_folder_are_refused(listed: Result, tmp_path: Path) -> None:
    other = folders.make(tmp_path / "other", 16)
    with pytest.raises(DataError, match=r"row 2: it was decided on another list.*; row 3"):
        read(write(tmp_path / "d.csv", rows_of(other)), listed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column id"),
        (b"path,label\na,b\n", "has no column id"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"id,path,given,decision,label,result\n\xe9,", "is not UTF-8"),
        (b'id,path,given,decision,label,result\n"a', "is not CSV"),
        (b"id,id,path,given,decision,label,result\n", "twice"),
    ],
)
def test_a_file_that_is_no_decisions_csv(
    listed: Result, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "d.csv", listed)


def test_one_reviewer_who_decides_twice(listed: Result, tmp_path: Path) -> None:
    rows = rows_of(listed)
    assert len(read(write(tmp_path / "d.csv", [*rows, rows[0]]), listed)) == 3
    other = [*rows[0][:3], "keep", rows[0][2], rows[0][5]]
    with pytest.raises(DataError, match=r"row 6: .* was decided otherwise in row 2"):
        read(write(tmp_path / "d.csv", [*rows, other]), listed)


def test_to_relabel_to_the_given_class_is_to_keep(listed: Result, tmp_path: Path) -> None:
    row = [*rows_of(listed)[0][:4], listed.rows[0].given, listed.digest]
    assert said(read(write(tmp_path / "d.csv", [row]), listed)) == [("keep", listed.rows[0].given)]


def test_reviewers_are_merged_and_their_conflicts_are_not_guessed(listed: Result, tmp_path: Path) -> None:
    rows = rows_of(listed)
    second = [list(row) for row in rows]
    second[0][3:5] = ["drop", ""]
    e = listed.rows[4]
    second[3] = [e.id, e.path, e.given, "keep", e.given, listed.digest]
    files = {
        name: read(write(tmp_path / name, r), listed) for name, r in (("a.csv", rows), ("b.csv", second))
    }
    merged = merge(files)
    assert set(merged.agreed) == {listed.rows[k].id for k in (1, 2, 4)}
    assert list(merged.conflicts) == [listed.rows[0].id]
    (pair,) = merged.pairs
    assert (pair.both, pair.same) == (3, 2)
    # by hand: the first says shirt, shirt, drop; the second drop, shirt, drop. p_o = 2/3, p_e = 2/3 1/3 + 1/3 2/3 = 4/9
    assert listed.rows[0].suggested == listed.rows[1].given
    assert pair.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))


def test_kappa_is_not_defined_where_all_is_one_answer(listed: Result, tmp_path: Path) -> None:
    rows = rows_of(listed)[2:3]
    files = {name: read(write(tmp_path / name, rows), listed) for name in ("a.csv", "b.csv")}
    assert merge(files).pairs[0].kappa is None
