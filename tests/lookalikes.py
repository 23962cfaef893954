"""Look-alikes of Clothing1M, WebVision and Food-101N: their layout, a few small images a class."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

DISHES = [f"dish_{k:03}" for k in range(101)]
SYNSETS = [f"n{k:08} name{k}, other name" for k in range(1000)]


def save(root: Path, names: Iterable[str]) -> None:
    """A JPEG of noise under each name, each another one, wider than high."""
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, "JPEG")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(stream.getvalue())


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def clothing1m(root: Path) -> Path:
    """A class c has two noisy images, a clean training image with noisy label c + 1, one without, a val and a test image."""
    names = {
        kind: [f"images/{c % 10}/{c:02}/{kind},{c}.jpg" for c in range(14)]
        for kind in ("n1", "n2", "both", "clean", "val", "test")
    }
    lists = {
        "noisy_train": names["n1"] + names["n2"],
        "clean_train": names["both"] + names["clean"],
        "clean_val": names["val"],
        "clean_test": names["test"],
    }
    for name, keys in lists.items():
        write(root / f"annotations/{name}_key_list.txt", keys)
    noisy = [(key, c) for kind in ("n1", "n2") for c, key in enumerate(names[kind])]
    noisy += [(key, (c + 1) % 14) for kind in ("both", "test") for c, key in enumerate(names[kind])]
    clean = [(key, c) for kind in ("both", "clean", "val", "test") for c, key in enumerate(names[kind])]
    write(root / "annotations/noisy_label_kv.txt", [f"{key} {c}" for key, c in noisy])
    write(root / "annotations/clean_label_kv.txt", [f"{key} {c}" for key, c in clean])
    write(root / "annotations/category_names_eng.txt", [f"Garment {c}" for c in range(14)])
    save(root, [name for keys in names.values() for name in keys])
    return root


def webvision(root: Path) -> Path:
    """Of the classes 0 to 3 three images from Google, one from Flickr, two to test on."""
    google = [(f"google/q{c:04}/g{k}.jpg", c) for k in range(3) for c in range(4)]
    flickr = [(f"flickr/q{c:04}/f.jpg", c) for c in range(4)]
    tests = [(f"val{c}{k}.jpg", c) for c in range(4) for k in range(2)]
    write(root / "info/synsets.txt", SYNSETS)
    for name, pairs in {"train_filelist_google": google, "train_filelist_flickr": flickr}.items():
        write(root / f"info/{name}.txt", [f"{path} {c}" for path, c in pairs])
    write(root / "info/val_filelist.txt", [f"{path} {c}" for path, c in tests])
    save(root, [path for path, _ in google + flickr] + [f"val_images_256/{path}" for path, _ in tests])
    return root


def ilsvrc12(folder: Path) -> Path:
    """One image in the folder of each of the first four synsets."""
    save(folder, [f"{SYNSETS[c].split()[0]}/ILSVRC2012_val_{c:08}.JPEG" for c in range(4)])
    return folder


def food101n(root: Path) -> Path:
    """A dish has two images, of which the first was found right, or wrong every second time; Food-101 lies beside."""
    keys = [f"{dish}/{k}.jpg" for k in "ab" for dish in DISHES]
    write(root / "meta/classes.txt", ["class_name", *DISHES])
    write(root / "meta/imagelist.tsv", ["class_name/key", *keys])
    checked = [f"{dish}/a.jpg\t{(c + 1) % 2}" for c, dish in enumerate(DISHES)]
    write(root / "meta/verified_train.tsv", ["class_name/key\tverification_label", *checked])
    save(root / "images", keys)
    tests = [f"{dish}/7" for dish in DISHES]
    write(root.parent / "food-101/meta/test.txt", tests)
    save(root.parent / "food-101/images", [f"{key}.jpg" for key in tests])
    return root
