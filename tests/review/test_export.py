"""Exports: what other tools find in them is what the list and the decisions say."""

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import folders
import pytest
from PIL import Image
from test_decisions import rows_of, write
from torchvision.datasets import ImageFolder

from noisyctl.errors import DataError, OutputError, ParamsError
from noisyctl.review import result
from noisyctl.review.export import FORMATS, export
from noisyctl.review.result import Result

CLASSES = ('a <b> & "c"', "dress", "t-shirt, new")
Labels = dict[bytes, str]


@pytest.fixture
def listed(tmp_path: Path) -> Result:
    """Photos in two parts, one with an odd name and one with a name that stands in both parts."""
    root = tmp_path / "photos"
    rows = []
    for k, row in enumerate(folders.rows(root, 12, CLASSES)):
        name = "same.png" if k < 2 else "it's <odd> & 100%?.png" if k == 2 else Path(row.path).name
        path = f"{'test' if k % 2 else 'train'}/{k if k < 2 else Path(row.path).parent}/{name}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / row.path).rename(root / path)
        rows.append(replace(row, path=path))
    test = [row.id for row in rows if row.path.startswith("test/")]
    return result.read(folders.write(tmp_path / "out", root, rows, CLASSES, splits={"test": test}))


def expected(listed: Result, decided: bool) -> Labels:
    labels = {row.id: row.given for row in listed.rows}
    if decided:
        labels[listed.rows[0].id] = listed.rows[0].suggested
        del labels[listed.rows[2].id]
    return {(listed.root / listed.by_id[id_].path).read_bytes(): label for id_, label in labels.items()}


def imagefolder(out: Path, root: Path) -> Labels:
    found = {}
    for part in ("train", "test"):
        data = ImageFolder(str(out / part), loader=lambda path: Path(path).read_bytes())
        found |= {content: data.classes[label] for content, label in data}
    return found


def huggingface(out: Path, root: Path) -> Labels:
    """As `datasets` does: by file_name, relative to the metadata.csv of the split."""
    found = {}
    for split in ("train", "test"):
        with (out / split / "metadata.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found[(out / split / row["file_name"]).read_bytes()] = row["label"]
        assert len(list((out / split / "images").iterdir())) <= 6
    return found


def fiftyone(out: Path, root: Path) -> Labels:
    about = json.loads((out / "labels.json").read_text(encoding="utf-8"))
    photos = {p.stem: p.read_bytes() for p in (out / "data").iterdir()}
    assert photos.keys() == about["labels"].keys()
    return {photos[name]: about["classes"][label] for name, label in about["labels"].items()}


def label_studio(out: Path, root: Path) -> Labels:
    config = ET.parse(out / "config.xml").getroot()
    choices = config.find("Choices")
    assert choices is not None
    known = {choice.get("value") for choice in choices}
    found = {}
    for task in json.loads((out / "tasks.json").read_text(encoding="utf-8")):
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/"
        (place,) = parse_qs(address.query)["d"]
        (said,) = task["annotations"][0]["result"]
        assert (said["from_name"], said["to_name"]) == (choices.get("name"), choices.get("toName"))
        assert set(said["value"]["choices"]) <= known
        (found[(root / place).read_bytes()],) = said["value"]["choices"]
    return found


def cvat(out: Path, root: Path) -> Labels:
    annotations = ET.parse(out / "annotations.xml").getroot()
    known = {name.text for name in annotations.iterfind("meta/task/labels/label/name")}
    found = {}
    for image in annotations.iterfind("image"):
        path = out / "images" / str(image.get("name"))
        with Image.open(path) as photo:
            assert photo.size == (int(str(image.get("width"))), int(str(image.get("height"))))
        (tag,) = image.iterfind("tag")
        assert tag.get("label") in known
        found[path.read_bytes()] = str(tag.get("label"))
    return found


def cleanlab(out: Path, root: Path) -> Labels:
    with (out / "label_issues.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["is_label_issue", "label_quality", "given_label", "predicted_label"]
    assert {row["is_label_issue"] for row in rows} == {"True", "False"}
    assert all(0 <= float(row["label_quality"]) <= 1 for row in rows)
    return {(root / row["path"]).read_bytes(): row["given_label"] for row in rows}


READERS = {
    "imagefolder": imagefolder,
    "huggingface": huggingface,
    "fiftyone": fiftyone,
    "label-studio": label_studio,
    "cvat": cvat,
    "cleanlab": cleanlab,
}


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("to", FORMATS)
def test_a_round_trip(listed: Result, tmp_path: Path, to: str, decided: bool) -> None:
    before = folders.tree(listed.root)
    decisions = [write(tmp_path / "d.csv", rows_of(listed))] if decided else []
    rows = rows_of(listed)
    if decided:  # names with commas and quotes
        from noisyctl.artifacts import csv_files

        decisions[0].write_text(
            csv_files.as_file_text([result_columns(), *rows]), encoding="utf-8", newline=""
        )
    about = export(listed, to, tmp_path / "export", decisions=decisions, how="copies" if decided else "links")
    assert about["photos"] == 12 - decided
    reader: Callable[[Path, Path], Labels] = READERS[to]
    assert reader(tmp_path / "export", listed.root) == expected(listed, decided)
    first = folders.tree(tmp_path / "export")
    export(listed, to, tmp_path / "export", decisions=decisions, how="copies" if decided else "links")
    assert folders.tree(tmp_path / "export") == first
    assert folders.tree(listed.root) == before


def result_columns() -> list[str]:
    return ["id", "path", "given", "decision", "label", "result"]


def test_what_is_refused(listed: Result, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="did you mean 'fiftyone'"):
        export(listed, "fiftytwo", tmp_path / "export")
    for place in ("photos/x", "out", "photos"):
        with pytest.raises(OutputError):
            export(listed, "cleanlab", tmp_path / place)
    export(listed, "cleanlab", tmp_path / "export")
    with pytest.raises(OutputError, match="holds export for cleanlab"):
        export(listed, "cvat", tmp_path / "export")


def test_a_name_that_xml_cannot_hold_is_said(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    rows = folders.rows(root, 4, ("a\x02", "b"))
    listed = result.read(folders.write(tmp_path / "out", root, rows, ("a\x02", "b")))
    with pytest.raises(DataError, match="XML cannot hold"):
        export(listed, "cvat", tmp_path / "export")
    assert not (tmp_path / "export").exists()
