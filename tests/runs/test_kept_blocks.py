"""prepare-data and evaluate, killed in the middle: the same command goes on from finished blocks, with the same bytes."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
import pytest
from PIL import Image

from noisyctl import images as _images
from noisyctl.cli import progress
from noisyctl.datasets import folder
from noisyctl.runs import evaluate as library
from noisyctl.session import Session, Silent
from stages import evaluate, prepare_data


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """23 training and 6 test images, one of them broken."""
    rng = np.random.default_rng(0)
    for number in range(29):
        path = (
            tmp_path / "photos" / ("test" if number > 22 else "train") / "ab"[number % 2] / f"{number:02}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos/train/a/04.png").write_bytes(b"broken")
    return tmp_path / "photos"


class Told(Silent):
    """A screen that keeps how many were done."""

    def __init__(self, told: list[int]) -> None:
        self.told = told

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        return lambda done, total: self.told.append(done)


def prepare(photos: Path, out: Path, keep: str, session: Session) -> None:
    params = folder.Params(root=str(photos), image_size=8, keep=keep)  # type: ignore[arg-type]
    prepare_data.run(prepare_data.Inputs("folder", out), params, session)


def stopped_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int) -> list[int]:
    """The function `name` raises KeyboardInterrupt once, after so many calls; gives what counts the calls."""
    plain, count, raised = getattr(owner, name), list[int](), list[bool]()

    def counted(*given: Any, **named: Any) -> Any:
        count.append(1)
        if len(count) > calls and not raised:
            raised.append(True)
            raise KeyboardInterrupt
        return plain(*given, **named)

    monkeypatch.setattr(owner, name, counted)
    return count


@pytest.mark.parametrize("keep", ["pixels", "files"])
def test_prepare_data_goes_on(
    keep: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = pipeline.session(tmp_path)
    prepare(photos, tmp_path / "at-once", keep, session)  # all is one part, and nothing is kept
    assert not (tmp_path / "scratch").exists()
    monkeypatch.setattr(_images, "MOST_IN_PART", 4)
    read = stopped_after(monkeypatch, _images, "_read_into", 14)
    with pytest.raises(KeyboardInterrupt):
        prepare(photos, tmp_path / "out", keep, session)
    assert not (tmp_path / "out/images.zarr").exists()
    del read[:]
    told = list[int]()
    prepare(photos, tmp_path / "out", keep, replace(session, shows=Told(told)))
    assert told[0] == 12 and told[-1] == 6
    assert len(read) == 29 - 12  # three parts were there
    assert pipeline.tree(tmp_path / "out") == pipeline.tree(tmp_path / "at-once")
    assert not list((tmp_path / "scratch/scratch").iterdir())


def test_a_photo_that_has_changed_is_read_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_images, "MOST_IN_PART", 4)
    session = pipeline.session(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(patch, _images, "_read_into", 14)
        prepare(photos, tmp_path / "out", "pixels", session)
    shutil.copy(photos / "train/a/02.png", photos / "train/a/00.png")
    prepare(photos, tmp_path / "out", "pixels", session)
    prepare(photos, tmp_path / "whole", "pixels", session)
    assert pipeline.tree(tmp_path / "out") == pipeline.tree(tmp_path / "whole")


@pytest.fixture
def runs(home: Path, tmp_path: Path) -> Path:
    """Three runs of one trace."""
    if not (home / "vote").exists():
        pipeline.train(home, "knn_vote", home / "vote")
    for name in "abc":
        shutil.copytree(home / "vote", tmp_path / "runs" / name)
    return tmp_path / "runs"


def judge(home: Path, runs: Path, out: Path, session: Session) -> dict[str, Any]:
    return evaluate.run(evaluate.Inputs((runs,), out, home / "truth.zarr", loss_epochs=()), None, session)


def test_evaluate_goes_on(home: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = pipeline.session(tmp_path)
    whole = judge(home, runs, tmp_path / "whole", session)
    judged = stopped_after(monkeypatch, library, "_judge", 2)
    with pytest.raises(KeyboardInterrupt):
        judge(home, runs, tmp_path / "out", session)
    assert not (tmp_path / "out").exists() and len(judged) == 3
    assert judge(home, runs, tmp_path / "out", session)["lists"].keys() == whole["lists"].keys()
    assert len(judged) == 4  # the third alone
    found, expected = pipeline.tree(tmp_path / "out"), pipeline.tree(tmp_path / "whole")
    assert found.keys() == expected.keys() and found["metrics.json"] == expected["metrics.json"]
    assert found == expected
    assert not list((tmp_path / "scratch/scratch").iterdir())


def test_one_run_is_judged_without_a_scratch_folder(home: Path, runs: Path, tmp_path: Path) -> None:
    judge(home, runs / "a", tmp_path / "out", pipeline.session(tmp_path))
    assert not (tmp_path / "scratch").exists()


def test_the_time_left_does_not_count_what_was_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    report = progress.steps("mine-knn", "samples", quiet=False, kept=True)
    report(5000, 10_000)
    now = 10.0
    report(6000, 10_000)
    assert capsys.readouterr().err == "mine-knn  6,000/10,000 samples  40 s left\n"
    assert re.fullmatch(
        "mine-knn stopped at 6,000 of 10,000 samples; finished blocks are kept, and the same command goes on from them",
        progress.kept(),
    )
