"""The user's image files: finding them, and reading them as one array of small squares.

Files are only opened for reading. A file that cannot be used is set aside with a reason, and never left out silently.
"""

import contextlib
import functools
import hashlib
import io
import os
import stat
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8, UInt32
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from noisyctl.datasets import Quarantined, value_counts
from noisyctl.errors import DataError

# PIL's formats that are tried, whatever a file is called: for an EPS file PIL would start Ghostscript.
EXTENSIONS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SYSTEM_FILES = frozenset(["thumbs.db", "desktop.ini", "__macosx"])
FILES = 64  # files that a thread reads at a time; fewer where their squares have more than BLOCK bytes
DIGITS = 16  # hexadecimal digits of a file's sha256 that make its id
BLOCK = 2**24
LARGEST_FILE = 2**28  # bytes of one file, and of all files that are being decoded at a time
# decoded pixels of one image, and of all images at a time; each takes 4 to 12 bytes of memory
MOST_PIXELS = 2**26
BAND = 2**20  # pixels that are converted at a time

MOST_IN_PART = 4096  # files that are read as one part of a long work; fewer where their squares have more than LARGEST_PART
LARGEST_PART = 2**26

T = TypeVar("T")
Report = Callable[[int, int], None]  # called with the number of images that are done and of all images
Tell = Callable[[int], None]  # called with the number of images of a part that are done


class Unusable(Exception):
    """A file cannot be used as an image; the message is the reason."""


class Outcome(NamedTuple):
    """The result of reading a file: the reason why it cannot be used, or "" and what is known about it."""

    reason: str
    is_gray: bool = False
    checksum: int = 0
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The images that could be read, in the order of their paths.

    `digests` are the first 16 hexadecimal digits of each file's sha256. `all_gray` says that all files are stored in
    shades of gray.
    """

    images: UInt8[np.ndarray, "kept size size ch"]
    digests: list[str]
    readable: Bool[np.ndarray, " n"]
    all_gray: bool
    quarantine: list[Quarantined]


@dataclass(frozen=True, eq=False)
class Scan:
    """What is known of the readable files without keeping pixels: counts of values, and each file's digest and CRC-32."""

    value_counts: Int64[np.ndarray, "ch 256"]
    digests: list[str]
    checksums: UInt32[np.ndarray, " kept"]
    readable: Bool[np.ndarray, " n"]
    all_gray: bool
    quarantine: list[Quarantined]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of files below a folder: squares of a size with 3 channels or one, or the counts of their values."""

    root: Path
    image_size: int
    gray: bool
    pixels: bool

    @property
    def square(self) -> int:
        """Bytes of a square."""
        return self.image_size**2 * (1 if self.gray else 3)

    @property
    def part(self) -> int:
        """How many files are read as one part, whoever reads them."""
        return max(1, min(MOST_IN_PART, LARGEST_PART // max(1, self.square)))


@dataclass(frozen=True, eq=False)
class Some:
    """What came of some files: an outcome of each, and of the readable ones the squares or the counts of their values."""

    outcomes: list[Outcome]
    values: UInt8[np.ndarray, "kept size size ch"] | Int64[np.ndarray, "ch 256"]


# Reads parts of files, which it gives with their numbers, in any order.
Reader = Callable[[Wanted, list[Sequence[str]], Report], Iterator[tuple[int, Some]]]


class Room:
    """A quantity, such as memory, that threads share. A thread waits until its share of it is free.

    A share that is larger than the whole is let in when no other thread holds any.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used, self._changed = size, 0, threading.Condition()

    @contextlib.contextmanager
    def hold(self, share: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + share <= self._size)
            self._used += share
        try:
            yield
        finally:
            with self._changed:
                self._used -= share
                self._changed.notify_all()


# always taken in this order, so that two threads never wait for each other
BYTES, PIXELS = Room(LARGEST_FILE), Room(MOST_PIXELS)


@contextlib.contextmanager
def images_are_reported_to(report: Report) -> Iterator[None]:
    """Inside, `report` is called with the number of images of a split that have been read. Elsewhere nothing is reported."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


@contextlib.contextmanager
def images_are_read_by(reader: Reader) -> Iterator[None]:
    """Inside, `reader` reads the parts of all files. Elsewhere this process reads them, one after the other."""
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


def to_ids(paths: Sequence[str]) -> Shaped[np.ndarray, " n"]:
    """The texts as an array of numpy's StringDType."""
    return np.array(paths, np.dtypes.StringDType()).reshape(len(paths))


