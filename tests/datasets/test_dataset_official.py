"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST: look-alikes of a few images, made on the spot, and what goes wrong."""

import dataclasses
import functools
import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from noisyctl import datasets
from noisyctl.datasets import _cifar, _idx, _official, cifar10, cifar100, fashion_mnist, mnist
from noisyctl.datasets._cifar import Layout
from noisyctl.datasets._official import File, Release, locate
from noisyctl.errors import DataError, ParamsError

MODULES = {"cifar10": cifar10, "cifar100": cifar100, "mnist": mnist, "fashion_mnist": fashion_mnist}


# Look-alikes


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes texts and bytes as Python 2's str, and numpy's names as they then were, as in CIFAR's files."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, value: Any) -> None:
        content = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or value.__qualname__}\n".encode())

    dispatch[type] = save_global
    dispatch[type(functools.reduce)] = dispatch[type(locate)] = save_global


def python2_pickle(value: Any) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def pixels(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, 3072)).astype(np.uint8)


def cifar10_files() -> dict[str, Any]:
    """Five batches of two images and a test batch of three."""
    files: dict[str, Any] = {
        f"data_batch_{k}": {"data": pixels(2, k), "labels": [k, 9 - k], "filenames": ["a.png", "b.png"]}
        for k in range(1, 6)
    }
    files["test_batch"] = {"data": pixels(3, 0), "labels": [0, 1, 2]}
    files["batches.meta"] = {"label_names": [f"class{k}" for k in range(10)], "num_vis": 3072}
    return files


