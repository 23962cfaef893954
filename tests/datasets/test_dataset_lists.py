"""Clothing1M, WebVision and Food-101N from look-alikes, and what may be wrong with their files."""

import hashlib
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lookalikes
import numpy as np
import pytest
import torch

from noisyctl.datasets import Files, ImageData, Split, _lists, clothing1m, food101n, webvision
from noisyctl.datasets._lists import Lists
from noisyctl.errors import DataError
from noisyctl.images import read as read_pixels
from noisyctl.seeds import stream
from noisyctl.views import ImageViews


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lookalikes.clothing1m(folder / "clothing1m")
    lookalikes.webvision(folder / "webvision")
    lookalikes.ilsvrc12(folder / "ilsvrc12")
    lookalikes.food101n(folder / "food101n")
    return folder


@pytest.fixture
def clothing(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "clothing1m", tmp_path / "clothing1m"))


@pytest.fixture
def web(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "webvision", tmp_path / "webvision"))


@pytest.fixture
def food(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "food-101", tmp_path / "food-101")
    return Path(shutil.copytree(made / "food101n", tmp_path / "food101n"))


def clothes(root: Path, **values: object) -> ImageData:
    params = clothing1m.Params(root=str(root), image_size=16, **values)  # type: ignore[arg-type]
    return as_listed(clothing1m.prepare(params), clothing1m.read(params))


def sites(root: Path, **values: object) -> ImageData:
    params = webvision.Params(root=str(root), classes=3, image_size=16, **values)  # type: ignore[arg-type]
    return as_listed(webvision.prepare(params), webvision.read(params))


def dishes(root: Path, **values: object) -> ImageData:
    params = food101n.Params(root=str(root), image_size=16, **values)  # type: ignore[arg-type]
    return as_listed(food101n.prepare(params), food101n.read(params))


def ids(data: ImageData, split: str) -> list[str]:
    """The paths, which `as_listed` made the ids."""
    return data.splits[split].ids.tolist()


def as_listed(data: ImageData, lists: Lists) -> ImageData:
    """The data in the order of the lists, and the paths as ids: to be compared with the lists."""
    orders, splits = {}, {}
    for name, split in data.splits.items():
        paths = split.paths.tolist()  # type: ignore[union-attr]
        place = {path: row for row, path in enumerate(paths)}
        orders[name] = np.array([place[path] for path in lists.splits[name] if path in place])
        assert sorted(orders[name]) == [*range(len(paths))]
        files = split.images
        assert isinstance(files, Files)
        files = replace(files, checksums=files.checksums[orders[name]])
        splits[name] = Split(files, split.paths[orders[name]])  # type: ignore[index]
    assert data.given_labels is not None
    given = data.given_labels[orders["train"]]
    truth = {name: labels[orders[name]] for name, labels in data.truth.items()}
    verified = None
    if data.verified is not None:
        checked = np.full(len(given), -1)
        checked[data.verified[0]] = data.verified[1]
        checked = checked[orders["train"]]
        verified = (np.flatnonzero(checked >= 0), checked[checked >= 0])
    return replace(data, splits=splits, given_labels=given, truth=truth, verified=verified)


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lookalikes.write(path, change(path.read_text().splitlines()))


# Clothing1M


def test_clothing1m_trains_on_noisy_labels_and_tests_on_clean_ones(made: Path) -> None:
    data = clothes(made / "clothing1m", train="noisy")
    assert data.class_names == tuple(f"Garment {c}" for c in range(14))
    assert ids(data, "train")[:2] == ["images/0/00/n1,0.jpg", "images/1/01/n1,1.jpg"]  # the lists' order
    assert data.given_labels is not None
    assert data.given_labels.tolist() == [*range(14)] * 2
    assert set(data.truth) == {"val", "test"}  # no clean label of the million is known
    assert data.truth["test"].tolist() == [*range(14)]  # not the noisy c + 1 that these images have as well
    assert data.verified is None
    assert not data.quarantine


