"""Pixels of odd, upright and broken files, each made here with PIL."""

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisyctl import images as _images
from noisyctl.datasets.folder import read_images
from noisyctl.errors import DataError
from noisyctl.images import find, read

RED, WHITE = (255, 0, 0), (255, 255, 255)


def pixel(path: Path, *, gray: bool = False) -> tuple[int, ...]:
    """The one pixel that the file becomes."""
    pixels = read(path.parent, [path.name], 1, gray=gray)
    assert pixels.quarantine == []
    return tuple(pixels.images[0, 0, 0].tolist())


def reason(path: Path) -> str:
    pixels = read(path.parent, [path.name], 4, gray=False)
    assert len(pixels.images) == 0
    assert pixels.readable.tolist() == [False]
    assert pixels.quarantine[0].path == path.name
    return pixels.quarantine[0].reason


def gray16(value: int) -> Image.Image:
    return Image.fromarray(np.full((3, 3), value, np.uint16))


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (3, 3), 1)
    image.putpalette([0, 0, 255, *RED])
    if transparent:
        image.info["transparency"] = 1
    return image


MODES = {  # file: image, colour, gray value
    "1.png": (Image.new("1", (3, 3), 1), WHITE, 255),
    "L.png": (Image.new("L", (3, 3), 77), (77, 77, 77), 77),
    "LA.png": (Image.new("LA", (3, 3), (0, 0)), WHITE, 255),
    "LA-opaque.png": (Image.new("LA", (3, 3), (9, 255)), (9, 9, 9), 9),
    "RGB.png": (Image.new("RGB", (3, 3), RED), RED, 76),
    "RGBA.png": (Image.new("RGBA", (3, 3), (*RED, 0)), WHITE, 255),
    "RGBA-half.png": (Image.new("RGBA", (3, 3), (0, 0, 0, 51)), (204, 204, 204), 204),
    "P.png": (palette(False), RED, 76),
    "P-transparent.png": (palette(True), WHITE, 255),
    "P.gif": (palette(False), RED, 76),
    "I16.png": (gray16(257 * 100), (100, 100, 100), 100),
    "I16.tif": (gray16(65535), WHITE, 255),
    "I.tif": (Image.new("I", (3, 3), 257 * 3), (3, 3, 3), 3),
    "CMYK.jpg": (Image.new("CMYK", (3, 3), (0, 0, 0, 0)), WHITE, 255),
    "CMYK.tif": (Image.new("CMYK", (3, 3), (0, 255, 255, 0)), RED, 76),
    "YCbCr.tif": (Image.new("RGB", (3, 3), RED).convert("YCbCr"), (254, 0, 0), 76),
    "RGB.bmp": (Image.new("RGB", (3, 3), RED), RED, 76),
    "L.pgm": (Image.new("L", (3, 3), 5), (5, 5, 5), 5),
}


@pytest.mark.parametrize("name", MODES)
def test_modes(tmp_path: Path, name: str) -> None:
    image, color, shade = MODES[name]
    image.save(tmp_path / name)
    assert pixel(tmp_path / name) == color
    assert pixel(tmp_path / name, gray=True) == (shade,)


@pytest.mark.parametrize("name", MODES)
def test_which_modes_count_as_gray(tmp_path: Path, name: str) -> None:
    MODES[name][0].save(tmp_path / name)
    is_gray = name[0] in "1LI"
    assert read(tmp_path, [name], 2, gray=False).all_gray is is_gray
    assert read_images(tmp_path, 2)[0].shape == (1, 2, 2, 1 if is_gray else 3)


def test_gray_by_way_of_rgb_equals_gray(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 29)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    automatic, _, _ = read_images(tmp_path, 8)
    assert (automatic == read_images(tmp_path, 8, "gray")[0]).all()
    color = read_images(tmp_path, 8, "rgb")[0]
    assert color.shape == (1, 8, 8, 3)
    assert (color == automatic).all()


def quadrants(width: int, height: int) -> Image.Image:
    """Black, 80 above 160, 240 when upright."""
    rows = np.repeat([[0, 80], [160, 240]], height // 2, axis=0)
    return Image.fromarray(np.repeat(rows, width // 2, axis=1).astype(np.uint8))


UNDO = {  # EXIF orientation: how a camera would have stored the upright image
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", UNDO)
@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_exif_orientation(tmp_path: Path, orientation: int, extension: str) -> None:
    undo, upright = UNDO[orientation], quadrants(32, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(undo) if undo is not None else upright
    stored.save(tmp_path / f"a.{extension}", exif=exif)
    found = read(tmp_path, [f"a.{extension}"], 8, gray=True).images[0, :, :, 0].astype(int)
    corners = found[np.ix_([0, -1], [0, -1])]
    assert np.abs(corners - [[0, 80], [160, 240]]).max() <= 3  # JPEG rounds


def test_damaged_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 40).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert pixel(tmp_path / "a.jpg", gray=True) == (40,)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7), (640, 480), (9, 8)])
@pytest.mark.parametrize("side", [1, 8, 33])
def test_any_size_becomes_a_square(tmp_path: Path, size: tuple[int, int], side: int) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    assert (read(tmp_path, ["a.png"], side, gray=False).images == RED).all()


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_the_shorter_side_is_scaled_and_the_center_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0])).astype(np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "a.png")
    half = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BILINEAR)
    left, top = half.width // 2 - 5, half.height // 2 - 5
    expected = np.asarray(half.crop((left, top, left + 10, top + 10)))
    assert (read(tmp_path, ["a.png"], 10, gray=True).images[0, :, :, 0] == expected).all()


