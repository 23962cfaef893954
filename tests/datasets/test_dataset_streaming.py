"""Images decoded from their files: the same bytes as pixels, whatever the threads and the announcements."""

import os
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from noisyctl import streaming as _streaming
from noisyctl.errors import DataError
from noisyctl.images import read
from noisyctl.streaming import FileImages

CPU = torch.device("cpu")
SIZE, NUMBER = 8, 20
NAMES = [f"{k:02}.{'jpg' if k % 3 else 'png'}" for k in range(NUMBER)]
BYTES = SIZE * SIZE * 3  # of one decoded image


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of noise, of different shapes."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for k, name in enumerate(NAMES):
        Image.fromarray(rng.integers(0, 256, (20 + k, 33, 3)).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def pixels(root: Path) -> np.ndarray:
    return read(root, NAMES, SIZE, gray=False).images


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often each content was decoded."""
    counts: Counter[int] = Counter()
    lock, original = threading.Lock(), _streaming.decode

    def counting(content: bytes, *arguments: object) -> object:
        with lock:
            counts[zlib.crc32(content)] += 1
        return original(content, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_streaming, "decode", counting)
    return counts


def crc(root: Path) -> np.ndarray:
    return np.array([zlib.crc32((root / name).read_bytes()) for name in NAMES], np.uint32)


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_equal_the_pixels(root: Path, workers: int, channels: int) -> None:
    expected = read(root, NAMES, SIZE, gray=channels == 1).images
    with FileImages(root, NAMES, SIZE, channels, CPU, workers=workers, checksums=crc(root)) as images:
        assert len(images) == NUMBER
        assert images.shape == expected.shape
        batch = images[torch.tensor([3, 0, 19, 3])]
        assert batch.dtype == torch.uint8
        assert batch.is_contiguous()
        assert (batch.numpy() == expected[[3, 0, 19, 3]]).all()
        assert images[torch.tensor([], dtype=torch.int64)].shape == (0, SIZE, SIZE, channels)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    announced=st.lists(st.lists(st.integers(0, NUMBER - 1), max_size=6), max_size=5),
    asked=st.lists(st.lists(st.integers(0, NUMBER - 1), max_size=6), max_size=5),
    memory=st.integers(0, 10),
    workers=st.integers(1, 3),
)
def test_announcements_and_memory_change_nothing(
    root: Path,
    pixels: np.ndarray,
    announced: list[list[int]],
    asked: list[list[int]],
    memory: int,
    workers: int,
) -> None:
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=workers, memory=memory * BYTES) as images:
        one, other = ([torch.tensor(batch, dtype=torch.int64) for batch in announced[k::2]] for k in (0, 1))
        with images.prefetch(one), images.prefetch(other):
            for rows in asked:
                batch = images[torch.tensor(rows, dtype=torch.int64)]
                assert (batch.numpy() == pixels[rows]).all()
            for index in [*one, *other, images.join([*one, *other])] if announced else []:
                assert (images[index].numpy() == pixels[index]).all()
            assert len(images._kept) + len(images._ahead) <= max(2, memory)
        assert len(images._kept) <= max(2, memory)
        assert images._orders == []
        assert images._ahead == {}


def test_announced_images_are_decoded_before_they_are_asked_for(root: Path, decoded: Counter[int]) -> None:
    images = FileImages(root, NAMES, SIZE, 3, CPU, workers=2)
    with images, images.prefetch([torch.tensor([4, 2]), torch.tensor([7])]):
        images._pool.shutdown()  # waits for what was begun; a new decoding would raise
        assert set(decoded) == {int(crc(root)[row]) for row in (4, 2, 7)}
        images[torch.tensor([2, 7, 4])]
        assert set(decoded.values()) == {1}


def test_a_whole_epoch_decodes_each_image_once_for_two_views(root: Path, decoded: Counter[int]) -> None:
    order = torch.randperm(NUMBER, generator=torch.Generator().manual_seed(0))
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=2, memory=12 * BYTES) as images:
        batches = order.split(3)
        with images.prefetch(batches):
            for index in batches:
                images[index]
                images[index]
        assert len(decoded) == NUMBER
        assert set(decoded.values()) == {1}


def test_all_images_in_batches(root: Path, pixels: np.ndarray, decoded: Counter[int]) -> None:
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=2) as images:
        batches = list(images.split(8))
        assert [len(batch) for batch in batches] == [8, 8, 4]
        assert (torch.cat(batches).numpy() == pixels).all()
        assert set(decoded.values()) == {1}


def test_no_more_than_half_of_the_memory_is_decoded_ahead(root: Path, decoded: Counter[int]) -> None:
    images = FileImages(root, NAMES, SIZE, 3, CPU, workers=1, memory=8 * BYTES)
    with images, images.prefetch([torch.arange(NUMBER)]):
        images._pool.shutdown()
        assert sum(decoded.values()) == 4


def test_two_announced_orders_are_decoded_side_by_side_in_equal_shares(
    root: Path, decoded: Counter[int]
) -> None:
    """As of a labeled and an unlabeled side: the second takes nothing from the first but its share of what is ahead."""
    labeled, unlabeled = torch.arange(10).split(2), torch.arange(10, 20).split(2)
    images = FileImages(root, NAMES, SIZE, 3, CPU, workers=1, memory=16 * BYTES)
    with images, images.prefetch(labeled), images.prefetch(unlabeled):
        for mine, other in zip(labeled, unlabeled, strict=True):
            images[images.join([mine, mine, other, other])]
            ahead = [sorted(order.waiting) for order in images._orders]
            start, left = int(mine[-1]) + 1, 9 - int(mine[-1])
            assert ahead[1] == list(range(10 + start, 10 + start + min(4, left)))
            assert ahead[0][:4] == list(range(start, start + min(4, left)))
    assert set(decoded.values()) == {1}
    assert len(decoded) == NUMBER


def test_what_an_order_left_undecoded_is_forgotten_when_it_ends(
    root: Path, decoded: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, started, original = threading.Event(), threading.Event(), _streaming.decode

    def waiting(*arguments: object) -> object:
        started.set()
        gate.wait(10)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_streaming, "decode", waiting)
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=1, memory=40 * BYTES) as images:
        with images.prefetch([torch.tensor([5, 6])]):
            with images.prefetch([torch.arange(10)]):
                assert started.wait(10)
            gate.set()
            images._pool.shutdown()
        assert set(decoded) == {int(crc(root)[row]) for row in (5, 6)}


def test_announced_batches_are_not_asked_of_the_device_again(
    root: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each such question waits for all that it has still to compute."""
    asked: list[int] = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (asked.append(len(self)), original(self))[1])
    batches = list(torch.arange(NUMBER).split(4))
    pairs = torch.tensor([[1, 2], [3, 4], [5, 6]])
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=1) as images:
        with images.prefetch([*batches, pairs.ravel()]):
            for index in batches:
                assert (images[index].numpy() == pixels[index]).all()
            assert (images[images.join(batches[:2])].numpy() == pixels[:8]).all()
            assert (images[pairs.ravel()].numpy() == pixels[1:7]).all()
            assert asked == [NUMBER + 6]
            images[batches[0][:2]]
            batches[1].add_(1)  # nobody does; but the bytes would be others
            assert (images[batches[1]].numpy() == pixels[5:9]).all()
        images[batches[2]]
    assert asked == [NUMBER + 6, 2, 4, 4]


