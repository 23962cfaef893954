"""Figures: drawn for odd input too, and the same bytes for the same numbers."""

from pathlib import Path

import numpy as np
from PIL import Image

from noisyctl.evaluation import figures

PNG = b"\x89PNG"


def test_the_loss_histogram_draws_both_gaussians_and_survives_equal_losses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(1, 0.1, 300), rng.normal(4, 0.3, 100)])
    mixture = [(0.75, 1.0, 0.01), (0.25, 4.0, 0.09)]
    wrong = np.arange(400) >= 300
    for name in ("a", "b"):
        figures.loss_histogram(tmp_path / f"{name}.png", losses, wrong, mixture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    figures.loss_histogram(tmp_path / "bare.png", losses, wrong, [])
    assert (tmp_path / "bare.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    figures.loss_histogram(tmp_path / "equal.png", np.ones(5), None, [(1.0, 1.0, 0.0), (0.0, 1.0, 0.0)])
    assert (tmp_path / "equal.png").read_bytes().startswith(PNG)


def test_names_of_classes_and_runs_are_text_not_formulas(tmp_path: Path) -> None:
    figures.confusion(tmp_path / "c.png", np.array([0, 1]), np.array([0, 1]), ["$x^", "_b$"])
    figures.accuracy_curves(tmp_path / "a.png", {"$run": np.array([1.0, 2.0])})
    figures.accuracy_curves(tmp_path / "none.png", {})
    for name in ("c", "a", "none"):
        assert Image.open(tmp_path / f"{name}.png").size[0] > 100
