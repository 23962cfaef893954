"""Photos in folders: a folder of links or copies by class, and whether a photo is still the one that was judged."""

import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from noisyctl.errors import DataError, ParamsError
from noisyctl.review.result import LABELS, PARQUET, Listed, Result

As = Literal["links", "copies"]
AS = ("links", "copies")
CONTENT_ID = re.compile(r"(?P<digits>[0-9a-f]{16})(-\d+)?")  # of folders and manifests: of the file's sha256
UNSAFE = re.compile(r"[%/\\:\x00-\x1f]|^\.+")


@dataclass(frozen=True)
class LeftOut:
    """A photo that is not in an output, and why."""

    path: str
    reason: str


def why_not(photo: Listed, root: Path, *, content: bool) -> str:
    """Why a photo is no longer the one that was judged, or "". With `content` its bytes are compared with its id."""
    if not photo.path:
        return "the list names no file for it"
    path = root / photo.path
    if not path.is_file():
        return "the file is gone since the list was made"
    digits = digits_of(photo.id)
    if content and digits and content_of(path) != digits:
        return "the file was replaced by another since the list was made"
    return ""


def digits_of(id_: str) -> str:
    """The digits of an id that are made of its file's content; "" where it is not."""
    match = CONTENT_ID.fullmatch(id_)
    return match["digits"] if match else ""


def content_of(path: Path) -> str:
    """The same digits of a file; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""


def require_root(result: Result) -> None:
    """Raise DataError where the folder of the photos is not there, or the list is of vectors, which have no photos."""
    if not result.has_photos:
        raise DataError(
            f"the list in {result.folder} was made of vectors, and there are no photos that this command could work on; "
            f"take {result.folder / LABELS} or {PARQUET}"
        )
    if not result.root.is_dir():
        raise DataError(
            f"{result.root}, the folder of the photos, is not there; if they were moved, give the folder with --root"
        )


def require_as(value: str) -> As:
    """The option's value. Raises ParamsError where it is neither links nor copies."""
    for known in AS:
        if value == known:
            return known  # type: ignore[return-value]
    raise ParamsError(f"--as is {value!r}; one of: {', '.join(AS)}")


def folder_name(name: str) -> str:
    """A class's name as the name of one folder: what a path cannot hold is written as %XX, and so are leading dots."""
    escaped = UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)
    return escaped or "%"


def arrange(photos: Iterable[tuple[Listed, str]], root: Path, folder: Path, how: As) -> dict[str, str]:
    """Put a link or a copy of each photo into `folder`/place, and give the file by the photo's id.

    A place is a folder such as train/dress. A name that is taken there already gets the photo's id behind it.
    """
    places: dict[str, str] = {}
    taken: set[str] = set()
    for photo, place in photos:
        name = Path(photo.path).name
        target = f"{place}/{name}" if place else name
        if target.casefold() in taken:  # also where the file system does not tell A from a
            target = f"{target.removesuffix(Path(name).suffix)}-{photo.id}{Path(name).suffix}"
        taken.add(target.casefold())
        places[photo.id] = target
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        put(root / photo.path, folder / target, how)
    return places


def put(source: Path, target: Path, how: As) -> None:
    """Make a link to a photo, or a copy of it."""
    if how == "links":
        target.symlink_to(source.absolute())
    else:
        shutil.copyfile(source, target)