def test_both_adds_the_clean_images_that_have_a_noisy_label(made: Path) -> None:
    data = clothes(made / "clothing1m")
    assert data.given_labels is not None
    assert data.verified is not None
    assert len(data.given_labels) == 28 + 14
    assert data.given_labels[28:].tolist() == [*range(1, 14), 0]  # noisy: c + 1
    index, labels = data.verified
    assert index.tolist() == [*range(28, 42)]
    assert labels.tolist() == [*range(14)]  # clean: c


def test_all_adds_the_other_clean_images_with_their_clean_label(made: Path) -> None:
    data = clothes(made / "clothing1m", train="all")
    assert data.given_labels is not None
    assert data.verified is not None
    assert data.given_labels[28:].tolist() == [*range(1, 14), 0, *range(14)]
    assert data.verified[0].tolist() == [*range(28, 56)]
    assert data.verified[1].tolist() == [*range(14)] * 2


def test_clean_trains_on_the_clean_images_alone(made: Path) -> None:
    data = clothes(made / "clothing1m", train="clean")
    assert data.given_labels is not None
    assert (
        data.given_labels.tolist() == [*range(14)] * 2
    )  # clean: c, also of those whose noisy label is c + 1
    assert data.verified is None
    assert ids(data, "train") == ids(clothes(made / "clothing1m", train="all"), "train")[28:]
    assert data.truth["test"].tolist() == [*range(14)]


def test_the_annotations_may_lie_in_the_root(clothing: Path) -> None:
    for file in (clothing / "annotations").iterdir():
        file.rename(clothing / file.name)
    (clothing / "annotations").rmdir()
    assert len(ids(clothes(clothing), "train")) == 42


def test_missing_and_damaged_images_are_set_aside_and_positions_follow(clothing: Path) -> None:
    (clothing / "images/0/00/n1,0.jpg").unlink()
    (clothing / "images/3/03/both,3.jpg").write_bytes(b"no image")
    (clothing / "images/5/05/val,5.jpg").write_bytes(b"")
    data = clothes(clothing)
    assert [(file.path, file.reason) for file in data.quarantine] == [
        ("images/0/00/n1,0.jpg", "the file does not exist"),
        ("images/3/03/both,3.jpg", "its content is no image of a known format"),
        ("images/5/05/val,5.jpg", "the file is empty"),
    ]
    assert len(ids(data, "train")) == 40
    assert data.truth["val"].tolist() == [c for c in range(14) if c != 5]
    assert data.verified is not None
    index, labels = data.verified
    assert index.tolist() == [*range(27, 40)]  # one image before them is gone
    assert labels.tolist() == [c for c in range(14) if c != 3]
    assert data.detected == "40 train images, 13 val images, 14 test images, 3 files in quarantine"


def test_an_image_that_is_listed_twice_counts_once(clothing: Path) -> None:
    edit(clothing / "annotations/noisy_train_key_list.txt", lambda lines: [*lines, lines[0]])
    data = clothes(clothing, train="noisy")
    assert len(ids(data, "train")) == 28
    assert "listed more than once" in data.quarantine[0].reason


def test_ids_are_digests_in_order_and_tell_nothing_of_a_label(made: Path) -> None:
    root = made / "clothing1m"
    split = clothing1m.prepare(clothing1m.Params(root=str(root), image_size=16)).splits["train"]
    assert split.paths is not None
    digests = [hashlib.sha256((root / name).read_bytes()).hexdigest()[:16] for name in split.paths.tolist()]
    assert [str(name).split("-")[0] for name in split.ids] == digests == sorted(digests)
    assert len(set(split.ids.tolist())) == 42


