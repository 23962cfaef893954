"""A user's own folder goes through every stage without any truth, and its model labels another folder."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from test_docs import call


def test_a_folder_of_photos_from_images_to_predictions(tmp_path: Path) -> None:
    bunch = load_digits()
    for i in range(120):
        folder = tmp_path / "photos" / f"digit {bunch.target[i] % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (bunch.images[i] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB").resize((20, 16)).save(folder / f"{i}.png")
    (tmp_path / "photos" / "digit 0" / "broken.png").write_bytes(b"no image")
    small = ("--backbone", "small_cnn", "--width", "4", "--epochs", "1", "--batch-size", "32")
    for words in (
        (
            "prepare-data",
            "--dataset",
            "folder",
            "--root",
            "photos",
            "--image-size",
            "16",
            "--out",
            "data/photos",
        ),
        ("pretrain-simclr", "--dataset", "photos", *small),
        ("mine-knn", "--dataset", "photos", "--k", "5"),
        ("warmup", "--dataset", "photos", *small),
        ("train-method", "knn_vote", "--dataset", "photos"),
        ("train-method", "mixnn", "--dataset", "photos", "--epochs", "1"),
        ("evaluate", "--dataset", "photos"),
        (
            "predict",
            "--run",
            "data/photos/runs/mixnn/given-s0",
            "--root",
            "photos",
            "--out",
            "predictions.csv",
        ),
    ):
        done = call(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    rows = list(csv.DictReader((tmp_path / "data/photos/results/samples/knn_vote-given-s0.csv").open()))
    assert len(rows) == 120
    assert [int(row["rank"]) for row in rows] == list(range(1, 121))  # by rank, as README.md says
    assert "broken.png" in (tmp_path / "data/photos/quarantine.csv").read_text()
    labels = [row["label"] for row in csv.DictReader((tmp_path / "predictions.csv").open())]
    assert len(labels) == 121
    assert set(labels) <= {"digit 0", "digit 1", "digit 2", ""}
    assert labels.count("") == 1


def test_features_from_anywhere_reach_the_vote(tmp_path: Path) -> None:
    bunch = load_digits()
    np.save(tmp_path / "x.npy", bunch.data[:200].astype("float32"))
    np.save(tmp_path / "y.npy", bunch.target[:200])
    (tmp_path / "ids.txt").write_text("".join(f"page {i}\n" for i in range(200)))
    for words in (
        (
            "prepare-data",
            "--dataset",
            "features",
            "--array",
            "x.npy",
            "--labels",
            "y.npy",
            "--ids",
            "ids.txt",
            "--out",
            "data/mine",
        ),
        ("mine-knn", "--dataset", "mine"),
        ("train-method", "knn_vote", "--dataset", "mine"),
        ("evaluate", "--dataset", "mine"),
    ):
        done = call(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    rows = list(csv.DictReader((tmp_path / "data/mine/results/samples/knn_vote-given-s0.csv").open()))
    assert sorted(row["id"] for row in rows) == sorted(f"page {i}" for i in range(200))
    right = sum(row["given"] == row["suggested"] for row in rows)
    assert right > 180  # clean digits: their neighbors agree
