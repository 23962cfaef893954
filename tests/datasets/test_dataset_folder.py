"""The user's own images: layouts, manifests, labels, quarantine."""

import csv
import hashlib
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from noisyctl.datasets import Files, ImageData, value_counts
from noisyctl.datasets.folder import Params, prepare
from noisyctl.errors import DataError


def paint(root: Path, *names: str, color: tuple[int, int, int] = (200, 30, 30)) -> None:
    """An image at each name, of a shade of its own."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shade = sum(name.encode()) % 256
        Image.new("RGB", (9, 7), (shade, *color[1:])).save(root / name)


def table(path: Path, header: Sequence[str], *rows: Sequence[object]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def run(root: Path, **options: object) -> ImageData:
    return prepare(Params(root=str(root), **{"image_size": 4, **options}))  # type: ignore[arg-type]


def paths(data: ImageData, split: str = "train") -> list[str]:
    found = data.splits[split].paths
    assert found is not None
    return found.tolist()


def by_path(data: ImageData, split: str, values: Any) -> dict[str, Any]:
    """The value of each image, in the order of the paths."""
    return dict(sorted(zip(paths(data, split), values.tolist(), strict=True)))


def given(data: ImageData) -> dict[str, int]:
    return by_path(data, "train", data.given_labels)


def tree_hash(root: Path) -> str:
    """Of all names, contents, modes and times of change."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        digest.update(
            f"{path.relative_to(root)!r} {status.st_mode} {status.st_size} {status.st_mtime_ns}".encode()
        )
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, one with a folder inside."""
    paint(tmp_path / "photos", "cat/1.png", "cat/2.jpg", "cat/in/3.png", "dog/1.png", "dog/2.png")
    return tmp_path / "photos"


# Layouts


def test_a_folder_a_class(root: Path) -> None:
    data = run(root)
    assert list(data.splits) == ["train"]
    assert data.class_names == ("cat", "dog")
    assert list(given(data).items()) == [
        ("cat/1.png", 0),
        ("cat/2.jpg", 0),
        ("cat/in/3.png", 0),
        ("dog/1.png", 1),
        ("dog/2.png", 1),
    ]
    assert data.truth == {}
    assert data.splits["train"].images.shape == (5, 4, 4, 3)
    assert data.views == "natural"
    assert data.quarantine == ()
    assert data.detected == "a folder a class: 2 classes, 5 train images, rgb, 0 files in quarantine"


def test_ids_are_digests_in_order_and_pixels_belong_to_them(root: Path) -> None:
    shutil.copy(root / "cat/1.png", root / "dog/a copy.png")
    shutil.copy(root / "cat/1.png", root / "cat/0.png")
    split = run(root).splits["train"]
    assert split.ids.tolist() == sorted(split.ids.tolist())
    assert split.paths is not None
    for image, name, of in zip(split.images, split.paths, split.ids, strict=True):
        digest = hashlib.sha256((root / str(name)).read_bytes()).hexdigest()[:16]
        copy = {"cat/1.png": "-2", "dog/a copy.png": "-3"}.get(str(name), "")
        assert of == digest + copy
        if name in ("cat/0.png", "dog/a copy.png"):
            name = "cat/1.png"
        assert abs(int(image[0, 0, 0]) - sum(str(name).encode()) % 256) <= 3  # JPEG rounds


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "TEST"), ("train", "val"), ("train", "valid")]
)
def test_folders_of_splits(tmp_path: Path, train: str, test: str) -> None:
    paint(
        tmp_path,
        f"{train}/a/1.png",
        f"{train}/b/2.png",
        f"{test}/a/3.png",
        f"{test}/b/4.png",
        f"{test}/b/5.png",
    )
    data = run(tmp_path)
    assert data.class_names == ("a", "b")
    assert given(data) == {f"{train}/a/1.png": 0, f"{train}/b/2.png": 1}
    tested = {f"{test}/a/3.png": 0, f"{test}/b/4.png": 1, f"{test}/b/5.png": 1}
    assert by_path(data, "test", data.truth["test"]) == tested


def test_val_beside_test_stays_val(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val", "test") for name in "ab"))
    data = run(tmp_path)
    assert list(data.splits) == ["train", "test", "val"]
    assert sorted(paths(data, "val")) == ["val/a/1.png", "val/b/1.png"]
    assert sorted(data.truth) == ["test", "val"]


def test_val_that_serves_as_test_is_said(tmp_path: Path) -> None:
    paint(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val") for name in "ab"))
    assert run(tmp_path).detected.startswith(
        "folders train and val (as test), in them a folder a class: 2 classes"
    )


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    paint(tmp_path, "car/1.png", "train/1.png", "plane/1.png")
    assert run(tmp_path).class_names == ("car", "plane", "train")


def test_splits_beside_other_folders_are_not_guessed(tmp_path: Path) -> None:
    paint(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "extra/1.png")
    with pytest.raises(DataError, match="holds 'test', 'train' beside 'extra': splits or classes"):
        run(tmp_path)


def test_splits_without_train_or_twice(tmp_path: Path) -> None:
    paint(tmp_path / "x", "test/a/1.png", "val/b/1.png")
    paint(tmp_path / "y", "train/a/1.png", "val/a/1.png", "valid/a/1.png")
    with pytest.raises(
        DataError, match=r"no train folder: move the images to train on to .*x/train/CLASS; or"
    ):
        run(tmp_path / "x")
    with pytest.raises(
        DataError, match="have one train folder, and at most one test and one val folder: move"
    ):
        run(tmp_path / "y")


def test_classes_called_as_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    paint(tmp_path, "10/1.png", "9/1.png", "0/1.png")
    data = run(tmp_path)
    assert data.class_names == ("0", "9", "10")
    assert given(data) == {"0/1.png": 0, "10/1.png": 2, "9/1.png": 1}


def test_unicode_blanks_and_signs_in_names(tmp_path: Path) -> None:
    names = ["gro\u00df & klein/\u732b 1.png", "<b>bold/=1+1.png", "new\nline/a,b.png", "o'b\"/#%.png"]
    paint(tmp_path, *names)
    data = run(tmp_path)
    assert sorted(paths(data)) == sorted(names)
    assert data.class_names == tuple(sorted(name.split("/")[0] for name in names))


def test_classes_that_look_alike(tmp_path: Path) -> None:
    paint(tmp_path, "caf\u00e9/1.png", "cafe\u0301/1.png", "bar/1.png")
    with pytest.raises(DataError, match=r"caf\\\\xe9.* look the same; write them alike"):
        run(tmp_path)


def test_links_are_followed(root: Path, tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere", "7.png")
    (root / "bird").symlink_to(tmp_path / "elsewhere")
    (root / "cat/8.png").symlink_to(root / "dog/1.png")
    data = run(root)
    assert data.class_names == ("bird", "cat", "dog")
    assert "bird/7.png" in paths(data)
    assert "cat/8.png" in paths(data)


# Channels


def test_channels(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (5, 5), 9).save(tmp_path / name)
    assert run(tmp_path).splits["train"].images.shape == (3, 4, 4, 1)
    assert run(tmp_path).views == "natural_gray"
    assert run(tmp_path, channels="rgb").splits["train"].images.shape == (3, 4, 4, 3)
    assert run(tmp_path, channels="rgb").views == "natural"
    paint(tmp_path, "b/4.png")
    assert run(tmp_path).splits["train"].images.shape == (4, 4, 4, 3)
    assert run(tmp_path, channels="gray").splits["train"].images.shape == (4, 4, 4, 1)


def test_one_colored_test_image_makes_all_splits_rgb(tmp_path: Path) -> None:
    paint(tmp_path, "test/a/1.png")
    for name in ("train/a/1.png", "train/b/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (5, 5), 9).save(tmp_path / name)
    data = run(tmp_path)
    assert {split.images.shape[3] for split in data.splits.values()} == {3}


# Quarantine


def spoil(root: Path) -> dict[str, str]:
    """Files that cannot be used, with a word of the reason."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    noise.save(root / "cat/cut.jpg")
    content = (root / "cat/cut.jpg").read_bytes()
    (root / "cat/cut.jpg").write_bytes(content[: len(content) // 2])
    (root / "cat/zero.png").write_bytes(b"")
    (root / "dog/text.png").write_text("text")
    (root / "dog/labels.json").write_text("{}")
    (root / "loose.txt").write_text("text")
    paint(root, "loose.png")
    return {
        "cat/cut.jpg": "truncated",
        "cat/zero.png": "empty",
        "dog/labels.json": "not an image file",
        "dog/text.png": "no image of a known format",
        "loose.png": "no class folder",
        "loose.txt": "not an image file",
    }


def test_ids_in_are_ids_out_and_quarantined(root: Path) -> None:
    reasons = spoil(root)
    (root / "cat/.hidden.png").write_bytes(b"")
    (root / "Thumbs.db").write_bytes(b"")
    data = run(root)
    assert [file.path for file in data.quarantine] == sorted(reasons)
    assert all(reasons[file.path] in file.reason for file in data.quarantine)
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert {*paths(data), *reasons, "cat/.hidden.png", "Thumbs.db"} == files
    assert len(paths(data)) + len(reasons) + 2 == len(files)
    assert "5 train images, rgb, 6 files in quarantine" in data.detected


def test_reasons_do_not_tell_where_the_root_lies(root: Path) -> None:
    spoil(root)
    data = run(root)
    assert not [file for file in data.quarantine if str(root.parent) in file.reason]
    assert str(root.parent) not in data.detected


def test_fail_on_unreadable_names_five_and_counts(root: Path) -> None:
    (root / "readme.txt").write_text("no reason to stop")
    assert len(run(root, on_unreadable="fail").quarantine) == 1
    for i in range(7):
        (root / f"cat/x{i}.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"'cat/x0.png \(the file is empty\)', .*x4.* and 2 more; repair them"
    ):
        run(root, on_unreadable="fail")


def test_a_class_that_loses_all_its_images(root: Path) -> None:
    paint(root, "eel/1.png")
    (root / "eel/1.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"training image of the class 'eel' \(set aside: 'eel/1.png \(the file is emp"
    ):
        run(root)


def test_a_class_of_files_that_are_not_read(root: Path) -> None:
    (root / "eel").mkdir()
    (root / "eel/1.heic").write_bytes(b"?")
    with pytest.raises(
        DataError, match=r"class 'eel' \(set aside: 'eel/1.heic \(not an image file \(\.heic\)\)'\)"
    ):
        run(root)


def test_an_empty_class_folder(root: Path) -> None:
    (root / "eel").mkdir()
    with pytest.raises(DataError, match="no readable training image of the class 'eel'; add images"):
        run(root)


def test_a_class_that_only_the_test_has(tmp_path: Path) -> None:
    paint(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png")
    with pytest.raises(DataError, match="no readable training image of the class 'c'"):
        run(tmp_path)


def test_a_test_split_without_readable_images(tmp_path: Path) -> None:
    paint(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    (tmp_path / "test/a/1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no readable image in the split 'test' \(set aside: 'test/a/1.png"):
        run(tmp_path)


def test_roots_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent is not a folder; give the folder of the images as --root"):
        run(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no image in .*; is --root right"):
        run(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.txt").write_text("")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"no image in .*set aside: 'a/1.txt"):
        run(tmp_path)


def test_a_root_one_level_too_high(root: Path) -> None:
    with pytest.raises(
        DataError, match="holds one class folder, 'photos'; give two, or is --root one level too high"
    ):
        run(root.parent)


# Trust


def test_the_users_files_are_untouched(root: Path) -> None:
    spoil(root)
    manifest = table(
        root / "labels.csv", ["path", "label"], ["cat/1.png", "x"], ["dog/1.png", "y"], ["cat/zero.png", "y"]
    )
    before = tree_hash(root)
    run(root)
    run(root, manifest=manifest, truth_manifest=manifest)
    assert tree_hash(root) == before


def test_two_runs_give_the_same_bytes_wherever_the_root_lies(root: Path) -> None:
    spoil(root)
    first, again = run(root), run(root)
    moved = root.rename(root.parent / "moved elsewhere")
    third = run(moved)
    for other in (again, third):
        assert first.splits["train"].images.tobytes() == other.splits["train"].images.tobytes()
        assert first.splits["train"].ids.tolist() == other.splits["train"].ids.tolist()
        assert paths(first) == paths(other)
        assert first.quarantine == other.quarantine
        assert first.detected == other.detected
        assert (first.mean, first.std) == (other.mean, other.std)


def test_a_photo_that_is_moved_or_relabeled_changes_nothing_but_its_path_and_its_label(root: Path) -> None:
    shutil.copy(root / "cat/1.png", root / "cat/a copy.png")
    before = run(root)
    (root / "cat/1.png").rename(root / "dog/another name.png")
    after = run(root)
    for name in ("images", "ids"):
        assert getattr(before.splits["train"], name).tolist() == getattr(after.splits["train"], name).tolist()
    assert (before.mean, before.std, before.views) == (after.mean, after.std, after.views)
    assert before.given_labels is not None
    assert after.given_labels is not None
    copied = hashlib.sha256((root / "cat/a copy.png").read_bytes()).hexdigest()[:16]
    copies = np.flatnonzero([str(name).startswith(copied) for name in before.splits["train"].ids])
    assert len(copies) == 2
    assert after.given_labels[copies].tolist() == [0, 1], "the copy that stayed has the first path now"
    others = np.setdiff1d(np.arange(6), copies)
    assert (before.given_labels[others] == after.given_labels[others]).all()


# Manifests

ROWS = [
    ("cat/1.png", "cat", "train"),
    ("cat/2.jpg", "dog", "train"),
    ("dog/1.png", "dog", "test"),
    ("dog/2.png", "cat", "test"),
]


def assert_same(first: ImageData, second: ImageData) -> None:
    assert list(first.splits) == list(second.splits)
    for name in first.splits:
        assert paths(first, name) == paths(second, name)
        assert first.splits[name].ids.tolist() == second.splits[name].ids.tolist()
        assert (first.splits[name].images == second.splits[name].images).all()
    assert first.class_names == second.class_names
    assert first.given_labels is not None
    assert second.given_labels is not None
    assert (first.given_labels == second.given_labels).all()
    assert {name: labels.tolist() for name, labels in first.truth.items()} == {
        name: labels.tolist() for name, labels in second.truth.items()
    }
    assert first.quarantine == second.quarantine


def test_csv_tsv_and_parquet_agree_in_any_order_of_rows(root: Path, tmp_path: Path) -> None:
    first = run(root, manifest=table(tmp_path / "m.csv", ["path", "label", "split"], *ROWS))
    assert given(first) == {"cat/1.png": 0, "cat/2.jpg": 1}
    assert by_path(first, "test", first.truth["test"]) == {"dog/1.png": 1, "dog/2.png": 0}

    columns = dict(zip(("path", "label", "split"), map(list, zip(*ROWS, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert_same(first, run(root, manifest=str(tmp_path / "m.parquet")))
    tabs = "\r\n".join("\t".join(row) for row in [("path", "label", "split"), *ROWS])
    (tmp_path / "m.tsv").write_text("\ufeff" + tabs, encoding="utf-8")
    assert_same(first, run(root, manifest=str(tmp_path / "m.tsv")))
    shuffled = [(row[1], "extra", row[2].upper(), f"./{row[0]}") for row in reversed(ROWS)]
    assert_same(
        first, run(root, manifest=table(tmp_path / "s.csv", ["label", "note", "split", "path"], *shuffled))
    )
    absolute = [(str(root / row[0]), *row[1:]) for row in ROWS]
    assert_same(first, run(root, manifest=table(tmp_path / "a.csv", ["path", "label", "split"], *absolute)))


def test_whole_numbers_as_labels(root: Path, tmp_path: Path) -> None:
    paths, labels = ["cat/1.png", "cat/2.jpg", "dog/1.png"], [2, 10, 2]
    rows = zip(paths, labels, strict=True)
    first = run(root, manifest=table(tmp_path / "m.csv", ["path", "label"], *rows))
    assert first.class_names == ("2", "10")
    assert list(first.splits) == ["train"]
    parquet.write_table(pyarrow.table({"path": paths, "label": labels}), tmp_path / "m.parquet")
    assert_same(first, run(root, manifest=str(tmp_path / "m.parquet")))
    dictionary = pyarrow.array(["b", "a", "b"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"path": paths, "label": dictionary}), tmp_path / "d.parquet")
    assert run(root, manifest=str(tmp_path / "d.parquet")).class_names == ("a", "b")
    parquet.write_table(pyarrow.table({"path": paths, "label": [0.0, 1.0, 0.0]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"column 'label' holds 0.0; write text or whole numbers"):
        run(root, manifest=str(tmp_path / "f.parquet"))


def test_val_rows_are_the_test_if_there_is_no_other(root: Path, tmp_path: Path) -> None:
    rows = [(path, label, "train" if split == "train" else " Valid ") for path, label, split in ROWS]
    data = run(root, manifest=table(tmp_path / "m.csv", ["path", "label", "split"], *rows))
    assert list(data.splits) == ["train", "test"]


def test_images_that_a_manifest_names_and_nobody_has(root: Path, tmp_path: Path) -> None:
    data = run(
        root,
        manifest=table(tmp_path / "m.csv", ["path", "label", "split"], *ROWS, ("cat/9.png", "cat", "train")),
    )
    assert [(file.path, file.reason) for file in data.quarantine] == [
        ("cat/9.png", "the file does not exist")
    ]
    with pytest.raises(
        DataError, match=r"class 'cat', 'dog' \(set aside: 'photos/cat/1.png \(the file does not exist"
    ):
        rows = [(f"photos/{path}", label) for path, label, _ in ROWS]
        run(root, manifest=table(tmp_path / "n.csv", ["path", "label"], *rows))


def test_a_manifest_may_name_any_extension(root: Path, tmp_path: Path) -> None:
    (root / "cat/1.png").rename(root / "cat/1.dat")
    rows = [("cat/1.dat", "cat"), ("dog/1.png", "dog")]
    data = run(root, manifest=table(tmp_path / "m.csv", ["path", "label"], *rows))
    assert sorted(paths(data)) == ["cat/1.dat", "dog/1.png"]


BAD_ROWS = {
    "twice": (
        [("cat/1.png", "a", "train"), ("cat/./1.png", "b", "test")],
        "names 'cat/1.png' more than once",
    ),
    "no label": (
        [("cat/1.png", "", "train"), ("dog/1.png", "b", "train"), ("dog/2.png", "  ", "test")],
        r"label is missing in 2 rows \(2, 4\); fill in or remove them",
    ),
    "no path": ([("", "a", "train")], r"path is missing in 1 rows \(2\)"),
    "no split": ([("cat/1.png", "a", "")], r"split is missing in 1 rows \(2\)"),
    "unknown split": ([("cat/1.png", "a", "dev")], "split is 'dev'; write train, test or val"),
    "escape": (
        [("../secret.png", "a", "train"), ("cat/../../x.png", "b", "train")],
        "'../secret.png', .* lie outside",
    ),
    "absolute": ([("/etc/1.png", "a", "train")], "'/etc/1.png' lie outside the root"),
    "the root": ([(".", "a", "train")], "'.' lie outside the root"),
    "one class": ([("cat/1.png", "a", "train")], "'a' is the only class"),
    "only test": (
        [("cat/1.png", "a", "test"), ("dog/1.png", "b", "test")],
        "training image of the class 'a', 'b'",
    ),
    "ragged": ([("cat/1.png", "a", "train", "x")], r"rows 2 have more fields than the header"),
    "short": ([("cat/1.png", "a", "train"), ("dog/1.png",)], r"label is missing in 1 rows \(3\)"),
    "nothing": ([], "no image in .*m.csv; is --root right"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_used(root: Path, tmp_path: Path, name: str) -> None:
    rows, message = BAD_ROWS[name]
    with pytest.raises(DataError, match=message):
        run(root, manifest=table(tmp_path / "m.csv", ["path", "label", "split"], *rows))


def test_many_bad_rows_are_counted(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label is missing in 9 rows \(2, 3, 4, 5, 6 and 4 more\)"):
        run(
            root, manifest=table(tmp_path / "m.csv", ["path", "label"], *[(f"{i}.png", "") for i in range(9)])
        )


def test_manifest_files_that_cannot_be_used(root: Path, tmp_path: Path) -> None:
    cases = {
        "absent.csv": (None, "absent.csv is not a file; give a manifest with the columns path, label"),
        "semicolons.csv": (b"path;label\n", r"has no column 'path', 'label' \(it has 'path;label'\)"),
        "names.csv": (
            b"file,label\n",
            r"has no column 'path' \(it has 'file', 'label'\); name them in the first line",
        ),
        "empty.csv": (b"", r"has no column 'path', 'label' \(it has none\)"),
        "twice.csv": (b"path,label,label\n", "has 2 columns 'label'; keep one"),
        "latin.csv": ("path,label\nca\u00e9,a\n".encode("latin-1"), r"is not UTF-8 \(byte 13\)"),
        "quote.csv": (b'path,label\n"cat/1.png,cat\n', "is not CSV: .*; check its quotes"),
        "labels.xlsx": (b"PK", r"is neither \.csv, \.tsv nor \.parquet"),
        "damaged.parquet": (b"PAR1 PAR1", "is not a readable Parquet file"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            run(root, manifest=str(tmp_path / name))
    parquet.write_table(pyarrow.table({"path": ["a"], "klass": ["b"]}), tmp_path / "columns.parquet")
    with pytest.raises(DataError, match=r"has no column 'label' \(it has 'path', 'klass'\)"):
        run(root, manifest=str(tmp_path / "columns.parquet"))


def test_parquet_with_missing_labels(root: Path, tmp_path: Path) -> None:
    for missing in (None, float("nan")):
        labels = pyarrow.array([1.0 if missing else 1, missing], from_pandas=False)
        parquet.write_table(
            pyarrow.table({"path": ["cat/1.png", "dog/1.png"], "label": labels}), tmp_path / "m.parquet"
        )
        with pytest.raises(DataError, match=r"label is missing in 1 rows \(2\)|holds 1.0"):
            run(root, manifest=str(tmp_path / "m.parquet"))


# Truth


def test_true_labels_of_a_second_manifest(root: Path, tmp_path: Path) -> None:
    manifest = table(tmp_path / "m.csv", ["path", "label", "split"], *ROWS)
    rows = [
        ("dog/2.png", "dog"),
        ("cat/1.png", "cat"),
        ("cat/2.jpg", "cat"),
        ("dog/1.png", "dog"),
        ("unused.png", "eel"),
    ]
    data = run(root, manifest=manifest, truth_manifest=table(tmp_path / "t.csv", ["path", "label"], *rows))
    assert given(data) == {"cat/1.png": 0, "cat/2.jpg": 1}
    assert data.truth["train"].tolist() == [0, 0]
    assert data.truth["test"].tolist() == [1, 1]  # not the labels of the first manifest


def test_true_labels_that_are_incomplete(root: Path, tmp_path: Path) -> None:
    truth = table(tmp_path / "t.csv", ["path", "label"], ("cat/1.png", "cat"), ("dog/1.png", "dog"))
    with pytest.raises(
        DataError, match=r"lacks 3 of 5 images \('cat/2.jpg', 'cat/in/3.png', 'dog/2.png'\); add a row"
    ):
        run(root, truth_manifest=truth)


def test_true_labels_of_quarantined_images_are_not_asked_for(root: Path, tmp_path: Path) -> None:
    (root / "dog/2.png").write_bytes(b"")
    rows = [(name, name.split("/")[0]) for name in paths(run(root))]
    data = run(root, truth_manifest=table(tmp_path / "t.csv", ["path", "label"], *rows))
    assert data.given_labels is not None
    assert data.truth["train"].tolist() == data.given_labels.tolist()


def test_true_labels_of_no_given_class(root: Path, tmp_path: Path) -> None:
    rows = [(name, "eel") for name in paths(run(root))]
    with pytest.raises(
        DataError, match=r"the true labels 'eel' are not classes of the given labels \('cat', 'dog'\)"
    ):
        run(root, truth_manifest=table(tmp_path / "t.csv", ["path", "label"], *rows))


def test_true_labels_are_checked_before_images_are_read(root: Path, tmp_path: Path) -> None:
    (root / "dog/2.png").write_bytes(b"")
    with pytest.raises(DataError, match="more than once"):
        truth = table(tmp_path / "t.csv", ["path", "label"], ("a.png", "cat"), ("a.png", "cat"))
        run(root, truth_manifest=truth, on_unreadable="fail")


def test_the_home_folder_may_be_written_as_a_tilde(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(root.parent))
    assert len(paths(prepare(Params(root="~/photos", image_size=4)))) == 5


# Labels that were checked by hand


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet"])
def test_verified_labels_in_any_order_of_rows(root: Path, tmp_path: Path, extension: str) -> None:
    rows = [("dog/2.png", "cat"), ("cat/2.jpg", "cat")]  # the first corrects the folder's label
    manifest = table(tmp_path / "v.csv", ["path", "label"], *rows)
    if extension == "tsv":
        manifest = str(tmp_path / "v.tsv")
        Path(manifest).write_text("".join("\t".join(row) + "\n" for row in [("path", "label"), *rows]))
    elif extension == "parquet":
        manifest = str(tmp_path / "v.parquet")
        columns = dict(zip(("path", "label"), map(list, zip(*rows, strict=True)), strict=True))
        parquet.write_table(pyarrow.table(columns), manifest)
    data = run(root, verified_manifest=manifest)
    assert data.verified is not None
    index, labels = data.verified
    assert index.tolist() == sorted(index)
    assert sorted(paths(data)[row] for row in index) == ["cat/2.jpg", "dog/2.png"]
    assert [data.class_names[label] for label in labels] == ["cat", "cat"]
    assert (index.dtype, labels.dtype) == (np.int64, np.int64)
    assert list(given(data).values()) == [0, 0, 0, 1, 1]  # as they were
    assert run(root).verified is None


def test_verified_positions_count_readable_images_only(root: Path, tmp_path: Path) -> None:
    (root / "cat/1.png").write_bytes(b"")
    manifest = table(tmp_path / "v.csv", ["path", "label"], ("cat/1.png", "cat"), ("dog/1.png", "dog"))
    data = run(root, verified_manifest=manifest)
    assert data.verified is not None
    assert [paths(data)[row] for row in data.verified[0]] == ["dog/1.png"]
    assert data.verified[1].tolist() == [1]


BAD_VERIFIED = {
    "unknown path": (
        [("cat/9.png", "cat")],
        "'cat/9.png' are not training images; correct the paths or remove",
    ),
    "test image": ([("dog/1.png", "dog")], "'dog/1.png' are not training images"),
    "unknown class": ([("cat/1.png", "eel")], r"the labels 'eel' are not classes \('cat', 'dog'\); correct"),
    "twice": (
        [("cat/1.png", "cat"), ("cat//1.png", "dog")],
        "names 'cat/1.png' more than once; keep one row",
    ),
    "outside": ([("../1.png", "cat")], "'../1.png' lie outside the root"),
    "blank": ([("cat/1.png", "")], r"label is missing in 1 rows \(2\)"),
}


@pytest.mark.parametrize("name", BAD_VERIFIED)
def test_verified_rows_that_cannot_be_used(root: Path, tmp_path: Path, name: str) -> None:
    rows, message = BAD_VERIFIED[name]
    manifest = table(tmp_path / "m.csv", ["path", "label", "split"], *ROWS)
    with pytest.raises(DataError, match=f"v.csv.*{message}"):
        run(root, manifest=manifest, verified_manifest=table(tmp_path / "v.csv", ["path", "label"], *rows))


# Images that stay in their files


@pytest.mark.parametrize("channels", ["auto", "rgb", "gray"])
@pytest.mark.parametrize("colored", [True, False])
def test_files_are_known_as_pixels_would_be(root: Path, channels: str, colored: bool) -> None:
    spoil(root)
    if not colored:
        for path in [*root.rglob("*.png"), *root.rglob("*.jpg")]:
            if path.stat().st_size and "text" not in path.name and "cut" not in path.name:
                Image.open(path).convert("L").save(path)
    first, second = run(root, channels=channels), run(root, channels=channels, keep="files")
    assert first.splits["train"].ids.tolist() == second.splits["train"].ids.tolist()
    assert paths(first) == paths(second)
    assert first.quarantine == second.quarantine
    assert (first.mean, first.std) == (second.mean, second.std)
    assert (first.views, first.detected) == (second.views, second.detected)
    images, files = first.splits["train"].images, second.splits["train"].images
    assert isinstance(files, Files)
    assert files.image_size == 4
    assert (files.value_counts == value_counts(images)).all()
    assert files.checksums.tolist() == [zlib.crc32((root / name).read_bytes()) for name in paths(second)]