def test_shrinking_averages_and_skips_no_pixel(tmp_path: Path) -> None:
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "a.png")
    inner = read(tmp_path, ["a.png"], 8, gray=True).images[0, 1:-1, 1:-1, 0]
    assert np.abs(inner.astype(int) - 127).max() <= 2


def test_large_jpeg_read_at_half_detail_looks_as_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)).resize((800, 600))
    smooth.save(tmp_path / "a.jpg", quality=95)
    fast = read(tmp_path, ["a.jpg"], 32, gray=False).images.astype(int)
    monkeypatch.setattr(Image.Image, "draft", lambda *_: None)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    whole = read(tmp_path, ["a.jpg"], 32, gray=False).images.astype(int)
    assert np.abs(fast - whole).max() <= 4


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, (0, 255, 0), (0, 0, 255))]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **WEBP.get(name, {}))
        assert pixel(tmp_path / name) == RED


WEBP: dict[str, dict[str, bool]] = {"a.webp": {"lossless": True}}


def test_truncated_files(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    for name in ("a.jpg", "a.png", "a.bmp", "a.gif", "a.webp", "a.tif"):
        noise.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert reason(tmp_path / name)
    assert "truncated" in reason(tmp_path / "a.jpg")


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("this is text")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "broken-link.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    assert reason(tmp_path / "zero.png") == "the file is empty"
    assert reason(tmp_path / "text.png") == "its content is no image of a known format"
    assert reason(tmp_path / "script.png") == "its content is no image of a known format"
    assert reason(tmp_path / "folder.png") == "not a regular file"
    assert reason(tmp_path / "broken-link.png") == "the file does not exist"
    assert reason(tmp_path / "pipe.png") == "not a regular file"
    assert reason(tmp_path / "absent.png") == "the file does not exist"


def test_a_wrong_extension_of_an_image_does_no_harm(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), RED).save(tmp_path / "a.gif", format="PNG")
    assert pixel(tmp_path / "a.gif") == RED


def test_decompression_bomb(tmp_path: Path) -> None:
    header_only(tmp_path / "bomb.png", 60_000, 60_000)
    assert reason(tmp_path / "bomb.png").startswith("more than 178956970 pixels")