def is_system_file(name: str) -> bool:
    """Whether a file is hidden, or one that Windows or macOS leave behind."""
    return name.startswith(".") or name.casefold() in SYSTEM_FILES


def find(root: Path) -> tuple[list[str], list[Quarantined]]:
    """Image files below `root`, by their extension, as sorted relative POSIX paths; and the files that are set aside.

    Links are followed, except those to a folder that they lie in.
    """
    paths: list[str] = []
    aside: list[Quarantined] = []
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while pending:
        prefix, above = pending.pop()
        try:
            names = sorted(os.listdir(root / prefix))  # noqa: PTH208
        except OSError as error:
            aside.append(Quarantined(_printable(prefix) or ".", reason_of(error)))
            continue
        for name in names:
            path = prefix + name
            if is_system_file(name):
                continue
            if os.path.isdir(root / path):  # noqa: PTH112 - never raises
                real = os.path.realpath(root / path)
                if real in above:
                    aside.append(Quarantined(_printable(path), "a link to a folder that it lies in"))
                else:
                    pending.append((f"{path}/", (*above, real)))
            elif reason := _reason_by_name(path):
                aside.append(Quarantined(_printable(path), reason))
            else:
                paths.append(path)
    return sorted(paths), sorted(aside, key=lambda file: file.path)


def _reason_by_name(path: str) -> str:
    if _printable(path) != path:
        return "its name is not UTF-8; rename it"
    extension = os.path.splitext(path)[1]  # noqa: PTH122
    known = any(extension.casefold() in group for group in EXTENSIONS.values())
    return "" if known else f"not an image file ({extension or 'no extension'})"


