"""Write the list for other tools, with the labels that the decisions give where there are any.

    imagefolder    [train|test/]CLASS/photo                  torchvision, and whatever reads a folder a class
    huggingface    train|test/metadata.csv and the photos    `load_dataset("imagefolder", data_dir=...)`
    fiftyone       data/ and labels.json                     FiftyOneImageClassificationDataset
    label-studio   tasks.json and config.xml                 import as tasks; the suggestion is a prediction
    cvat           annotations.xml and images/               "CVAT for images 1.1", a tag a photo
    cleanlab       label_issues.csv                          the columns of cleanlab's get_label_issues

Photos are put there as links, or as copies on demand; the originals are never touched.
"""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noisyctl.artifacts import files
from noisyctl.errors import DataError, ParamsError, suggest
from noisyctl.review.apply import Labeled, by_class, labeled, read_all
from noisyctl.review.decisions import Merged
from noisyctl.review.photos import As, arrange, put, require_root
from noisyctl.review.result import Listed, Result

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Export:
    """What is exported: the photos that are kept, by path, and their labels."""

    result: Result
    photos: list[Listed]
    labels: Mapping[str, str]
    how: As

    @property
    def splits(self) -> list[str]:
        return sorted({row.split for row in self.photos})


def export(
    result: Result, to: str, out: Path, *, decisions: Sequence[Path] = (), how: As = "links"
) -> dict[str, Any]:
    """Write the export to the folder `out` and return the counts.

    Raises ParamsError for an unknown format, DataError for decisions that do not fit or reviewers who differ, and
    OutputError where `out` would touch the photos, the result or something else.
    """
    if to not in FORMATS:
        raise ParamsError(f"--to is {to!r}; {suggest(to, FORMATS)}")
    require_root(result)
    form = files.Folder(f"export for {to}")
    files.check(
        [files.Writes({out: form})], [result.root, result.folder, *decisions], ours=lambda path: False
    )
    after = _after(result, decisions)
    what = Export(result, after.photos(result), after.labels, how)
    with files.publish(out, form) as partial:
        partial.mkdir()
        FORMATS[to](what, partial)
        form.seal(partial)
    return {
        "photos": len(what.photos),
        "dropped": after.dropped,
        "left_out": len(after.left_out),
        "out": str(out),
    }


def _after(result: Result, decisions: Sequence[Path]) -> Labeled:
    merged = read_all(decisions, result) if decisions else Merged({}, {}, [])
    if merged.conflicts:
        first = next(iter(merged.conflicts.values()))[0]
        raise DataError(
            f"the reviewers differ on {len(merged.conflicts)} photos, such as {first.photo.path}; `noisyctl apply` lists "
            "them: settle them in one of the files first"
        )
    return labeled(result, merged)


def _imagefolder(what: Export, folder: Path) -> None:
    arrange(by_class(what.photos, what.labels, what.result.has_splits), what.result.root, folder, what.how)


HUGGING_FACE = ("file_name", "label", "id", "given", "suggested", "clean_probability", "verdict")
HUGGING_FACE_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def _huggingface(what: Export, folder: Path) -> None:
    for split in what.splits:
        of_split = [row for row in what.photos if row.split == split]
        place = folder / HUGGING_FACE_SPLITS[split]
        places = arrange([(row, "images") for row in of_split], what.result.root, place, what.how)
        rows = [(places[row.id], what.labels[row.id], *_facts(row)) for row in of_split]
        place.mkdir(parents=True, exist_ok=True)
        _write_csv(place / "metadata.csv", [HUGGING_FACE, *rows])


def _facts(row: Listed) -> tuple[str, str, str, str, str]:
    return row.id, row.given, row.suggested, f"{row.clean_probability:.6f}", row.verdict


def _fiftyone(what: Export, folder: Path) -> None:
    """A photo is called by its id, for the format finds labels by file names without their endings."""
    names = list(what.result.class_names)
    (folder / "data").mkdir()
    for row in what.photos:
        put(what.result.root / row.path, folder / "data" / f"{row.id}{Path(row.path).suffix}", what.how)
    labels = {row.id: names.index(what.labels[row.id]) for row in what.photos}
    _write_json(folder / "labels.json", {"classes": names, "labels": labels})


def _label_studio(what: Export, folder: Path) -> None:
    """Label Studio serves local files below a folder of its choice: set its document root to the folder of the photos."""
    tasks = [
        {
            "data": {
                "image": f"/data/local-files/?d={quote(row.path)}",
                "id": row.id,
                "path": row.path,
                "given": row.given,
                "clean_probability": row.clean_probability,
                "verdict": row.verdict,
                "rank": row.rank,
            },
            "annotations": [{"result": [_choice(what.labels[row.id])]}],
            "predictions": [
                {
                    "model_version": "noisyctl",
                    "score": 1 - row.clean_probability,
                    "result": [_choice(row.suggested)],
                }
            ],
        }
        for row in sorted(what.photos, key=lambda row: row.rank)
    ]
    _write_json(folder / "tasks.json", tasks)
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image")
    choices = ET.SubElement(view, "Choices", name="label", toName="image", choice="single", showInLine="true")
    for name in what.result.class_names:
        ET.SubElement(choices, "Choice", value=_in_xml(name))
    _write_xml(folder / "config.xml", view)


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def _cvat(what: Export, folder: Path) -> None:
    from PIL import Image

    places = arrange([(row, row.split) for row in what.photos], what.result.root, folder / "images", what.how)
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    ET.SubElement(task, "size").text = str(len(what.photos))
    ET.SubElement(task, "mode").text = "annotation"
    labels = ET.SubElement(task, "labels")
    for name in what.result.class_names:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = _in_xml(name)
        ET.SubElement(label, "type").text = "tag"
    for number, row in enumerate(what.photos):
        with Image.open(what.result.root / row.path) as image:
            width, height = image.size
        about = {
            "id": str(number),
            "name": _in_xml(places[row.id]),
            "width": str(width),
            "height": str(height),
        }
        one = ET.SubElement(root, "image", about)
        ET.SubElement(one, "tag", label=_in_xml(what.labels[row.id]), source="manual")
    _write_xml(folder / "annotations.xml", root)


def _in_xml(text: str) -> str:
    """The text without characters that XML cannot hold. Raises DataError, for a name may not change on the way."""
    if NOT_XML.search(text):
        raise DataError(f"{text!r} holds a character that XML cannot hold; rename it, or choose another --to")
    return text


CLEANLAB = ("is_label_issue", "label_quality", "given_label", "predicted_label", "id", "path")


def _cleanlab(what: Export, folder: Path) -> None:
    """By path, as the rows of get_label_issues are in the order of the data; classes are names."""
    rows = [
        (row.suspicious, f"{row.clean_probability:.6f}", what.labels[row.id], row.suggested, row.id, row.path)
        for row in what.photos
    ]
    _write_csv(folder / "label_issues.csv", [CLEANLAB, *rows])


FORMATS: dict[str, Callable[[Export, Path], None]] = {
    "imagefolder": _imagefolder,
    "huggingface": _huggingface,
    "fiftyone": _fiftyone,
    "label-studio": _label_studio,
    "cvat": _cvat,
    "cleanlab": _cleanlab,
}


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """To the letter: other tools know nothing of quoted formulas."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_xml(path: Path, root: ET.Element) -> None:
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