def cifar100_files() -> dict[str, Any]:
    fine = {"train": [0, 99, 50, 1], "test": [3, 7]}
    return {
        name: {
            "data": pixels(len(labels), len(labels)),
            "fine_labels": labels,
            "coarse_labels": [cifar100.COARSE_OF_FINE[label] for label in labels],
        }
        for name, labels in fine.items()
    } | {
        "meta": {
            "fine_label_names": list(cifar100.FINE_NAMES),
            "coarse_label_names": list(cifar100.COARSE_NAMES),
        }
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar(folder: str, contents: Mapping[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """An archive; its members are not in the order of the batches, as in the official one."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name in sorted(contents, reverse=True):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(contents[name])
            archive.addfile(member, io.BytesIO(contents[name]))
    return stream.getvalue()


def look_alike(layout: Layout, contents: Mapping[str, bytes], archive: bytes) -> Layout:
    """The layout of a few images, with checksums as if they were official."""
    release = dataclasses.replace(
        layout.release,
        downloads=(File(layout.release.downloads[0].name, md5(archive), len(archive)),),
        files=tuple(File(f.name, md5(contents.get(f.name, b""))) for f in layout.release.files),
    )
    counts = {"test_batch": 3, "train": 4}
    small = {split: {name: counts.get(name, 2) for name in files} for split, files in layout.splits.items()}
    return dataclasses.replace(layout, release=release, splits=small)


def place(folder: Path, layout: Layout, files: Mapping[str, Any], *extra: tarfile.TarInfo) -> Layout:
    """Write the archive to `folder`; a value that is bytes is a file as it is."""
    contents = {
        name: value if isinstance(value, bytes) else python2_pickle(value) for name, value in files.items()
    }
    archive = tar(layout.release.folder, contents, *extra)
    (folder / layout.release.downloads[0].name).write_bytes(archive)
    return look_alike(layout, contents, archive)


def unpack(folder: Path, layout: Layout) -> None:
    with tarfile.open(folder / layout.release.downloads[0].name) as archive:
        archive.extractall(folder, filter="data")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


COUNTS = {"train": 4, "t10k": 2}


def idx_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, number in COUNTS.items():
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (number, 28, 28)).astype(np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, number).astype(np.uint8))
    return files


def place_idx(folder: Path, files: Mapping[str, bytes], *, compress: bool = True) -> Release:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    official = tuple(File(name, md5(content)) for name, content in files.items())
    return dataclasses.replace(mnist.RELEASE, files=official)


# CIFAR


@pytest.mark.parametrize("where", ["archive", "folder of the archive", "parent of the folder", "the folder"])
def test_cifar10_is_read_wherever_it_lies(tmp_path: Path, where: str) -> None:
    files = cifar10_files()
    layout = place(tmp_path, cifar10.LAYOUT, files)
    archive = tmp_path / layout.release.downloads[0].name
    if "folder" in where and "archive" not in where:
        unpack(tmp_path, layout)
        archive.unlink()
    root = {"archive": archive, "the folder": tmp_path / layout.release.folder}.get(where, tmp_path)
    content = _cifar.read(root, layout)
    names = [f"data_batch_{k}" for k in range(1, 6)]
    assert content.labels["labels"]["train"].tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]  # batches 1..5
    assert content.labels["labels"]["test"].tolist() == [0, 1, 2]
    assert content.class_names["labels"] == tuple(f"class{k}" for k in range(10))
    rows = np.concatenate([files[name]["data"] for name in names])
    for image, row in zip(content.images["train"], rows, strict=True):
        for y, x, channel in [(0, 0, 0), (3, 5, 1), (31, 31, 2)]:  # red, then green, then blue, by rows
            assert image[y, x, channel] == row[1024 * channel + 32 * y + x]
    assert content.images["test"].dtype == np.uint8


def test_cifar10_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files())
    monkeypatch.setattr(cifar10, "LAYOUT", layout)
    data = cifar10.prepare(cifar10.Params(root=str(tmp_path)))
    assert list(data.splits["train"].ids)[:2] == ["cifar10-train-00000", "cifar10-train-00001"]
    assert data.splits["test"].ids[-1] == "cifar10-test-00002"
    assert data.truth["test"].tolist() == [0, 1, 2]
    assert data.given_labels is None
    assert data.views == "natural"
    assert len(data.mean) == 3


def test_cifar100_gives_fine_labels_and_checks_the_coarse_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cifar100_files()
    monkeypatch.setattr(cifar100, "LAYOUT", place(tmp_path, cifar100.LAYOUT, files))
    data = cifar100.prepare(cifar100.Params(root=str(tmp_path)))
    unit = cifar100.prepare(cifar100.Params(root=str(tmp_path), pixels="unit"))  # as JoCoR's code
    assert (data.views, unit.views, unit.mean, unit.std) == (
        "natural",
        "natural_still",
        (0.0,) * 3,
        (1.0,) * 3,
    )
    assert data.mean != unit.mean
    assert data.class_names == cifar100.FINE_NAMES
    assert data.truth["train"].tolist() == [0, 99, 50, 1]
    assert data.splits["train"].ids[3] == "cifar100-train-00003"

    files["test"]["coarse_labels"][1] += 1
    monkeypatch.setattr(cifar100, "LAYOUT", place(tmp_path, cifar100.LAYOUT, files))
    with pytest.raises(DataError, match=r"1 test images \(the first is 1\) lie in a superclass that is not"):
        cifar100.prepare(cifar100.Params(root=str(tmp_path)))

    files["meta"]["coarse_label_names"][0] = "whales"
    monkeypatch.setattr(cifar100, "LAYOUT", place(tmp_path, cifar100.LAYOUT, files))
    with pytest.raises(DataError, match="the names of the coarse_labels are not CIFAR-100's"):
        cifar100.prepare(cifar100.Params(root=str(tmp_path)))


def test_superclasses_of_cifar100() -> None:
    # Spot checks against the authors' page: 5 classes each; wolf in large carnivores, tank in vehicles 2.
    assert len(cifar100.FINE_NAMES) == len(set(cifar100.FINE_NAMES)) == 100
    assert np.bincount(cifar100.COARSE_OF_FINE).tolist() == [5] * 20
    fine = np.array(
        [cifar100.FINE_NAMES.index(name) for name in ("wolf", "tank", "beaver", "apple")], np.int64
    )
    names = [cifar100.COARSE_NAMES[label] for label in cifar100.coarse_labels(fine)]
    assert names == ["large_carnivores", "vehicles_2", "aquatic_mammals", "fruit_and_vegetables"]
    # The ids that every CIFAR-100 file uses: apple is 0, in superclass 4; worm is 99, in 13.
    assert (cifar100.FINE_NAMES[0], cifar100.COARSE_OF_FINE[0]) == ("apple", 4)
    assert (cifar100.FINE_NAMES[99], cifar100.COARSE_OF_FINE[99]) == ("worm", 13)


# Pickles


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "executed"
    evil = pickle.dumps({0: Malicious(trap)}, protocol=protocol)
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files() | {"data_batch_3": evil})
    with pytest.raises(
        DataError, match=r"data_batch_3 asks for posix.mkdir, which may run code and was not run"
    ):
        _cifar.read(tmp_path, layout)
    assert not trap.exists()
    pickle.loads(evil)
    assert trap.exists()  # the trap works


REFUSED = {
    "__builtin__.eval": b"c__builtin__\neval\n.",
    "os.system": b"cos\nsystem\n(S'true'\ntR.",
    "numpy.load": b"cnumpy\nload\n.",
    "numpy.core.multiarray.fromfile": b"cnumpy.core.multiarray\nfromfile\n.",
    "_codecs.encode": b"c_codecs\nencode\n.",
    "an array of b'O'": b"cnumpy\ndtype\n(S'O'\nI0\nI1\ntR.",
    "an array of b'V8'": b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.",
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_a_pickle_may_not_ask_for(name: str) -> None:
    with pytest.raises(DataError, match=f"asks for {re.escape(name)}, which may run code"):
        _cifar.unpickled(REFUSED[name], "x", cifar10.RELEASE)


def test_a_dtype_cannot_be_changed_by_a_pickle() -> None:
    state = python2_pickle((3, "|", None, None, None, -1, -1, 0))[2:-1]
    evil = (
        b"\x80\x02cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
        + state.replace(b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f")
        + b"b."
    )
    with pytest.raises(DataError):
        _cifar.unpickled(evil, "x", cifar10.RELEASE)
    assert np.dtype(np.uint8).itemsize == 1
    assert np.arange(3, dtype=np.uint8).tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", b"\x80\x02}q\x00(U\x04data", b"(dp0\nN."])
def test_damaged_pickles(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x (is a damaged pickle|holds NoneType, not a dict)"):
        _cifar.unpickled(content, "x", cifar10.RELEASE)


def test_every_cut_of_a_batch_is_an_error() -> None:
    whole = python2_pickle({"labels": [1, 2], "data": np.arange(6, dtype=np.uint8)})
    assert _cifar.unpickled(whole, "x", cifar10.RELEASE)[b"data"].tolist() == list(range(6))
    for end in range(len(whole)):
        with pytest.raises(DataError):
            _cifar.unpickled(whole[:end], "x", cifar10.RELEASE)


BAD_BATCHES = {
    "too few": (
        {"data": pixels(1, 0), "labels": [1, 2]},
        r"the pixels have the shape \(1, 3072\), not the shape \(2, 3072\)",
    ),
    "no pixels": ({"labels": [1, 2]}, "the pixels have NoneType, not the shape"),
    "labels": ({"data": pixels(2, 0), "labels": [1]}, "labels has 1 labels for 2 images"),
    "no labels": ({"data": pixels(2, 0)}, "labels is not a list of whole numbers from 0 on"),
    "negative": ({"data": pixels(2, 0), "labels": [1, -2]}, "labels is not a list of whole numbers"),
    "text": ({"data": pixels(2, 0), "labels": [1, "cat"]}, "labels is not a list of whole numbers"),
    "class": (
        {"data": pixels(2, 0), "labels": [1, 10]},
        "labels of train go up to 10, but batches.meta names 10 classes",
    ),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_batches_that_are_not_as_they_should_be(tmp_path: Path, name: str) -> None:
    batch, message = BAD_BATCHES[name]
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files() | {"data_batch_2": batch})
    with pytest.raises(DataError, match=message):
        _cifar.read(tmp_path, layout)


@pytest.mark.parametrize(
    "meta", [{}, {"label_names": "cat"}, {"label_names": [1, 2]}, {"label_names": ["caf\xe9"]}]
)
def test_class_names_that_are_none(tmp_path: Path, meta: dict[str, Any]) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files() | {"batches.meta": meta})
    with pytest.raises(
        DataError, match=r"batches.meta: label_names is not a list of names; get cifar-10-python"
    ):
        _cifar.read(tmp_path, layout)


# Archives


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


UNSAFE = {
    "traversal": (member("../evil"), r"unsafe to unpack: .*evil.* would be extracted to"),
    "deep": (member("cifar-10-batches-py/../../evil"), "unsafe to unpack"),
    "link out": (
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        "unsafe to unpack: 'link' is a link to an absolute path",
    ),
    "link up": (member("link", tarfile.LNKTYPE, "../../secret"), "unsafe to unpack"),
    "device": (member("dev", tarfile.CHRTYPE), "unsafe to unpack: 'dev' is a special file"),
    "linked batch": (
        member("cifar-10-batches-py/data_batch_1", tarfile.SYMTYPE, "test_batch"),
        "its cifar-10-batches-py/data_batch_1 is no regular file",
    ),
    "folder": (
        member("cifar-10-batches-py/data_batch_1", tarfile.DIRTYPE),
        "its cifar-10-batches-py/data_batch_1 is no regular file",
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_members(tmp_path: Path, name: str) -> None:
    extra, message = UNSAFE[name]
    (tmp_path / "in").mkdir()
    layout = place(tmp_path / "in", cifar10.LAYOUT, cifar10_files(), extra)
    with pytest.raises(DataError, match=message):
        _cifar.read(tmp_path / "in", layout)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "cifar-10-python.tar.gz"]


def test_nothing_is_written_beside_an_archive(tmp_path: Path) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files(), member("readme.html"))
    _cifar.read(tmp_path, layout)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def test_a_member_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files())
    monkeypatch.setattr(_official, "LARGEST", 5000)
    with pytest.raises(DataError, match="cifar-10-batches-py/test_batch is larger than 5,000 bytes"):
        _cifar.read(tmp_path, layout)


def test_an_archive_that_lacks_a_batch(tmp_path: Path) -> None:
    files = cifar10_files()
    del files["data_batch_4"]
    layout = place(tmp_path, cifar10.LAYOUT, files)
    with pytest.raises(
        DataError, match=r"lacks cifar-10-batches-py/data_batch_4; get cifar-10-python.tar.gz"
    ):
        _cifar.read(tmp_path, layout)


def as_official(path: Path, layout: Layout) -> Layout:
    """The layout whose archive is the file as it is now."""
    content = path.read_bytes()
    downloads = (File(path.name, md5(content), len(content)),)
    return dataclasses.replace(layout, release=dataclasses.replace(layout.release, downloads=downloads))


@pytest.mark.parametrize("damage", ["cut", "garbage", "no gzip", "bit"])
def test_damaged_archives(tmp_path: Path, damage: str) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files())
    archive = tmp_path / "cifar-10-python.tar.gz"
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "garbage":
        content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    elif damage == "no gzip":
        content[:] = b"<html>404</html>"
    else:
        content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    official = (
        r"has [\d,]+ bytes, not [\d,]+: cut short"
        if len(content) != layout.release.downloads[0].size
        else "MD5"
    )
    with pytest.raises(DataError, match=official):
        _cifar.read(tmp_path, layout)
    if damage != "bit":  # without the checksum, a bit of a pixel is not found
        with pytest.raises(DataError, match=r" is damaged: | is a damaged pickle "):
            _cifar.read(tmp_path, as_official(archive, layout))


def test_an_unpacked_batch_that_was_changed_or_lost(tmp_path: Path) -> None:
    layout = place(tmp_path, cifar10.LAYOUT, cifar10_files())
    unpack(tmp_path, layout)
    batch = tmp_path / "cifar-10-batches-py/data_batch_3"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1] + b"?")
    with pytest.raises(
        DataError, match=r"data_batch_3 is not the official data_batch_3: its content has the MD5 \w{32}, not"
    ):
        _cifar.read(tmp_path, layout)
    batch.unlink()
    with pytest.raises(DataError, match=r"data_batch_3 does not exist; get cifar-10-python.tar.gz"):
        _cifar.read(tmp_path, layout)


# MNIST


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_idx_files_are_read_wherever_they_lie(tmp_path: Path, compress: bool, below: str) -> None:
    files = idx_files()
    release = place_idx(tmp_path / below, files, compress=compress)
    images, labels = _idx.read(tmp_path, release, 10, COUNTS)
    for part, split in (("train", "train"), ("t10k", "test")):
        raw = np.frombuffer(files[f"{part}-images-idx3-ubyte"], np.uint8)[16:]
        assert (images[split].reshape(-1) == raw).all()
        assert images[split].shape == (COUNTS[part], 28, 28, 1)
        assert labels[split].tolist() == list(files[f"{part}-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize(("module", "views"), [(mnist, "mnist"), (fashion_mnist, "natural_gray")])
def test_mnist_and_fashion_mnist_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, views: str
) -> None:
    release = dataclasses.replace(module.RELEASE, files=place_idx(tmp_path, idx_files()).files)
    monkeypatch.setattr(module, "RELEASE", release)
    monkeypatch.setattr(_idx, "COUNTS", COUNTS)
    data = module.prepare(module.Params(root=str(tmp_path)))
    assert data.splits["train"].images.shape == (4, 28, 28, 1)
    assert data.splits["test"].ids[1] == f"{module.RELEASE.name}-test-00001"
    assert len(data.class_names) == 10
    assert data.views == views
    assert list(data.truth) == ["train", "test"]
    if module is mnist:
        unit = mnist.prepare(mnist.Params(root=str(tmp_path), pixels="unit"))
        assert (unit.mean, unit.std, unit.views) == ((0.0,), (1.0,), "mnist_still")
        assert (unit.splits["train"].images == data.splits["train"].images).all()


BAD_IDX = {
    "magic": (
        lambda content: b"\x00\x00\x0d\x03" + content[4:],
        "begins with 00000d03, not with the magic number 00000803",
    ),
    "empty": (lambda content: b"", "begins with nothing, not with the magic number"),
    "header": (lambda content: content[:6], r"has the shape \(0, 0, 0\), not \(4, 28, 28\)"),
    "count": (
        lambda content: content[:7] + b"\x05" + content[8:],
        r"has the shape \(5, 28, 28\), not \(4, 28, 28\)",
    ),
    "cut": (lambda content: content[:-1], r"holds 3135 values for the shape \(4, 28, 28\): cut short"),
    "long": (lambda content: content + b"\0", "holds 3137 values"),
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_idx_files_that_are_not_as_they_should_be(tmp_path: Path, name: str) -> None:
    change, message = BAD_IDX[name]
    files = idx_files()
    files["train-images-idx3-ubyte"] = change(files["train-images-idx3-ubyte"])
    release = place_idx(tmp_path, files)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte {message}"):
        _idx.read(tmp_path, release, 10, COUNTS)


def test_a_label_of_no_class(tmp_path: Path) -> None:
    files = idx_files() | {"t10k-labels-idx1-ubyte": idx(np.array([0, 10], np.uint8))}
    release = place_idx(tmp_path, files)
    with pytest.raises(DataError, match="a test label is 10, not below 10"):
        _idx.read(tmp_path, release, 10, COUNTS)


@pytest.mark.parametrize("damage", ["cut", "crc", "no gzip"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    release = place_idx(tmp_path, idx_files())
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-20], "crc": content[:-8] + b"\0" * 8, "no gzip": b"<html>"}[damage])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz cannot be read: "):
        _idx.read(tmp_path, release, 10, COUNTS)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = place_idx(tmp_path, idx_files() | {"t10k-images-idx3-ubyte": bytes(10**6)})
    monkeypatch.setattr(_official, "LARGEST", 10**5)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz holds more than 100,000 bytes"):
        _idx.read(tmp_path, release, 10, COUNTS)


def test_other_content_of_the_right_shape_is_refused(tmp_path: Path) -> None:
    place_idx(tmp_path, idx_files())
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.gz is not the official train-images-idx3-ubyte"
    ):
        mnist.prepare(mnist.Params(root=str(tmp_path)))


def test_idx_files_that_are_missing(tmp_path: Path) -> None:
    release = place_idx(tmp_path, idx_files())
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"holds no t10k-labels-idx1-ubyte.gz; get train-images"):
        _idx.read(tmp_path, release, 10, COUNTS)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is not a folder; get train-images"):
        _idx.read(tmp_path / "train-images-idx3-ubyte.gz", release, 10, COUNTS)


# What is official


def test_urls_and_checksums_are_torchvisions() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST

    for module, known in ((cifar10, CIFAR10), (cifar100, CIFAR100)):
        release = module.RELEASE
        assert release.folder == known.base_folder
        assert known.url == release.sites[0] + known.filename
        assert [(file.name, file.md5) for file in release.downloads] == [(known.filename, known.tgz_md5)]
        meta = [known.meta["filename"], known.meta["md5"]]
        assert [[file.name, file.md5] for file in release.files] == [
            *known.train_list,
            *known.test_list,
            meta,
        ]
    for module, known in ((mnist, MNIST), (fashion_mnist, FashionMNIST)):
        release = module.RELEASE
        assert list(release.sites) == known.mirrors
        assert [(file.name, file.md5) for file in release.downloads] == known.resources
        assert release.folder == f"{known.__name__}/raw"
    assert list(fashion_mnist.CLASS_NAMES) == FashionMNIST.classes


def test_the_counts_are_the_official_ones() -> None:
    for layout in (cifar10.LAYOUT, cifar100.LAYOUT):
        assert {split: sum(files.values()) for split, files in layout.splits.items()} == {
            "train": 50000,
            "test": 10000,
        }
        read = {name for files in layout.splits.values() for name in files} | {layout.meta}
        assert read == {file.name for file in layout.release.files}
    assert _idx.COUNTS == {"train": 60000, "t10k": 10000}


@pytest.mark.parametrize("name", MODULES)
def test_without_files_the_error_says_what_to_obtain(name: str, tmp_path: Path) -> None:
    module = datasets.load(name)
    with pytest.raises(ParamsError) as caught:
        module.prepare(module.Params())
    message = str(caught.value)
    assert "\n" not in message
    for file in module.RELEASE.downloads:
        assert f"{file.name} ({file.size:,} bytes, MD5 {file.md5})" in message
    assert f"`noisyctl prepare-data --dataset {name} --root FOLDER`" in message
    assert f"`noisyctl prepare-data --dataset {name} --download`" in message
    with pytest.raises(DataError, match=r"absent does not exist; get .*--download"):
        module.prepare(module.Params(root=str(tmp_path / "absent")))
    with pytest.raises(DataError, match=r"holds n(either|o) .*; get .*--download"):
        module.prepare(module.Params(root=str(tmp_path)))


# Downloads, from a server on this machine


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """MNIST's four files, offered by a server."""
    monkeypatch.setenv("no_proxy", "*")
    place_idx(tmp_path / "site", idx_files())
    offered = sorted((tmp_path / "site").iterdir())
    downloads = tuple(File(p.name, md5(p.read_bytes()), p.stat().st_size) for p in offered)
    files = tuple(File(name, md5(content)) for name, content in idx_files().items())
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/site/"
    yield Release("mnist", (address,), downloads, files, "MNIST/raw")
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_kept_and_not_repeated(tmp_path: Path, site: Release) -> None:
    home = tmp_path / "kept/here"
    assert locate(str(home), True, site) == home
    assert sorted(path.name for path in home.iterdir()) == [file.name for file in site.downloads]
    images, _ = _idx.read(home, site, 10, COUNTS)
    assert len(images["train"]) == 4
    unreachable = dataclasses.replace(site, sites=("http://127.0.0.1:1/",))
    assert locate(str(home), True, unreachable) == home
    assert locate(str(home), False, unreachable) == home


def test_a_download_without_a_root_goes_to_the_cache(
    tmp_path: Path, site: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = locate(None, True, site)
    assert home == tmp_path / "cache/noisyctl/mnist"
    assert (home / "t10k-images-idx3-ubyte.gz").exists()


def test_the_next_site_is_tried(tmp_path: Path, site: Release) -> None:
    mirrored = dataclasses.replace(site, sites=(site.sites[0] + "absent/", *site.sites))
    assert _idx.read(locate(str(tmp_path / "home"), True, mirrored), site, 10, COUNTS)


def test_a_download_with_another_checksum_is_not_kept(tmp_path: Path, site: Release) -> None:
    offered = tmp_path / "site/t10k-images-idx3-ubyte.gz"
    offered.write_bytes(offered.read_bytes()[:-1])
    home = tmp_path / "home"
    with pytest.raises(
        DataError, match=r"cannot fetch t10k-images-idx3-ubyte.gz to .*home \(http://.*corrupted"
    ):
        locate(str(home), True, site)
    assert list(home.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, site: Release) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot fetch t10k-images-idx3-ubyte.gz to .*Not a directory"):
        locate(str(tmp_path / "file/home"), True, site)


def test_files_that_are_there_are_never_fetched(tmp_path: Path, site: Release) -> None:
    unreachable = dataclasses.replace(site, sites=("http://127.0.0.1:1/",))
    for number, (below, compress) in enumerate([("", True), ("", False), ("MNIST/raw", False)]):
        home = tmp_path / f"home{number}"
        place_idx(home / below, idx_files(), compress=compress)
        before = sorted(home.rglob("*"))
        assert locate(str(home), True, unreachable) == home
        assert sorted(home.rglob("*")) == before
    place(tmp_path, cifar10.LAYOUT, cifar10_files())
    archive = tmp_path / "cifar-10-python.tar.gz"
    assert locate(str(archive), True, cifar10.RELEASE) == archive
    assert locate(str(tmp_path), True, cifar10.RELEASE) == tmp_path


def test_a_root_that_is_not_there_is_to_be_filled_there(tmp_path: Path) -> None:
    """A params.yaml names the root, so another one on the command line would not help the next `dvc repro`."""
    root = tmp_path / "raw/cifar10"
    with pytest.raises(DataError) as told:
        cifar10.prepare(cifar10.Params(root=str(root)))
    fetch = f"noisyctl prepare-data --dataset cifar10 --root {root} --download"
    assert str(told.value).endswith(f"and put it there, or fetch it there by `{fetch}`")
