"""predict: block by block what it would say of all images at once; names that a spreadsheet would compute."""

import csv
import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
from PIL import Image

from noisyctl.artifacts import csv_files, tensor_files
from noisyctl.errors import ArtifactError, DataError
from noisyctl.runs import reading
from stages import predict

ROOT = Path(predict.__file__).parent.parent


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "run"
    pipeline.train(home, "cross_entropy", out, epochs=1)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images, five of them broken, and a file that is none."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (9, 9), np.uint8)).save(root / f"{i:02}.png")
    for i in (0, 3, 4, 5, 29):
        (root / f"{i:02}.png").write_bytes(b"broken")
    (root / "=1+1.png").write_bytes((root / "01.png").read_bytes())
    (root / "@notes.txt").write_text("none")
    return root


def python(script: str) -> str:
    """Run by itself: a state of networks alone does not pass the type checks of the tests."""
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_blocks_say_what_all_images_at_once_would(run: Path, photos: Path, tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from types import SimpleNamespace
        import torch
        from noisyctl import images as _images
        from noisyctl.datasets import folder
        from noisyctl.methods import cross_entropy
        from noisyctl.nn import inference
        from noisyctl.views import ImageViews
        from noisyctl.runs import reading
        from noisyctl.runs import predict as library
        from stages import predict
        from noisyctl.session import Session
        torch.set_num_threads(1)
        inference.BATCH = 8
        run, root = Path({str(run)!r}), Path({str(photos)!r})
        built, header = reading.read_run(run, "x")
        how = header.preprocessing
        images, ids, quarantine = folder.read_images(root, max(how.size), "gray")
        state, views = SimpleNamespace(**built), ImageViews(how.views, how.mean, how.std)
        with inference.evaluating(*built.values()):
            logits = inference.outputs(lambda x: cross_entropy.predict(state, x), torch.as_tensor(images), views.plain)
        best = logits.float().softmax(dim=1).max(dim=1)
        for name, label, p in zip(ids.tolist(), best.indices.tolist(), best.values.tolist()):
            print(name, how.class_names[label], f"{{p:.6f}}", sep=",")
        held, read = [], library.read
        library.read = lambda root, paths, *a, **k: held.append(len(paths)) or read(root, paths, *a, **k)
        predict.run(predict.Inputs(run, root, Path({str(tmp_path / "p.csv")!r})), None, Session(device="cpu", threads=1))
        assert max(held) <= 8, held
        print([file.path for file in quarantine])
    """
    *expected, quarantine = python(script).splitlines()
    with (tmp_path / "p.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == csv_files.PREDICTIONS
    found = [",".join([csv_files.unquoted(path), *rest]) for path, *rest in rows]
    assert found[: len(expected)] == expected and len(expected) == 26
    assert found[len(expected) :] == [f"{path},," for path in json.loads(quarantine.replace("'", '"'))]
    assert {row[0] for row in rows if row[0].startswith("'")} == {"'=1+1.png", "'@notes.txt"}


def test_the_last_line_counts_photos_labels_and_what_could_not_be_read(run: Path, photos: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from stages import predict
        from noisyctl.session import Session
        inputs = predict.Inputs(Path({str(run)!r}), Path({str(photos)!r}), Path({str(run.parent / "p.csv")!r}))
        found = predict.run(inputs, None, Session(device="cpu", threads=1, quiet=True))
        print(predict.STAGE.text(found))
        print(found["labels"])
    """
    line, counts = python(script).splitlines()
    with (run.parent / "p.csv").open(newline="") as file:
        labels = Counter(row["label"] for row in csv.DictReader(file) if row["label"])
    assert json.loads(counts.replace("'", '"')) == dict(labels)
    shown = ", ".join(f"{name} {number}" for name, number in labels.most_common(8))
    shown += f" and {len(labels) - 8} more labels" if len(labels) > 8 else ""
    assert line == f"26 photos labeled: {shown}; 6 files could not be read; {run.parent / 'p.csv'}"


def test_names_in_the_last_line_do_not_steer_the_terminal() -> None:
    found = {"images": 3, "quarantined": 0, "labels": {"a\x1b[2J": 2, "b": 1}, "out": "p.csv"}
    assert predict.STAGE.text is not None
    assert predict.STAGE.text(found) == "3 photos labeled: a?[2J 2, b 1; all could be read; p.csv"


def test_a_prediction_that_was_stopped_goes_on_after_the_last_block(run: Path, photos: Path) -> None:
    """In one process: stopped while its third block is read, then whole, then the same in another folder without a stop."""
    script = f"""
        import sys
        from pathlib import Path
        from noisyctl.nn import inference
        from noisyctl.runs import predict as library
        from noisyctl.session import Session
        from stages import predict

        inference.BATCH = 5
        root, here = Path({str(photos)!r}), Path({str(run.parent)!r})
        read, asked = library.read, []

        def counted(root, paths, *given, **named):
            asked.append(len(paths))
            if len(asked) == 3:
                raise KeyboardInterrupt
            return read(root, paths, *given, **named)

        library.read = counted
        session = Session(device="cpu", threads=1, quiet=True, scratch=here / "stopped")
        resumed = predict.Inputs(Path({str(run)!r}), root, here / "resumed.csv")
        try:
            predict.run(resumed, None, session)
        except KeyboardInterrupt:
            print("stopped", resumed.out.exists())
        predict.run(resumed, None, session)
        print(asked)
        print(list((here / "stopped/scratch").iterdir()))
        whole = predict.Inputs(Path({str(run)!r}), root, here / "whole.csv")
        predict.run(whole, None, session)
        print(resumed.out.read_bytes() == whole.out.read_bytes(), len(whole.out.read_text().splitlines()))
    """
    stopped, asked, left, same = python(script).splitlines()
    assert stopped == "stopped False"
    assert asked == "[5, 5, 5, 5, 5, 5, 5, 1]"  # never more than a block at once, and the first two once
    assert (left, same) == ("[]", "True 33")


def test_a_folder_without_a_readable_image(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"broken")
    asked = predict.Inputs(run, tmp_path / "photos", tmp_path / "p.csv")
    with pytest.raises(DataError, match=r"has no readable image.*is --root right"):
        predict.run(asked, None, pipeline.session(tmp_path))
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"size": None}, "does not say its size; was it written by another"),
        ({"class_names": None, "views": None}, "does not say its class_names, views"),
        ({"mean": 0.5}, "does not say its mean"),
        ({"epochs": None}, "has another header: 'epochs' is missing"),
        ({"epcohs": 3}, "has another header: 'epcohs' is not a key here; did you mean 'epochs'"),
        ({"kind": "photos"}, "holds photos, not networks"),
        ({"modules": None}, "holds no networks that this version knows"),
        ({"modules": {"network": {"backbone": "nope"}}}, "holds no networks that this version knows"),
        ({"modules": {"network": 3}}, "holds no networks that this version knows"),
        ({"modules": {"other": {"backbone": "small_cnn"}}}, "holds no networks that this version knows"),
    ],
)
def test_networks_of_another_program_or_version(
    change: dict[str, Any], said: str, run: Path, photos: Path, tmp_path: Path
) -> None:
    tensors, header = tensor_files.read(run / "networks.safetensors", "x")
    header = {key: value for key, value in (header | change).items() if value is not None and key != "digest"}
    tensor_files.write(tmp_path / "run" / "networks.safetensors", tensors, header)
    with pytest.raises(ArtifactError, match=said):
        predict.run(
            predict.Inputs(tmp_path / "run", photos, tmp_path / "p.csv"), None, pipeline.session(tmp_path)
        )
    assert not (tmp_path / "p.csv").exists()


def test_networks_of_the_right_form_are_read(run: Path) -> None:
    assert set(reading.read_run(run, "x")[0]) == {"network"}
