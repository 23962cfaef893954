"""Labels from a file: matched by id, checked by clean labels, never taken in an unknown order."""

from pathlib import Path

import numpy as np
import pytest

from noisyctl.errors import DataError
from noisyctl.noise import file

CLEAN = np.array([0, 1, 2, 0, 1])
GIVEN = [0, 2, 2, 1, 1]
IDS = np.array(["a.png", "b.png", "c.png", "d.png", "e.png"])


def take(path: Path, text: str | None = None, *, ids: np.ndarray = IDS, **fields: bool) -> list[int]:
    if text is not None:
        path.write_text(text)
    params = file.Params(file=str(path), **fields)
    return file.corrupt(CLEAN, 3, params, np.random.default_rng(0), sample_ids=ids).tolist()


def table(*columns: str, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> str:
    values = {"id": IDS, "label": GIVEN, "clean_label": CLEAN}
    lines = [",".join(str(values[name][i]) for name in columns) for i in order]  # type: ignore[index]
    return "\n".join([",".join(columns), *lines]) + "\n"


def test_rows_are_matched_by_id_in_any_order(tmp_path: Path) -> None:
    text = table("label", "id", order=(4, 2, 0, 3, 1))
    assert take(tmp_path / "l.csv", text) == GIVEN


def test_ids_of_any_kind_of_array_match_and_other_samples_are_left_out(tmp_path: Path) -> None:
    text = "id,label\n" + "".join(f"{i},{i % 3}\n" for i in reversed(range(9)))
    for ids in (np.arange(5), np.arange(5).astype(object), np.arange(5).astype(np.dtypes.StringDType())):
        assert take(tmp_path / "l.csv", text, ids=ids) == [0, 1, 2, 0, 1]


def test_clean_labels_prove_the_order(tmp_path: Path) -> None:
    assert take(tmp_path / "l.csv", table("clean_label", "label")) == GIVEN
    both = table("id", "clean_label", "label", order=(3, 1, 0, 2, 4))
    assert take(tmp_path / "l.csv", both) == GIVEN


def test_another_order_is_refused_with_the_number_of_mismatches(tmp_path: Path) -> None:
    text = table("label", "clean_label", order=(1, 0, 2, 3, 4))
    for trusting in (False, True):
        with pytest.raises(DataError, match=r"2 of 5 clean labels differ .*sample 0: 1, there 0.*column id"):
            take(tmp_path / "l.csv", text, unchecked_order=trusting)


@pytest.mark.parametrize("name", ["l.npy", "l.txt", "l.csv"])
def test_labels_alone_need_unchecked_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "l.npy":
        np.save(path, np.array(GIVEN, np.uint8))
    else:
        path.write_text(("label\n" if name == "l.csv" else "") + "\n".join(map(str, GIVEN)) + "\n")
    with pytest.raises(DataError, match=r"order of its 5 labels cannot be checked .*unchecked_order: true"):
        take(path)
    assert take(path, unchecked_order=True) == GIVEN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,label\na.png,0\nb.png,1\n",
            r"no label for 3 of 5 samples \(first 'c.png', the file's first id is 'a.png'",
        ),
        ("id,label\n", "no label for 5 of 5 samples"),
        ("id,label\n" + "a.png,0\n" * 3, "2 ids occur twice"),
        ("id,noisy\na.png,0\n", "has the columns id, noisy; it needs label"),
        ("", r"has the columns \(none\)"),
        ("id,label\na.png,cat\n", r"l.csv:2: 'cat' is not a label"),
        ("id,label\na.png\n", r"l.csv:2: None is not a label"),
        ("id,label\na.png,\n", r"l.csv:2: '' is not a label"),
        (
            table("id", "label").replace("b.png,2", "b.png,3"),
            r"l.csv: 1 labels lie outside 0\.\.2 \(first at sample 1: 3",
        ),
        (table("label", "clean_label") + "0,0\n", "holds 6 labels, the data set 5 samples"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        take(tmp_path / "l.csv", text)


def test_blank_lines_do_not_shift_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"l.txt:2: '' is not a label"):
        take(tmp_path / "l.txt", "0\n\n2\n2\n1\n1\n", unchecked_order=True)
    assert take(tmp_path / "l.txt", "0\n2\n2\n1\n1\n\n\n", unchecked_order=True) == GIVEN


def test_foreign_arrays_and_bytes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"holds float64\[5\]; save one integer"):
        take(tmp_path / "f.npy", unchecked_order=True)
    np.save(tmp_path / "o.npy", np.array([{}], object))
    with pytest.raises(DataError, match="is not an array of numbers"):
        take(tmp_path / "o.npy", unchecked_order=True)
    (tmp_path / "b.csv").write_bytes(b"id,label\n\xff,1\n")
    with pytest.raises(DataError, match="not UTF-8"):
        take(tmp_path / "b.csv")
    with pytest.raises(DataError, match="does not exist"):
        take(tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"is not a \.csv, \.npy or \.txt file"):
        take(tmp_path / "l.json")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    text = table("id", "label").replace("\n", "\r\n")
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert take(tmp_path / "l.csv") == GIVEN


def test_a_file_promises_no_matrix() -> None:
    assert file.transition_matrix(3, file.Params(file="l.csv")) is None


def test_rows_are_matched_by_path(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\nb/2.png,1\na/1.png,0\n")
    params = file.Params(file=str(tmp_path / "l.csv"))
    ids, paths = np.array(["f0", "f1"]), np.array(["a/1.png", "b/2.png"])
    given = {"sample_ids": ids, "sample_paths": paths}
    clean, rng = np.array([1, 1]), np.random.default_rng(0)
    assert file.corrupt(clean, 2, params, rng, **given).tolist() == [0, 1]
    with pytest.raises(
        DataError, match="has a column path, but the data set's images have no paths; give a column"
    ):
        file.corrupt(clean, 2, params, rng, **given | {"sample_paths": None})
