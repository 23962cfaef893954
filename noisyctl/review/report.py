"""report.html: one file that a browser opens offline, in which a person looks at the list and decides.

Nothing in it comes from the network. Its own script and style are let in by their hashes, so that a file name or a class
name cannot run as a script even if it came to stand in the page; texts of the data are escaped besides. Photos are small
copies inside the file, or for large sets in a folder beside it.
"""

import base64
import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.review.result import MEANINGS, VERDICTS, Listed, Noise, Result

FORM = files.Text(("<!doctype html><!-- noisyctl report -->",))
FOLDER = files.Folder("photos of a report")
INSIDE = 3_000  # photos; more lie beside the file
MOST = 20_000  # photos in a report
SIZE = 224  # pixels of the longer side
QUALITY = 62
MATRIX = 16  # classes; more are shown as a list of pairs
PAIRS = 60
HEATS = 5


@dataclass(frozen=True)
class Written:
    """What was written: how many photos the report shows, how many of them have no picture, and its size in bytes."""

    shown: int
    unreadable: int
    size: int


def write(
    result: Result,
    out: Path,
    *,
    inside: int = INSIDE,
    most: int = MOST,
    title: str = "",
) -> Written:
    """Write the report of a result to the file `out`; above `inside` photos, their pictures go to a folder beside it.

    At most `most` photos are shown, the most suspicious first. A photo that cannot be read has no picture. Raises
    OutputError where something else stands at `out`.
    """
    rows = list(result.rows[:most])
    beside = out.with_name(f"{out.stem}-photos")
    if len(rows) > inside:
        with files.publish(beside, FOLDER) as partial:
            pictures = _pictures_beside(rows, result.root, partial, beside.name)
            FOLDER.seal(partial)
    else:
        pictures = _pictures_inside(rows, result.root)
    text = page(result, rows, pictures, out, audit=False, title=title)
    with files.publish(out, FORM) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    if len(rows) <= inside and beside.is_dir() and FOLDER.foreign(beside) is None:
        files.discard(beside)  # of an earlier report of more photos
    return Written(len(rows), pictures.count(""), len(text.encode()))


def write_audit(result: Result, file: Path, out: Path, sample: Sequence[Listed]) -> None:
    """Write the page on which a person answers an audit to `file`, which will lie at `out`.

    It shows the photos of the sample in their order, with the given label and without what the list says of them.
    """
    pictures = _pictures_inside(sample, result.root)
    file.write_text(page(result, sample, pictures, out, audit=True), encoding="utf-8", newline="")