def header_only(path: Path, width: int, height: int) -> None:
    """A PNG of so many pixels that holds next to nothing of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    header_only(tmp_path / "a.png", 13_000, 13_000)  # fewer than PIL refuses
    assert reason(tmp_path / "a.png") == "13000 x 13000 pixels, more than 67,108,864; save a smaller image"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**31)  # sparse: it takes no space
    monkeypatch.setattr(Path, "open", None)
    assert reason(tmp_path / "a.png") == "2,147,483,648 bytes, more than 268,435,456; save a smaller image"


def test_of_a_jpeg_the_pixels_count_that_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_images, "MOST_PIXELS", 10_000)
    image = Image.new("RGB", (400, 400), RED)
    image.save(tmp_path / "a.jpg")
    image.save(tmp_path / "progressive.jpg", progressive=True)
    image.save(tmp_path / "a.png")
    assert read(tmp_path, ["a.jpg"], 8, gray=False).quarantine == []
    for name in ("progressive.jpg", "a.png"):
        assert reason(tmp_path / name).startswith("400 x 400 pixels, more than 10,000")


@pytest.mark.parametrize("room, share", [("PIXELS", 90), ("BYTES", 1)])
def test_threads_share_the_room(
    room: str, share: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        Image.new("L", (9, 10), i).save(tmp_path / f"{i:02}.png")
    size = share * 2 if room == "PIXELS" else 2 * max(p.stat().st_size for p in tmp_path.iterdir())
    monkeypatch.setattr(_images, room, _images.Room(size))
    monkeypatch.setattr(_images, "FILES", 1)
    monkeypatch.setattr(_images.os, "cpu_count", lambda: 8)
    inside, most, lock = 0, 0, threading.Lock()
    fit = _images.ImageOps.fit

    def counted(*given: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1
        return fit(*given)

    monkeypatch.setattr(_images.ImageOps, "fit", counted)
    images = read(tmp_path, [f"{i:02}.png" for i in range(40)], 1, gray=True).images
    assert images.ravel().tolist() == list(range(40))
    assert most == 2


def test_what_needs_more_than_all_room_is_let_in_alone() -> None:
    room = _images.Room(10)
    with room.hold(30):
        pass
    with room.hold(4), room.hold(6):
        assert room._used == 10
    assert room._used == 0


@pytest.mark.parametrize("name", MODES)
def test_conversion_in_bands_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = MODES[name][0].copy().resize((23, 31))
    bands = len(image.getbands())
    if image.mode not in ("1", "P", "I") and not image.mode.startswith("I;"):
        noise = rng.integers(0, 256, (31, 23, bands), np.uint8)
        image.paste(Image.fromarray(noise[..., 0] if bands == 1 else noise, image.mode))
    image.save(tmp_path / name, **({"transparency": 1} if "P-" in name else {}))
    for gray in (False, True):
        whole = read(tmp_path, [name], 8, gray=gray).images
        with monkeypatch.context() as patch:
            patch.setattr(_images, "BAND", 50)
            assert (read(tmp_path, [name], 8, gray=gray).images == whole).all()


def test_values_without_an_agreed_range(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tif")
    Image.new("I", (2, 2), 70000).save(tmp_path / "int.tif")
    assert "fractional" in reason(tmp_path / "float.tif")
    assert "32-bit" in reason(tmp_path / "int.tif")


def test_bits_flipped_at_random_never_stop_the_reading(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))
    for extension in ("jpg", "png", "gif", "tif", "bmp", "webp"):
        buffer = io.BytesIO()
        noise.save(buffer, format={"jpg": "jpeg", "tif": "tiff"}.get(extension, extension))
        for attempt in range(40):
            content = bytearray(buffer.getvalue())
            content[rng.integers(min(len(content), 400))] ^= 1 << int(rng.integers(8))
            (tmp_path / f"{attempt}.{extension}").write_bytes(content)
    paths, aside = find(tmp_path)
    pixels = read(tmp_path, paths, 8, gray=False)
    assert len(paths) == 240
    assert aside == []
    assert len(pixels.images) + len(pixels.quarantine) == 240
    assert not any("jaxtyping" in file.reason for file in pixels.quarantine)


def test_the_order_and_the_bytes_do_not_depend_on_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shade in range(150):
        Image.new("L", (2, 2), shade).save(tmp_path / f"{shade:03}.png")
    (tmp_path / "070.png").write_bytes(b"")
    first = read_images(tmp_path, 2)
    assert first[0][:, 0, 0, 0].tolist() == [shade for shade in range(150) if shade != 70]
    monkeypatch.setattr(_images.os, "cpu_count", lambda: 1)
    again = read_images(tmp_path, 2)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tolist() == again[1].tolist()
    assert first[2] == again[2]


def test_too_many_pixels_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=r"1 images of 9000000x9000000 need 226311\.4 GiB of memory; lower --image"
    ):
        read(tmp_path, ["a.png"], 9_000_000, gray=False)


def test_find_sorts_follows_links_and_sets_aside(tmp_path: Path) -> None:
    (tmp_path / "b/deep").mkdir(parents=True)
    for name in (
        "b/deep/x.PNG",
        "b/y.jpeg",
        "a b.png",
        "\u00fc.png",
        "notes.txt",
        "no_extension",
        "b/z.heic",
    ):
        (tmp_path / name).write_bytes(b"?")
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", "b/.DS_Store"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/a.png").write_bytes(b"?")
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "b/up").symlink_to("..")
    paths, aside = find(tmp_path)
    assert paths == ["a b.png", "b/deep/x.PNG", "b/y.jpeg", "link/deep/x.PNG", "link/y.jpeg", "\u00fc.png"]
    assert {file.path: file.reason for file in aside} == {
        "b/up": "a link to a folder that it lies in",
        "link/up": "a link to a folder that it lies in",
        "b/z.heic": "not an image file (.heic)",
        "link/z.heic": "not an image file (.heic)",
        "no_extension": "not an image file (no extension)",
        "notes.txt": "not an image file (.txt)",
    }


def test_names_that_are_no_text_are_set_aside(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(b"?")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (aside,) = find(tmp_path)[1]
    assert aside.path == r"caf\xe9.png"
    assert "not UTF-8" in aside.reason


def test_a_plain_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (5, 9), RED).save(tmp_path / "sub/a.png")
    Image.new("RGB", (9, 5), RED).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"")
    images, ids, quarantine = read_images(tmp_path, 6)
    assert images.shape == (2, 6, 6, 3)
    assert ids.tolist() == ["b.png", "sub/a.png"]
    assert [file.path for file in quarantine] == ["c.png"]


def test_a_plain_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no readable image; is --root right"):
        read_images(tmp_path, 6)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"set aside: 'c.png \(the file is empty\)'"):
        read_images(tmp_path, 6)
    with pytest.raises(DataError, match="is not a folder"):
        read_images(tmp_path / "absent", 6)


def test_how_many_images_have_been_read_is_told(tmp_path: Path) -> None:
    for i in range(150):
        Image.new("L", (2, 2), i).save(tmp_path / f"{i:03}.png")
    paths, told = find(tmp_path)[0], []
    with _images.images_are_reported_to(lambda done, total: told.append((done, total))):
        read(tmp_path, paths, 2, gray=True)
        _images.scan(tmp_path, paths, 2, gray=True)
    read(tmp_path, paths, 2, gray=True)  # nobody asks
    assert told == [(64, 150), (128, 150), (150, 150)] * 2