def test_checksums_and_pixels_are_those_of_the_files(made: Path) -> None:
    root = made / "clothing1m"
    data = clothes(root, train="noisy", normalization="measured")
    files, names = data.splits["train"].images, ids(data, "train")
    assert files.checksums.tolist() == [zlib.crc32((root / name).read_bytes()) for name in names]  # type: ignore[union-attr]
    pixels = read_pixels(root, names, 16, gray=False).images / 255
    assert data.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-12)
    assert data.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("dividemix", (0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214)),
    ],
)
def test_printed_normalizations(
    made: Path, name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    data = clothes(made / "clothing1m", normalization=name)
    assert data.mean == mean
    assert data.std == std


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("noisy_train_key_list.txt", None, "noisy_train_key_list.txt does not exist; get it from https://.*check-data"),
        ("clean_label_kv.txt", None, "clean_label_kv.txt does not exist"),
        ("noisy_label_kv.txt", lambda lines: ["images/a.jpg 14", *lines[1:]], "kv.txt:1: 'images/a.jpg 14' is not an image"),
        ("noisy_label_kv.txt", lambda lines: [*lines[:3], "images/a.jpg -1"], "kv.txt:4: .* a label of 0 to 13"),
        ("noisy_label_kv.txt", lambda lines: ["images/a.jpg"], "kv.txt:1: 'images/a.jpg' is not an image"),
        ("noisy_label_kv.txt", lambda lines: lines[1:], "noisy_label_kv.txt has no label for 'images/0/00/n1,0.jpg'; get"),
        ("clean_label_kv.txt", lambda lines: lines[:-1], "clean_label_kv.txt has no label for 'images/3/13/test,13.jpg'"),
        ("category_names_eng.txt", lambda lines: lines[1:], "names 13 classes, not 14; get"),
    ],
)  # fmt: skip
def test_lists_that_are_not_as_they_should_be(
    clothing: Path, file: str, change: Callable[[list[str]], list[str]] | None, message: str
) -> None:
    path = clothing / "annotations" / file
    path.unlink() if change is None else edit(path, change)
    with pytest.raises(DataError, match=message):
        clothes(clothing)


