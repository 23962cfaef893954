"""Figures as PNG: no display, no clock, the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int


def _axes(width: float = 6.0) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def accuracy_curves(path: Path, curves: Mapping[str, Float[np.ndarray, " e"]]) -> None:
    """Test accuracy over epochs, a line a run."""
    figure, axes = _axes()
    for name, curve in curves.items():
        axes.plot(np.arange(len(curve)), curve, label=name.replace("$", r"\$"))
    axes.set(xlabel="epoch", ylabel="test accuracy [%]")
    if curves:
        axes.legend()
    _save(figure, path)


def loss_histogram(
    path: Path,
    losses: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"] | None,
    mixture: Sequence[tuple[float, float, float]],
) -> None:
    """Losses of the last epoch, split by the truth where it is known, and the Gaussians fitted to all of them.

    `mixture` holds weight, mean and variance of each; one without variance is not drawn.
    """
    figure, axes = _axes()
    bins = np.linspace(losses.min(), losses.max() + 1e-9, 50)
    groups = (
        [("all labels", np.ones(len(losses), bool))]
        if wrong is None
        else [("right labels", ~wrong), ("wrong labels", wrong)]
    )
    for name, mask in groups:
        axes.hist(losses[mask], bins, alpha=0.6, label=name)
    top = axes.get_ylim()[1]
    x, area = np.linspace(bins[0], bins[-1], 500), len(losses) * (bins[1] - bins[0])
    for number, (weight, mean, variance) in enumerate(mixture):
        if variance > 0:
            density = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            name = ("smaller", "larger")[number]
            axes.plot(x, area * weight * density, "k" + ("-", "--")[number], label=f"mixture, {name} mean")
    axes.set(xlabel="loss", ylabel="samples", ylim=(0, 1.1 * top))
    axes.legend(loc="upper center")
    _save(figure, path)


def confusion(
    path: Path, given: Int[np.ndarray, " n"], suggested: Int[np.ndarray, " n"], names: list[str]
) -> None:
    """Counts of given against suggested labels."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (given, suggested), 1)
    figure, axes = _axes(5.5)
    axes.imshow(counts, cmap="viridis")
    ticks = [name.replace("$", r"\$") for name in names]
    axes.set_xticks(range(len(names)), ticks, rotation=90)
    axes.set_yticks(range(len(names)), ticks)
    axes.set(xlabel="suggested label", ylabel="given label")
    _save(figure, path)
