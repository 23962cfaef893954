"""The user's own embeddings."""

from pathlib import Path

import numpy as np
import pytest

from noisyctl.datasets import features
from noisyctl.datasets.features import Params, prepare
from noisyctl.errors import DataError


def save(path: Path, array: np.ndarray, **options: bool) -> str:
    np.save(path, array, **options)
    return str(path)


@pytest.fixture
def array(tmp_path: Path) -> str:
    return save(tmp_path / "x.npy", np.arange(12, dtype=np.float32).reshape(4, 3))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_labels_and_ids(array: str) -> None:
    data = prepare(Params(array=array))
    assert data.features.tolist() == np.arange(12).reshape(4, 3).tolist()
    assert data.ids.tolist() == ["0", "1", "2", "3"]
    assert data.given_labels is None
    assert data.class_names == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, np.bool_, ">f4"])
def test_real_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0]])
    data = prepare(Params(array=save(tmp_path / "x.npy", values.astype(dtype))))
    assert data.features.dtype == np.dtype("=f4")
    assert (data.features == values).all()


def test_fortran_order(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (
        prepare(Params(array=save(tmp_path / "x.npy", np.asfortranarray(values)))).features == values
    ).all()


def test_labels_as_numbers_text_and_lines_agree(tmp_path: Path, array: str) -> None:
    numbers = save(tmp_path / "n.npy", np.array([10, 2, 2, 10]))
    texts = save(tmp_path / "t.npy", np.array(["10", "2", "2", "10"]))
    lines = write(tmp_path / "l.txt", "10\n2\n2\n10\n")
    table = write(tmp_path / "l.csv", '10\r\n"2"\r\n2\r\n10\r\n')
    for labels in (numbers, texts, lines, table):
        data = prepare(Params(array=array, labels=labels))
        assert data.class_names == ("2", "10")
        assert data.given_labels is not None
        assert data.given_labels.tolist() == [1, 0, 0, 1]


def test_class_names_are_verbatim(tmp_path: Path, array: str) -> None:
    labels = write(tmp_path / "l.txt", "gro\u00df\na b\na b\n=1+1\n")
    assert prepare(Params(array=array, labels=labels)).class_names == ("=1+1", "a b", "gro\u00df")


def test_ids(tmp_path: Path, array: str) -> None:
    ids = write(tmp_path / "ids.txt", "a\nb c\n\u00e9\nd")
    assert prepare(Params(array=array, ids=ids)).ids.tolist() == ["a", "b c", "\u00e9", "d"]


def test_constant_columns_are_flagged(tmp_path: Path) -> None:
    values = np.array([[1, 5, 0], [2, 5, 0], [3, 5, 1]], np.float32)
    data = prepare(Params(array=save(tmp_path / "x.npy", values)))
    assert data.constant_features == (1,)
    assert "1 of them constant (columns 1)" in data.detected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_not_finite_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    monkeypatch.setattr(features, "ROWS", 3)
    values = np.zeros((10, 2), dtype)
    values[[1, 4, 5, 6, 7, 9], 1] = [np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan]
    with pytest.raises(DataError, match=r"in 6 rows \(1, 4, 5, 6, 7 and 1 more"):
        prepare(Params(array=save(tmp_path / "x.npy", values)))


def test_beyond_float32(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"beyond float32 in 1 rows \(0,"):
        prepare(Params(array=save(tmp_path / "x.npy", np.array([[1e39]]))))


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, array: str) -> None:
    objects = np.array([[1.0], [2.0, 3.0]], dtype=object)
    path = save(tmp_path / "o.npy", objects, allow_pickle=True)
    with pytest.raises(DataError, match=r"pickled Python objects, which may run code; save it by np.save"):
        prepare(Params(array=path))
    with pytest.raises(DataError, match="pickled Python objects"):
        prepare(Params(array=array, labels=path))


BAD_ARRAYS = {
    "flat": (np.zeros(3), "has the shape"),
    "deep": (np.zeros((2, 2, 2)), "has the shape"),
    "no rows": (np.zeros((0, 2)), "has the shape|damaged"),
    "no columns": (np.zeros((2, 0)), "has the shape|damaged"),
    "complex": (np.zeros((2, 2), complex), "holds complex128; save real numbers"),
    "text": (np.array([["a"]]), "holds <U1; save real numbers"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_are_no_embeddings(tmp_path: Path, name: str) -> None:
    values, message = BAD_ARRAYS[name]
    with pytest.raises(DataError, match=message):
        prepare(Params(array=save(tmp_path / "x.npy", values)))


def test_files_that_are_no_array(tmp_path: Path, array: str) -> None:
    with pytest.raises(DataError, match="is not a file"):
        prepare(Params(array=str(tmp_path / "absent.npy")))
    with pytest.raises(DataError, match=r"is no \.npy file"):
        prepare(Params(array=write(tmp_path / "x.csv", "1,2\n")))
    with pytest.raises(DataError, match=r"is no \.npy file"):
        prepare(Params(array=write(tmp_path / "empty.npy", "")))
    short = tmp_path / "short.npy"
    short.write_bytes(Path(array).read_bytes()[:-4])
    with pytest.raises(DataError, match="damaged or cut short"):
        prepare(Params(array=str(short)))
    np.savez(tmp_path / "x.npz", np.zeros((2, 2)))
    with pytest.raises(DataError, match="archive of arrays"):
        prepare(Params(array=str(tmp_path / "x.npz")))


BAD_LABELS = {
    "short.txt": ("a\nb\nc\n", "has 3 lines for 4 samples"),
    "header.csv": ("label\na\nb\na\nb\n", "has 5 lines for 4 samples.*without a header"),
    "blank.txt": ("a\n\nb\n  \n", r"missing in 2 rows \(2, 4\)"),
    "wide.csv": ("a,1\nb\na\nb\n", r"rows 1 have more than one field"),
    "one.txt": ("a\na\na\na\n", "'a' is the only class"),
    "alike.txt": ("a\na \nb\nb\n", "look the same"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_label_files_that_do_not_fit(tmp_path: Path, array: str, name: str) -> None:
    text, message = BAD_LABELS[name]
    with pytest.raises(DataError, match=message):
        prepare(Params(array=array, labels=write(tmp_path / name, text)))


def test_label_arrays_that_do_not_fit(tmp_path: Path, array: str) -> None:
    with pytest.raises(DataError, match=r"shape \(3,\) for 4 samples"):
        prepare(Params(array=array, labels=save(tmp_path / "l.npy", np.zeros(3, int))))
    with pytest.raises(DataError, match=r"holds float64; save whole numbers \(labels.astype\(np.int64\)\)"):
        prepare(Params(array=array, labels=save(tmp_path / "l.npy", np.zeros(4))))
    with pytest.raises(DataError, match=r"missing in 1 rows \(3\)"):
        prepare(Params(array=array, labels=save(tmp_path / "l.npy", np.array(["a", "b", "a", ""]))))
    with pytest.raises(DataError, match="is not a file"):
        prepare(Params(array=array, labels=str(tmp_path / "absent.txt")))


def test_ids_that_do_not_fit(tmp_path: Path, array: str) -> None:
    with pytest.raises(DataError, match="has 'b', 'a' more than once"):
        prepare(Params(array=array, ids=write(tmp_path / "ids.txt", "a\nb\nb\na\n")))
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"a\nb\nc\n\xe9\n")
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte 6\)"):
        prepare(Params(array=array, ids=str(latin)))