def test_a_list_that_is_no_text(clothing: Path) -> None:
    (clothing / "annotations/clean_val_key_list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"clean_val_key_list.txt cannot be read: 'utf-8' codec"):
        clothes(clothing)


@pytest.mark.parametrize(
    ("prepare", "name"), [(clothes, "clothing1m"), (sites, "webvision"), (dishes, "food101n")]
)
def test_a_wrong_path(tmp_path: Path, prepare: Callable[[Path], ImageData], name: str) -> None:
    with pytest.raises(
        DataError, match=f"nowhere is not a folder; get it from .*`noisyctl check-data {name} FOLDER`"
    ):
        prepare(tmp_path / "nowhere")


def test_a_training_image_to_test_on(clothing: Path) -> None:
    edit(clothing / "annotations/clean_test_key_list.txt", lambda lines: [*lines, "images/0/00/both,0.jpg"])
    with pytest.raises(DataError, match=r"'images/0/00/both,0.jpg' are listed for train and for test"):
        clothes(clothing)


def test_no_images_at_all(clothing: Path) -> None:
    shutil.rmtree(clothing / "images")
    with pytest.raises(
        DataError, match=r"no readable image in the split 'train' \(set aside: .* and 37 more\)"
    ):
        clothes(clothing)


def test_a_class_without_images(clothing: Path) -> None:
    for kind in ("n1", "n2", "both"):
        (clothing / f"images/4/04/{kind},4.jpg").unlink()
    (clothing / "images/3/03/both,3.jpg").unlink()  # its noisy label is 4
    with pytest.raises(DataError, match="no readable training image of 'Garment 4'; restore"):
        clothes(clothing)


# A part of a set


def test_a_share_is_drawn_from_each_class_in_order() -> None:
    """Of 10, 20 and 3 images three tenths: 3, 6, 1."""
    images = {f"{label}/{k}": label for k in range(20) for label, size in enumerate((10, 20, 3)) if k < size}
    part = _lists.drawn(images, 0.3, 0)
    assert Counter(part.values()) == {0: 3, 1: 6, 2: 1}
    assert list(part) == [path for path in images if path in part]
    assert all(images[path] == label for path, label in part.items())
    assert part == _lists.drawn(images, 0.3, 0)
    assert part != _lists.drawn(images, 0.3, 1)
    assert Counter(_lists.drawn(images, 0.001, 0).values()) == {0: 1, 1: 1, 2: 1}
    assert _lists.drawn(images, 1.0, 0) is images


def test_a_share_leaves_the_test_whole(made: Path) -> None:
    data = clothes(made / "clothing1m", train="noisy", train_share=0.5)
    assert data.given_labels is not None
    assert sorted(data.given_labels.tolist()) == [*range(14)]
    assert len(ids(data, "test")) == 14


# WebVision


def test_webvision_has_the_first_classes_of_google(made: Path) -> None:
    data = sites(made / "webvision")
    assert data.class_names == ("n00000000 name0", "n00000001 name1", "n00000002 name2")
    assert ids(data, "train") == [f"google/q{c:04}/g{k}.jpg" for k in range(3) for c in range(3)]
    assert data.given_labels is not None
    assert data.given_labels.tolist() == [0, 1, 2] * 3
    assert ids(data, "test") == [f"val_images_256/val{c}{k}.jpg" for c in range(3) for k in range(2)]
    assert {name: labels.tolist() for name, labels in data.truth.items()} == {"test": [0, 0, 1, 1, 2, 2]}


def test_webvision_with_flickr(made: Path) -> None:
    data = sites(made / "webvision", sources="google_flickr")
    assert ids(data, "train")[9:] == [f"flickr/q{c:04}/f.jpg" for c in range(3)]


def test_ilsvrc12_from_a_folder_outside_the_root(made: Path, web: Path) -> None:
    folder = Path(shutil.copytree(made / "ilsvrc12", web.parent / "ilsvrc12"))
    (folder / "n00000002/notes.txt").touch()
    data = sites(web, ilsvrc12=str(folder))
    assert ids(data, "ilsvrc12_val") == [
        f"../ilsvrc12/n0000000{c}/ILSVRC2012_val_0000000{c}.JPEG" for c in range(3)
    ]
    assert data.truth["ilsvrc12_val"].tolist() == [0, 1, 2]
    assert [file.path for file in data.quarantine] == ["../ilsvrc12/n00000002/notes.txt"]
    shutil.rmtree(folder / "n00000001")
    with pytest.raises(
        DataError, match=r"has no folder n00000001; sort ILSVRC2012_img_val.tar into one folder per synset"
    ):
        sites(web, ilsvrc12=str(folder))


def test_all_thousand_classes_are_wanted_where_they_are_asked_for(made: Path) -> None:
    params = webvision.Params(root=str(made / "webvision"), classes=1000, image_size=16)
    with pytest.raises(DataError, match=r"no readable training image of 'n00000004 name4', .* and 991 more"):
        webvision.prepare(params)


def test_webvision_lists_of_another_kind(web: Path) -> None:
    edit(web / "info/val_filelist.txt", lambda lines: [*lines, "val9.jpg 1000"])
    with pytest.raises(
        DataError, match=r"val_filelist.txt:9: 'val9.jpg 1000' is not an image and a label of 0 to 999"
    ):
        sites(web)
    edit(web / "info/synsets.txt", lambda lines: lines[:10])
    with pytest.raises(DataError, match="names 10 classes, not 1000"):
        sites(web)


# Food-101N


def test_food101n_has_verified_labels_only_where_the_label_was_found_right(made: Path) -> None:
    data = dishes(made / "food101n")
    assert data.class_names == tuple(lookalikes.DISHES)
    assert ids(data, "train")[:2] == ["images/dish_000/a.jpg", "images/dish_001/a.jpg"]
    assert data.given_labels is not None
    assert data.given_labels.tolist() == [*range(101)] * 2
    assert data.verified is not None
    assert data.verified[0].tolist() == [*range(0, 101, 2)]
    assert data.verified[1].tolist() == [*range(0, 101, 2)]
    assert ids(data, "test")[100] == "../food-101/images/dish_100/7.jpg"
    assert {name: labels.tolist() for name, labels in data.truth.items()} == {"test": [*range(101)]}


def test_a_checked_image_that_is_not_listed_is_set_aside(food: Path) -> None:
    """As one is in the release: under another dish than in the list."""
    edit(food / "meta/verified_train.tsv", lambda lines: [*lines, "dish_000/b2.jpg\t1"])
    data = dishes(food)
    assert [(file.path, file.reason) for file in data.quarantine] == [
        ("images/dish_000/b2.jpg", "checked, but not in imagelist.tsv")
    ]


@pytest.mark.parametrize(("place", "prefix"), [("food101n/food-101", ""), ("elsewhere", "../elsewhere/")])
def test_food101_in_the_root_or_where_it_is_said_to_be(food: Path, place: str, prefix: str) -> None:
    (food.parent / "food-101").rename(food.parent / place)
    data = dishes(food, food101=str(food.parent / place) if prefix else None)
    assert ids(data, "test")[0] == f"{prefix or 'food-101/'}images/dish_000/7.jpg"


def test_food101_that_is_nowhere(food: Path) -> None:
    shutil.rmtree(food.parent / "food-101")
    with pytest.raises(DataError, match=r"food-101 is not a folder: .* get them and name it by --food101"):
        dishes(food)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        dishes(food, food101="nowhere")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("imagelist.tsv", lambda lines: [*lines, "pizza/1.jpg"], "imagelist.tsv: 'pizza/1.jpg' are in no class of"),
        ("verified_train.tsv", lambda lines: [*lines, "dish_000/b.jpg\t2"], r"'dish_000/b.jpg\\t2' is not an image and 0"),
        ("classes.txt", lambda lines: lines[:50], "names 49 classes, not 101"),
    ],
)  # fmt: skip
def test_food_lists_of_another_kind(
    food: Path, file: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    edit(food / "meta" / file, change)
    with pytest.raises(DataError, match=message):
        dishes(food)


# Views


@pytest.mark.parametrize(
    ("module", "values", "size", "side"),
    [
        (clothing1m, {}, 256, 224),
        (webvision, {"classes": 3}, 256, 227),
        (webvision, {"classes": 3, "recipe": "resized299"}, 320, 299),
        (food101n, {}, 256, 224),
        (clothing1m, {"image_size": 32}, 32, 28),
    ],
)
def test_views_have_the_papers_sides(
    made: Path,
    module: object,
    values: dict[str, object],
    size: int,
    side: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images are not decoded at full size here."""
    whole = _lists.scan
    asked = []

    def small(root: Path, paths: list[str], image_size: int, *, gray: bool) -> object:
        asked.append(image_size)
        return whole(root, paths, 8, gray=gray)

    monkeypatch.setattr(_lists, "scan", small)
    name = module.ORIGIN.name  # type: ignore[attr-defined]
    data = module.prepare(module.Params(root=str(made / name), **values))  # type: ignore[attr-defined]
    assert set(asked) == {size}
    views, images = (
        ImageViews(data.views, data.mean, data.std),
        torch.zeros(2, size, size, 3, dtype=torch.uint8),
    )
    assert views.plain(images).shape == (2, 3, side, side)
    for view in (views.weak, views.strong):
        assert view(images, stream(0, "test")).shape == (2, 3, side, side)


def test_the_hole_on_webvision_is_up_to_75_pixels() -> None:
    size, crop, recipe = webvision.RECIPES["crop227"]
    assert (size, crop, round(recipe["strong"]["cutout"] * crop)) == (256, 227, 75)
