"""What evaluate is asked: by runs/evaluate.py and by the command, whose help waits for nothing heavy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Question:
    """Which runs are judged, by what, and what is drawn. What is None or empty is not known or not wanted.

    `runs` are folders of runs, and `out` is the folder to write. `noise` are the facts about the noise of labels, `encoder`
    is the folder of a pretraining that is probed on `images`. `labels` are those that the runs must have been trained on:
    `labels_given` where the user named them. `loss_epochs` are drawn beside the last one; `tsne` is the number of samples
    whose features are drawn.
    """

    runs: tuple[Path, ...]
    out: Path
    truth: Path | None = None
    noise: tuple[Path, ...] = ()
    encoder: Path | None = None
    images: Path | None = None
    loss_epochs: tuple[int, ...] = ()
    tsne: int = 0
    verified: Path | None = None
    paths: Path | None = None
    labels: tuple[Path, ...] = ()
    labels_given: bool = False