def _printable(path: str) -> str:
    r"""The path, with bytes that are not valid text written as \xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read(root: Path, paths: Sequence[str], image_size: int, *, gray: bool) -> Pixels:
    """Decode files to squares with 3 channels, or 1 with `gray`. The result does not depend on the number of threads.

    Raises DataError if the images do not fit in memory.
    """
    shape = (len(paths), image_size, image_size, 1 if gray else 3)
    try:
        images = np.empty(shape, np.uint8)
    except MemoryError as error:
        memory = f"{np.prod(shape, dtype=float) / 2**30:.1f} GiB"
        images_of = f"{len(paths)} images of {image_size}x{image_size}"
        cure = "lower --image-size or use --keep files"
        raise DataError(f"{root}: {images_of} need {memory} of memory; {cure}") from error

    wanted, found = Wanted(root, image_size, gray, pixels=True), dict[int, list[Outcome]]()
    for number, some in _parts(wanted, paths):
        place = images[number * wanted.part : number * wanted.part + len(some.outcomes)]
        place[[not outcome.reason for outcome in some.outcomes]] = some.values
        found[number] = some.outcomes
    outcomes = [outcome for number in sorted(found) for outcome in found[number]]
    readable, all_gray, quarantine = _summary(paths, outcomes)
    kept = _compacted(images, np.flatnonzero(readable))
    return Pixels(kept, _digests(outcomes), readable, all_gray, quarantine)


def scan(root: Path, paths: Sequence[str], image_size: int, *, gray: bool) -> Scan:
    """Decode files as `read` does, but keep no pixels, only what has to be known about them."""
    wanted, found = Wanted(root, image_size, gray, pixels=False), dict[int, list[Outcome]]()
    counts = np.zeros((1 if gray else 3, 256), np.int64)
    for number, some in _parts(wanted, paths):
        counts += some.values
        found[number] = some.outcomes
    outcomes = [outcome for number in sorted(found) for outcome in found[number]]
    checksums = np.array([outcome.checksum for outcome in outcomes if not outcome.reason], np.uint32)
    return Scan(counts, _digests(outcomes), checksums, *_summary(paths, outcomes))


def some_of(wanted: Wanted, paths: Sequence[str], tell: Tell, threads: int = 0) -> Some:
    """What comes of some files, which are read in several threads: in one for each processor if not told otherwise."""
    shape = (wanted.image_size, wanted.image_size, 1 if wanted.gray else 3)
    images = np.empty((len(paths) if wanted.pixels else 0, *shape), np.uint8)

    def read_few(rows: range) -> tuple[Int64[np.ndarray, "ch 256"] | None, list[Outcome]]:
        place = images[rows.start : rows.stop] if wanted.pixels else np.empty((len(rows), *shape), np.uint8)
        few = [
            _read_into(image, wanted.root / paths[row], wanted.gray)
            for image, row in zip(place, rows, strict=True)
        ]
        return None if wanted.pixels else value_counts(place[[not outcome.reason for outcome in few]]), few

    counts, outcomes = np.zeros((shape[2], 256), np.int64), list[Outcome]()
    for few_counts, few in _in_threads(read_few, len(paths), max(1, wanted.square), threads):
        counts += 0 if few_counts is None else few_counts
        outcomes += few
        tell(len(outcomes))
    return Some(outcomes, images[[not outcome.reason for outcome in outcomes]] if wanted.pixels else counts)


def _parts(wanted: Wanted, paths: Sequence[str]) -> Iterator[tuple[int, Some]]:
    """What comes of the files, part after part, with the number of each part, in any order."""
    parts = [paths[start : start + wanted.part] for start in range(0, len(paths), wanted.part)]
    return _reader.get()(wanted, parts, _report.get())


def read_here(wanted: Wanted, parts: list[Sequence[str]], report: Report) -> Iterator[tuple[int, Some]]:
    """Reads the parts in this process, one after the other."""
    total, done = sum(map(len, parts)), 0
    for number, part in enumerate(parts):
        yield number, some_of(wanted, part, functools.partial(_report_from, report, done, total))
        done += len(part)


def _report_from(report: Report, start: int, total: int, done: int) -> None:
    report(start + done, total)


_report: ContextVar[Report] = ContextVar("report", default=lambda done, total: None)
_reader: ContextVar[Reader] = ContextVar("reader", default=read_here)


def _in_threads(work: Callable[[range], T], number: int, square: int, threads: int) -> Iterator[T]:
    """The results of `work` for all rows, some rows at a time, in order. `square` is the number of bytes of a read image."""
    size = max(1, min(FILES, BLOCK // square))
    _formats()
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 16)) as pool,
    ):
        warnings.simplefilter("ignore")  # PIL warns about odd but readable files
        yield from pool.map(work, [range(s, min(s + size, number)) for s in range(0, number, size)])


def _summary(
    paths: Sequence[str], outcomes: Sequence[Outcome]
) -> tuple[Bool[np.ndarray, " n"], bool, list[Quarantined]]:
    """Mask of the readable files, whether these are all gray, and the files that are set aside."""
    both = zip(paths, outcomes, strict=True)
    aside = [Quarantined(path, outcome.reason) for path, outcome in both if outcome.reason]
    readable = np.array([not outcome.reason for outcome in outcomes], bool)
    return readable, all(outcome.is_gray for outcome in outcomes if not outcome.reason), aside


def _digests(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.digest for outcome in outcomes if not outcome.reason]


def content_ids(
    digests: Sequence[str], paths: Sequence[str]
) -> tuple[Int64[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """Positions of the files in the order of their ids, and the sorted ids, which depend on the content alone.

    The id is the digest. Of files with the same content, the second by path gets DIGEST-2, the third DIGEST-3. So
    neither the folder of a file nor its label changes an id or the order of the rows.
    """
    by_path = np.array(sorted(range(len(paths)), key=lambda row: (digests[row], paths[row])), np.int64)
    ids = to_ids([digests[row] for row in by_path])
    first = np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)]
    place = np.arange(len(ids))
    number = place - np.maximum.accumulate(np.where(first, place, 0)) + 1
    copies = np.flatnonzero(number > 1)
    ids[copies] = to_ids([f"{ids[row]}-{number[row]}" for row in copies])
    order = np.argsort(ids, kind="stable")
    return by_path[order], ids[order]


def arrange(
    images: UInt8[np.ndarray, "n h w ch"], order: Int64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n h w ch"]:
    """`images[order]`, computed in the memory of `images`, since they may fill all of it."""
    moved = order == np.arange(len(order))
    for start in range(len(order)):
        if moved[start]:
            continue
        saved, to = images[start].copy(), start
        while order[to] != start:
            images[to] = images[order[to]]
            moved[to], to = True, order[to]
        images[to] = saved
        moved[to] = True
    return images


def _compacted(
    images: UInt8[np.ndarray, "n h w ch"], kept: Int64[np.ndarray, " kept"]
) -> UInt8[np.ndarray, "kept h w ch"]:
    """The rows `kept`, moved to the front in place, since the images may fill the memory."""
    for to, row in enumerate(kept):
        if to != row:
            images[to] = images[row]
    return images[: len(kept)]


def _read_into(out: UInt8[np.ndarray, "size size ch"], path: Path, gray: bool) -> Outcome:
    """Read a file into `out`; returns what came of it."""
    try:
        with content_of(path) as content:
            square, is_gray = decode(content, len(out), "L" if gray else "RGB")
            checksum, digest = zlib.crc32(content), hashlib.sha256(content).hexdigest()[:DIGITS]
    except Exception as error:  # PIL raises nearly any type of error on damaged files
        return Outcome(reason_of(error))
    out[...] = square.reshape(out.shape)
    return Outcome("", is_gray, checksum, digest)


@contextlib.contextmanager
def content_of(path: Path) -> Iterator[bytes]:
    """The content of a file. All threads together hold a limited number of bytes at a time.

    Raises Unusable if the file is empty, too large, or not a regular file. A file that is too large is not read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise Unusable("not a regular file")
    if about.st_size > LARGEST_FILE:
        raise Unusable(f"{about.st_size:,} bytes, more than {LARGEST_FILE:,}; save a smaller image")
    with BYTES.hold(about.st_size):
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE)
        if not content:
            raise Unusable("the file is empty")
        yield content


