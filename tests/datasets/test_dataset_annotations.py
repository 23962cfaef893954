"""Manifests with several people's labels of an image: both forms, the rule of the consensus, and what is refused."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from noisyctl.datasets.folder import Params, from_manifest, prepare
from noisyctl.errors import DataError

NAMES = [f"{number}.png" for number in range(6)]
LABELS = {  # by anna, ben and cleo; "" where one did not look
    "0.png": ("cat", "cat", "dog"),
    "1.png": ("cat", "cat", ""),
    "2.png": ("dog", "dog", "dog"),
    "3.png": ("dog", "", "cat"),
    "4.png": ("cat", "cat", "cat"),
    "5.png": ("dog", "dog", "cat"),
}
PEOPLE = ("anna", "ben", "cleo")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (40 * number, 90, 10)).save(folder / name)
    return folder


def table(path: Path, *rows: Sequence[object]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def long(path: Path, *more: Sequence[object]) -> str:
    said = [
        (n, who, label) for n, labels in LABELS.items() for who, label in zip(PEOPLE, labels, strict=True)
    ]
    return table(path, ("path", "annotator", "label"), *(row for row in said if row[2]), *more)


def wide(path: Path, *more: Sequence[object]) -> str:
    head = ("path", *(f"label_{who}" for who in PEOPLE))
    return table(path, head, *((n, *labels) for n, labels in LABELS.items()), *more)


def test_both_forms_say_the_same_and_the_labels_are_the_consensus(root: Path, tmp_path: Path) -> None:
    one, other = (form(tmp_path / f"{form.__name__}.csv") for form in (long, wide))
    found = [from_manifest(root, manifest) for manifest in (one, other)]
    assert found[0].samples == found[1].samples
    assert found[0].annotations == found[1].annotations
    assert {s.path: s.label for s in found[0].samples} == {
        "0.png": "cat",
        "1.png": "cat",
        "2.png": "dog",
        "3.png": "dog",  # a tie: of anna, who is right elsewhere, and cleo, who often is not
        "4.png": "cat",
        "5.png": "dog",
    }
    assert "16 labels of 6 images by 3 annotators" in found[0].layout
    data = prepare(Params(root=str(root), manifest=one, image_size=4))
    assert data.given_labels is not None
    paths = data.splits["train"].paths
    assert paths is not None
    given = dict(zip(paths.tolist(), data.given_labels.tolist(), strict=True))
    assert [given[name] for name in NAMES] == [0, 0, 1, 1, 0, 1]


def test_the_order_of_rows_and_a_row_twice_change_nothing(root: Path, tmp_path: Path) -> None:
    head, *rows = list(csv.reader(Path(long(tmp_path / "a.csv")).read_text().splitlines()))
    again = table(tmp_path / "b.csv", head, *reversed(rows), rows[0])
    assert from_manifest(root, again).annotations == from_manifest(root, str(tmp_path / "a.csv")).annotations


def test_majority_breaks_ties_by_the_more_frequent_class(root: Path, tmp_path: Path) -> None:
    manifest = long(tmp_path / "a.csv", ("4.png", "dora", "cat"))
    labels = {s.path: s.label for s in from_manifest(root, manifest, "majority").samples}
    assert labels["3.png"] == "cat"  # one vote each; cat has ten votes in all, dog seven


def test_no_training_label_depends_on_votes_of_the_test(root: Path, tmp_path: Path) -> None:
    def train_labels(of_the_test: str) -> dict[str, str]:
        rows = [
            (n, who, label, "test" if n in ("4.png", "5.png") else "train")
            for n, labels in LABELS.items()
            for who, label in zip(PEOPLE, labels, strict=True)
            if label
        ]
        rows = [
            (n, w, of_the_test if split == "test" and w != "cleo" else x, split) for n, w, x, split in rows
        ]
        source = from_manifest(
            root, table(tmp_path / f"{of_the_test}.csv", ("path", "annotator", "label", "split"), *rows)
        )
        return {s.path: s.label for s in source.samples if s.split == "train"}

    assert train_labels("cat") == train_labels("dog")


def test_one_person_alone_is_a_plain_manifest(root: Path, tmp_path: Path) -> None:
    rows = [(n, "anna", labels[0]) for n, labels in LABELS.items()]
    source = from_manifest(root, table(tmp_path / "a.csv", ("path", "annotator", "label"), *rows))
    assert source.annotations is None
    assert {s.path: s.label for s in source.samples} == {n: labels[0] for n, labels in LABELS.items()}


def test_a_class_that_only_lost_votes_name_is_no_class(root: Path, tmp_path: Path) -> None:
    source = from_manifest(root, long(tmp_path / "a.csv", ("2.png", "dora", "dgo")))
    assert source.classes == {"cat", "dog"}
    assert source.annotations is not None
    votes = source.annotations.votes(["2.png"], ["cat", "dog"])
    assert votes.label.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize("form", [long, wide])
def test_two_labels_of_one_person_for_one_image(root: Path, tmp_path: Path, form: object) -> None:
    more = ("2.png", "ben", "cat") if form is long else ("2.png", "", "cat", "")
    manifest = form(tmp_path / "a.csv", more)  # type: ignore[operator]
    with pytest.raises(
        DataError, match=r"one annotator.*2\.png by ben: dog in row \d+, cat in row \d+.*keep one"
    ):
        from_manifest(root, manifest)


@pytest.mark.parametrize("form", [long, wide])
def test_an_image_without_a_label(root: Path, tmp_path: Path, form: object) -> None:
    more = ("bare.png", "ben", "") if form is long else ("bare.png", "", "", " ")
    manifest = form(tmp_path / "a.csv", more)  # type: ignore[operator]
    with pytest.raises(
        DataError, match=r"1 images have no label of anybody \('bare.png'\); label them, or remove"
    ):
        from_manifest(root, manifest)


def test_rows_without_a_name_and_of_two_splits(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotator is missing in 1 rows"):
        from_manifest(root, long(tmp_path / "a.csv", ("2.png", " ", "cat")))
    head = ("path", "annotator", "label", "split")
    rows = [
        ("0.png", "anna", "cat", "train"),
        ("1.png", "anna", "dog", "test"),
        ("0.png", "ben", "cat", "test"),
    ]
    with pytest.raises(DataError, match=r"'0.png' is in the splits train and test; write one"):
        from_manifest(root, table(tmp_path / "b.csv", head, *rows))


def test_several_rows_of_one_image_without_names_tell_of_the_column(root: Path, tmp_path: Path) -> None:
    rows = [("0.png", "cat"), ("0.png", "dog"), ("1.png", "dog")]
    with pytest.raises(
        DataError, match=r"more than once; keep one row per image, or name who .* column annotator"
    ):
        from_manifest(root, table(tmp_path / "a.csv", ("path", "label"), *rows))
