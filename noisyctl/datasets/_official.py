"""Data sets as their authors publish them: the official files, their checksums, and how to get them.

The user's files are only read. Nothing is downloaded unless it is asked for, and nothing is unpacked on the disk.
"""

import gzip
import hashlib
import os
import shlex
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from noisyctl.datasets import Split
from noisyctl.errors import DataError, ParamsError
from noisyctl.images import to_ids

LARGEST = 2**28  # bytes of an unpacked file; the largest official one has 155 MB


@dataclass(frozen=True)
class File:
    """A file and its official MD5. `size` is in bytes, and given for files that are downloaded."""

    name: str
    md5: str
    size: int = 0


@dataclass(frozen=True)
class Release:
    """The official files of a data set.

    `downloads` are the files that the sites offer; `files` are those that are read, after unpacking. `folder` is
    where the archive, or torchvision, puts `files`.
    """

    name: str
    sites: tuple[str, ...]
    downloads: tuple[File, ...]
    files: tuple[File, ...]
    folder: str

    @property
    def wanted(self) -> str:
        """The files that one has to get, and from where."""
        files = ", ".join(f"{file.name} ({file.size:,} bytes, MD5 {file.md5})" for file in self.downloads)
        return f"get {files} from {self.sites[0]}"

    def cure_at(self, root: str) -> str:
        """What to get so that it is found at `root`, which a params.yaml may name, and the command for it."""
        command = shlex.join(
            ["noisyctl", "prepare-data", "--dataset", self.name, "--root", root, "--download"]
        )
        return f"{self.wanted} and put it there, or fetch it there by `{command}`"

    @property
    def cure(self) -> str:
        """What to get, and the commands for it."""
        command = f"noisyctl prepare-data --dataset {self.name}"
        return f"{self.wanted} and run `{command} --root FOLDER`, or fetch by `{command} --download`"


def locate(root: str | None, download: bool, release: Release) -> Path:
    """Where the files are: `root`, or the cache folder. With `download` they are fetched if they are not there.

    Raises ParamsError if neither is given, and DataError if there is nothing at `root`.
    """
    if root is None and not download:
        raise ParamsError(f"{release.name} comes without its files; {release.cure}")
    place = Path(root).expanduser() if root else cache_folder() / release.name
    if download and not _is_there(place, release):
        _fetch(place, release)
    if not place.exists():
        raise DataError(f"{root} does not exist; {release.cure_at(str(root))}")
    return place


def cache_folder() -> Path:
    """The folder where downloads without a `root` are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "noisyctl"


def _is_there(place: Path, release: Release) -> bool:
    names = [file.name for file in release.files]
    return place.is_file() or any(
        all((folder / name).exists() for name in group)
        for folder in (place, place / release.folder)
        for group in (names, [f"{name}.gz" for name in names], [file.name for file in release.downloads])
    )


def _fetch(place: Path, release: Release) -> None:
    from torchvision.datasets.utils import download_url

    for file in release.downloads:
        reasons = []
        for site in release.sites:
            try:
                place.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=place, prefix=".download-") as partial:
                    download_url(site + file.name, partial, file.name, file.md5)
                    os.replace(Path(partial, file.name), place / file.name)  # noqa: PTH105 - moved as a whole or not at all
                break
            except (OSError, HTTPException, RuntimeError) as error:
                reasons.append(f"{site}: {error}")
        else:
            raise DataError(f"cannot fetch {file.name} to {place} ({'; '.join(reasons)}); {release.cure}")


def archived_contents(place: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    """Name and content of each of `files`, from their folder if they are unpacked, else from the archive.

    Raises DataError if one is missing or not the official one.
    """
    for folder in (place, place / release.folder):
        if (folder / release.files[0].name).exists():
            return _from_folder(folder, release)
    (official,) = release.downloads
    archive = place / official.name if place.is_dir() else place
    if not archive.exists():
        raise DataError(
            f"{place} holds neither {official.name} nor the folder {release.folder}; {release.cure}"
        )
    if (size := archive.stat().st_size) != official.size:
        raise DataError(
            f"{archive} has {size:,} bytes, not {official.size:,}: cut short, or another file; {release.cure}"
        )
    with archive.open("rb") as stream:
        _require_md5(archive, hashlib.file_digest(stream, _md5).hexdigest(), official, release)
    return _from_archive(archive, release)


def _from_folder(folder: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    for file in release.files:
        content = _content(folder / file.name, release)
        _require_md5(folder / file.name, _md5(content).hexdigest(), file, release)
        yield file.name, content


def _from_archive(archive: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    """The files in the order of the archive, unpacked in memory.

    Members that would be unsafe to unpack on a disk are refused, although nothing is written.
    """
    missing = {f"{release.folder}/{file.name}": file.name for file in release.files}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                tarfile.data_filter(member, str(archive.parent))
                if (name := missing.get(member.name)) is None:
                    continue
                stream = tar.extractfile(member) if member.isreg() and member.size <= LARGEST else None
                if stream is None:
                    what = f"larger than {LARGEST:,} bytes" if member.isreg() else "no regular file"
                    raise DataError(f"{archive}: its {member.name} is {what}; {release.cure}")
                del missing[member.name]
                yield name, stream.read()
    except tarfile.FilterError as error:
        raise DataError(f"{archive} is unsafe to unpack: {error}; {release.cure}") from error
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive} is damaged: {error}; {release.cure}") from error
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}; {release.cure}")


def gzipped_contents(place: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    """Name and content of each of `files`, which are in one folder, each plain or compressed (.gz)."""
    if not place.is_dir():
        raise DataError(f"{place} is not a folder; {release.cure}")
    for file in release.files:
        names = [file.name, f"{file.name}.gz"]
        paths = [path / name for path in (place, place / release.folder) for name in names]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            raise DataError(f"{place} holds no {names[1]}; {release.cure}")
        content = _content(path, release)
        _require_md5(path, _md5(content).hexdigest(), file, release)
        yield file.name, content


def _content(path: Path, release: Release) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {release.cure}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; {release.cure}") from error
    if len(content) > LARGEST:
        raise DataError(f"{path} holds more than {LARGEST:,} bytes; {release.cure}")
    return content


def splits(images: Mapping[str, UInt8[np.ndarray, "_ h w ch"]], name: str) -> dict[str, Split]:
    """The images by split, with ids made of the data set's name, the split and the position."""
    return {
        split: Split(array, to_ids([f"{name}-{split}-{index:05}" for index in range(len(array))]))
        for split, array in images.items()
    }


def _md5(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(content, usedforsecurity=False)


def _require_md5(path: Path, found: str, file: File, release: Release) -> None:
    if found != file.md5:
        raise DataError(
            f"{path} is not the official {file.name}: its content has the MD5 {found}, not {file.md5}; "
            f"it is damaged or another version; {release.cure}"
        )