def decode(content: bytes, image_size: int, mode: str) -> tuple[UInt8[np.ndarray, "size size ..."], bool]:
    """The upright image as a square, and whether it is stored in shades of gray.

    The shorter side is scaled to `image_size` (bilinear, antialiased) and the center is kept. Threads wait while
    others decode MOST_PIXELS pixels. Raises Unusable if a single image has more; of a JPEG those pixels count that
    are decoded, which are fewer if it is shrunk while decoding.
    """
    with Image.open(io.BytesIO(content), formats=_formats()) as image:
        whole = image.size
        image.draft(None, (2 * image_size, 2 * image_size))  # JPEG: skip detail that the resizing would drop
        width, height = (
            whole if image.info.get("progressive") else image.size
        )  # of a progressive JPEG, all coefficients are kept in memory
        if width * height > MOST_PIXELS:
            raise Unusable(f"{width} x {height} pixels, more than {MOST_PIXELS:,}; save a smaller image")
        with PIXELS.hold(width * height):
            image.load()
            is_gray = image.mode[0] in "1LI"
            flat = _flattened(_upright(image), mode)
            fitted = ImageOps.fit(flat, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(fitted), is_gray


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # the pixels may be sound although EXIF is damaged
        return image


def _flattened(image: Image.Image, mode: str) -> Image.Image:
    """The image with 8 bits per channel, on white where it is transparent; converted in bands, since it may be large."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise Unusable("fractional pixel values have no agreed range; save it with 8 or 16 bits")
    if image.mode == "I":
        low, high = np.asarray(image.getextrema())
        if low < 0 or high > 65535:
            raise Unusable("32-bit values beyond 0..65535 have no agreed range; save it with 8 or 16 bits")
    flat = Image.new(mode, image.size)
    height = max(1, BAND // image.width)
    for top in range(0, image.height, height):
        band = image.crop((0, top, image.width, min(top + height, image.height)))
        flat.paste(_flattened_band(band, mode), (0, top))
    return flat


def _flattened_band(image: Image.Image, mode: str) -> Image.Image:
    if image.mode[0] == "I":
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in EXTENSIONS if name in Image.OPEN)


def reason_of(error: Exception) -> str:
    """Why a file cannot be used, in words that do not contain its place on this machine."""
    match error:
        case Unusable():
            return str(error)
        case UnidentifiedImageError():
            return "its content is no image of a known format"
        case Image.DecompressionBombError():
            return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which may be an attack"
        case MemoryError():
            return "there is too little memory to decode it"
        case FileNotFoundError():
            return "the file does not exist"
        case OSError(strerror=str(text)):
            return text[:1].lower() + text[1:]
        case _:
            return f"cannot be decoded: {(str(error) or type(error).__name__).splitlines()[0]}"