def test_close_drops_what_was_not_begun(
    root: Path, decoded: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, gate = threading.Event(), threading.Event()
    original = _streaming.decode

    def waiting(*arguments: object) -> object:
        started.set()
        gate.wait(10)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_streaming, "decode", waiting)
    images = FileImages(root, NAMES, SIZE, 3, CPU, workers=1)
    with images.prefetch([torch.arange(NUMBER)]):
        assert started.wait(10)
        threading.Timer(0.05, gate.set).start()
        images.close()
    assert sum(decoded.values()) == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "the file does not exist"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"text"), "its content is no image of a known format"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), ".*truncated"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, spoil: object, reason: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
    spoil(tmp_path / "b.jpg")  # type: ignore[operator]
    images = FileImages(tmp_path, ["a.jpg", "b.jpg"], SIZE, 3, CPU, workers=2)
    with images, images.prefetch([torch.tensor([1])]):
        assert images[torch.tensor([0])].shape == (1, SIZE, SIZE, 3)  # the announced one is not asked for
        with pytest.raises(
            DataError, match=rf"b\.jpg: {reason}.*; restore the file, or run `noisyctl prepare-data`"
        ):
            images[torch.tensor([0, 1])]


def test_a_file_that_has_changed_is_refused(root: Path, tmp_path: Path) -> None:
    for name in NAMES:
        os.link(root / name, tmp_path / name)
    checksums = crc(tmp_path)
    (tmp_path / NAMES[1]).unlink()
    Image.new("RGB", (9, 9)).save(tmp_path / NAMES[1])
    with FileImages(tmp_path, NAMES, SIZE, 3, CPU, workers=1, checksums=checksums) as images:
        images[torch.tensor([0])]
        with pytest.raises(DataError, match=rf"{NAMES[1]}: the file has changed since prepare-data read it"):
            images[torch.tensor([1])]


def test_a_position_that_is_none(root: Path) -> None:
    with FileImages(root, NAMES, SIZE, 3, CPU, workers=1) as images, pytest.raises(IndexError):
        images[torch.tensor([NUMBER])]