def page(
    result: Result,
    rows: Sequence[Listed],
    pictures: Sequence[str],
    out: Path,
    *,
    audit: bool,
    title: str = "",
) -> str:
    """The report's text. `pictures` are addresses of images, "" where there is none."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("noisyctl.review"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "separators": (",", ":"),
        "allow_nan": False,
    }
    places = Path(__file__).parent / "templates"
    script, style = ((places / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    names = _names(result)
    groups = [] if audit else duplicate_groups(rows)
    suspicious = sum(row.suspicious for row in result.rows)
    return environment.get_template("report.html").render(
        title=title or result.root.name or "Photos",
        audit=audit,
        total=len(result.rows),
        shown=len(rows),
        classes=result.class_names,
        names=names,
        suspicious=suspicious,
        noise=None if audit else _noise(result.noise, len(result.rows)),
        verdicts=_verdicts(result.rows),
        class_table=_class_table(result),
        **_confusion(result, names),
        duplicates=len(groups),
        conflicting=sum(len({row.given for row in group}) > 1 for group in groups),
        data=_data(result, rows, pictures, names, groups, out, audit) | {"suspicious": suspicious},
        script=Markup(script),  # ours, not the data's
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _names(result: Result) -> list[str]:
    """The classes, and after them labels of the list that are no class of it, which should not occur."""
    others = {row.given for row in result.rows} | {row.suggested for row in result.rows}
    return [*result.class_names, *sorted(others - set(result.class_names))]


def _noise(noise: Noise | None, total: int) -> dict[str, str] | None:
    if noise is None:
        return None
    return {
        "photos": f"{round(noise.wrong * total):,}",
        "share": _percent(noise.wrong),
        "level": f"{100 * noise.level:g} %",
        "interval": f"{_percent(noise.low)} to {_percent(noise.high)}",
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _verdicts(rows: Sequence[Listed]) -> list[dict[str, Any]]:
    counts = Counter(row.verdict for row in rows)
    return [{"name": name, "count": counts[name], "meaning": MEANINGS[name]} for name in VERDICTS]


def _class_table(result: Result) -> list[dict[str, Any]]:
    counts = Counter(row.given for row in result.rows)
    doubtful = Counter(row.given for row in result.rows if row.suspicious)
    wrong: dict[str, float] = dict.fromkeys(counts, 0.0)
    for row in result.rows:
        wrong[row.given] += (1 - row.clean_probability) * row.suspicious
    found = []
    for name in result.class_names:
        share = doubtful[name] / counts[name] if counts[name] else 0.0
        about = {"name": name, "count": counts[name], "suspicious": doubtful[name]}
        about["precision"] = f"{100 * wrong[name] / doubtful[name]:.0f} %" if doubtful[name] else ""
        found.append(about | {"share": f"{share:.3f}", "percent": f"{100 * share:.0f} %"})
    return found


def _confusion(result: Result, names: Sequence[str]) -> dict[str, Any]:
    """Suspicious labels, counted by given and suggested class: pairs, and a matrix where the classes are few."""
    number = {name: index for index, name in enumerate(names)}
    counts = Counter(
        (number[row.given], number[row.suggested])
        for row in result.rows
        if row.suspicious and row.given != row.suggested
    )
    in_order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    pairs = [
        {"given": given, "suggested": other, "count": count} for (given, other), count in in_order[:PAIRS]
    ]
    matrix = None
    if len(names) <= MATRIX and pairs:
        largest = in_order[0][1]
        matrix = [
            [_cell(counts[given, other], largest) for other in range(len(names))]
            for given in range(len(names))
        ]
    return {"pairs": pairs, "matrix": matrix}


def _cell(count: int, largest: int) -> dict[str, int]:
    return {"count": count, "heat": max(1, math.ceil(HEATS * count / largest))}


def duplicate_groups(rows: Sequence[Listed]) -> list[list[Listed]]:
    """Photos with their copies, of two and more; those whose labels differ come first, then by rank."""
    groups: dict[str, list[Listed]] = {}
    for row in rows:
        groups.setdefault(row.duplicate_of or row.id, []).append(row)
    found = [group for group in groups.values() if len(group) > 1]
    return sorted(
        found, key=lambda group: (len({row.given for row in group}) < 2, min(row.rank for row in group))
    )


def _data(
    result: Result,
    rows: Sequence[Listed],
    pictures: Sequence[str],
    names: Sequence[str],
    groups: Sequence[Sequence[Listed]],
    out: Path,
    audit: bool,
) -> dict[str, Any]:
    """What the script works on: a column a fact. An audit's holds nothing that the list says of a photo."""
    number = {name: index for index, name in enumerate(names)}
    at = {row.id: index for index, row in enumerate(rows)}
    blind: list[Any] = [None] * len(rows)
    photos: dict[str, list[Any]] = {
        "id": [row.id for row in rows],
        "path": [row.path for row in rows],
        "given": [number[row.given] for row in rows],
        "thumb": list(pictures),
        "suggested": blind if audit else [number[row.suggested] for row in rows],
        "p": blind if audit else [_rounded(row.clean_probability) for row in rows],
        "verdict": blind if audit else [row.verdict for row in rows],
        "rank": blind if audit else [row.rank for row in rows],
        "group": blind if audit else [row.group for row in rows],
        "votes": [[] if audit else [_rounded(row.opinions.get(n)) for n in result.opinions] for row in rows],
        "near": [
            [] if audit else [at.get(near.id, [near.id, near.label]) for near in row.neighbors]
            for row in rows
        ],
    }
    return {
        "digest": result.digest,
        "audit": audit,
        "file": "audit.csv" if audit else "decisions.csv",
        "names": list(names),
        "classes": len(result.class_names),
        "opinions": list(result.opinions),
        "photos": photos,
        "groups": [[at[row.id] for row in group] for group in groups],
        "originals": _originals(result.root, out),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def _originals(root: Path, out: Path) -> str:
    """The address of the photos' folder as seen from the report."""
    from urllib.parse import quote

    place = Path(os.path.relpath(root.resolve(), out.parent.resolve())).as_posix()
    return quote(place) + "/"


def _pictures_inside(rows: Sequence[Listed], root: Path) -> list[str]:
    def address(picture: bytes) -> str:
        return f"data:image/webp;base64,{base64.b64encode(picture).decode()}" if picture else ""

    return [address(picture) for picture in _small(rows, root)]


def _pictures_beside(rows: Sequence[Listed], root: Path, folder: Path, name: str) -> list[str]:
    """Write the pictures to folders of a thousand, and give their addresses as seen from the report."""
    from urllib.parse import quote

    addresses = []
    for number, picture in enumerate(_small(rows, root)):
        place = f"{number // 1000:03}/{number:06}.webp"
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if picture:
            (folder / place).write_bytes(picture)
        addresses.append(f"{quote(name)}/{place}" if picture else "")
    return addresses


def _small(rows: Sequence[Listed], root: Path) -> Any:
    def one(row: Listed) -> bytes:
        return thumbnail(root / row.path) if row.path else b""

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        yield from pool.map(one, rows)


def thumbnail(path: Path, size: int = SIZE) -> bytes:
    """The photo, upright and on white, at most `size` pixels wide and high, as WebP; b"" where it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((size, size))
            if upright.has_transparency_data:
                whole = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
            stream = BytesIO()
            upright.convert("RGB").save(stream, "WEBP", quality=QUALITY, method=4)
    except Exception:  # on damaged files PIL raises nearly any type
        return b""
    return stream.getvalue()
