"""Figures as PNG and SVG beside each other: no display, no clock, the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

MOST_NAMED = 20  # runs in a legend


def _axes(width: float = 6.0) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4), layout="constrained")
    return figure, figure.subplots()


MOST_NAMES = 30  # with more classes than these the axes carry no names


def _save(figure: Any, path: Path) -> None:
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=110, metadata={"Software": None})
    figure.set_layout_engine("none")  # what was just laid out stays
    with rc_context({"svg.hashsalt": "noisyctl"}):
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})


def _text(name: str) -> str:
    """A name as matplotlib shows it: no formula."""
    return name.replace("$", r"\$")


def curves(path: Path, runs: Mapping[str, Float[np.ndarray, " e"]], label: str) -> None:
    """A measure over epochs, a line a run; more than a legend holds have none."""
    figure, axes = _axes()
    for name, curve in runs.items():
        known = np.flatnonzero(np.isfinite(curve))  # an epoch that was not measured is bridged
        marker = "." if len(known) < len(curve) else None
        axes.plot(known, curve[known], marker=marker, label=_text(name))
    axes.set(xlabel="epoch", ylabel=label)
    if 0 < len(runs) <= MOST_NAMED:
        axes.legend()
    _save(figure, path)


def loss_bins(losses: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 50"]:
    """The edges of the histogram's bars."""
    return np.linspace(losses.min(), losses.max() + 1e-9, 50)


def loss_histogram(
    path: Path,
    losses: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"] | None,
    mixture: Sequence[tuple[float, float, float]],
) -> None:
    """Losses of an epoch, split by the truth where it is known, and the Gaussians fitted to all of them.

    `mixture` holds weight, mean and variance of each; one without variance is not drawn.
    """
    figure, axes = _axes()
    bins = loss_bins(losses)
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


def confusion(path: Path, counts: Int[np.ndarray, "c c"], names: list[str], rows: str, columns: str) -> None:
    """Counts of `rows` labels against `columns` labels."""
    figure, axes = _axes(5.5)
    axes.imshow(counts, cmap="viridis")
    if len(names) <= MOST_NAMES:
        ticks = [_text(name) for name in names]
        axes.set_xticks(range(len(names)), ticks, rotation=90)
        axes.set_yticks(range(len(names)), ticks)
    axes.set(xlabel=f"{columns} label", ylabel=f"{rows} label")
    _save(figure, path)


def scatter(
    path: Path, points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], names: list[str]
) -> None:
    """Points of the plane, a color a class; a label of -1 is gray."""
    from matplotlib import colormaps

    figure, axes = _axes(5.5)
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"]
    axes.scatter(*points[labels < 0].T, s=4, c="lightgray")
    for c in np.unique(labels[labels >= 0]):
        axes.scatter(*points[labels == c].T, s=4, color=palette(c % palette.N), label=_text(names[c]))
    axes.set(xticks=[], yticks=[])
    if len(names) <= MOST_NAMES:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)
