"""Figures: drawn for odd input too, and the same bytes for the same numbers."""

from pathlib import Path
from xml.etree import ElementTree

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
        figures.loss_histogram(tmp_path / name, losses, wrong, mixture)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    figures.loss_histogram(tmp_path / "bare", losses, wrong, [])
    assert (tmp_path / "bare.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    figures.loss_histogram(tmp_path / "equal", np.ones(5), None, [(1.0, 1.0, 0.0), (0.0, 1.0, 0.0)])
    assert (tmp_path / "equal.png").read_bytes().startswith(PNG)


def test_names_of_classes_and_runs_are_text_not_formulas(tmp_path: Path) -> None:
    names = ["$x^", "_b$"]
    figures.confusion(tmp_path / "c", np.eye(2, dtype=int), names, "given", "suggested")
    figures.curves(tmp_path / "a", {"$run": np.array([1.0, float("nan"), 2.0])}, "accuracy [%]")
    figures.curves(tmp_path / "none.run", {}, "accuracy [%]")
    figures.scatter(tmp_path / "s", np.arange(6.0).reshape(3, 2), np.array([0, 1, -1]), names)
    for name in ("c", "a", "none.run", "s"):
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
        assert Image.open(tmp_path / f"{name}.png").size[0] > 100


def test_a_thousand_classes_have_no_names_on_the_axes(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1000)]
    figures.confusion(tmp_path / "c", np.zeros((1000, 1000), int), names, "given", "suggested")
    few = figures.MOST_NAMES
    figures.confusion(tmp_path / "few", np.zeros((few, few), int), names[:few], "given", "suggested")
    assert (tmp_path / "c.svg").stat().st_size < (tmp_path / "few.svg").stat().st_size
