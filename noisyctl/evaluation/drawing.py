"""What shows one run: confusions, histograms of losses and maps of features as figures, and their numbers beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl.evaluation import figures, measures
from noisyctl.evaluation.judging import Arrays, opinion, over_networks, trained_samples
from noisyctl.parts.mixture import fit_mixture
from noisyctl.seeds import stream


@dataclass(frozen=True)
class Canvas:
    """A folder of results, and the names of one run in it: `figures/STEM-*.png` and `plots/STEM-*.tsv`."""

    folder: Path
    stem: str

    def figure(self, what: str) -> Path:
        return self.folder / "figures" / f"{self.stem}-{what}"

    def write_tsv(self, what: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        write_tsv(self.folder / "plots" / f"{self.stem}-{what}.tsv", head, rows)


def draw_confusions(canvas: Canvas, trace: Arrays, names: list[str], clean: np.ndarray | None) -> None:
    """Given against suggested labels and, where clean ones [n] are known, clean against corrected ones."""
    given = trace.array("noisy_labels")
    suggested, _ = opinion(trace)
    counts = measures.confusion_counts(given, suggested, len(names))
    figures.confusion(canvas.figure("confusion"), counts, names, "given", "suggested")
    if clean is None or "pseudo_labels" not in trace:
        return
    judged = trained_samples(trace) & (clean >= 0)
    corrected = trace.array("pseudo_labels")[-1]
    counts = measures.confusion_counts(clean[judged], corrected[judged], len(names))
    figures.confusion(canvas.figure("correction"), counts, names, "clean", "corrected")
    rows = [[names[i], names[j], counts[i, j]] for i, j in np.ndindex(*counts.shape) if counts[i, j]]
    canvas.write_tsv("correction", ["clean", "corrected", "samples"], rows)


def draw_losses(canvas: Canvas, trace: Arrays, wrong: np.ndarray | None, chosen: Sequence[int]) -> None:
    """The losses of the last epoch and of the chosen ones (ScanMix Fig. 3 shows early ones), and their mixtures."""
    every, trained = trace.array("losses"), trained_samples(trace)
    wrong = None if wrong is None else wrong[trained]
    for what, epoch in [("", len(every) - 1), *((f"epoch{e}-", e) for e in chosen)]:
        losses = over_networks(every[epoch])[trained]
        name = f"{canvas.stem}-{what}".removesuffix("-")
        mixture = fit_mixture(torch.as_tensor(losses), stream(0, "evaluate", name))
        components = list(zip(*mixture, strict=True))
        figures.loss_histogram(canvas.figure(f"{what}losses"), losses, wrong, components)
        bins = figures.loss_bins(losses)
        groups = {"all": np.ones(len(losses), bool)} if wrong is None else {"right": ~wrong, "wrong": wrong}
        bars = [np.histogram(losses[of], bins)[0] for of in groups.values()]
        rows = [[f"{x:.6g}", *row] for x, *row in zip((bins[:-1] + bins[1:]) / 2, *bars, strict=True)]
        canvas.write_tsv(f"{what}losses", ["loss", *groups], rows)


@dataclass(frozen=True, eq=False)
class Points:
    """Some training samples: their features [m d], ids and labels [m], and which labels are wrong, where it is known."""

    features: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray | None


def draw_points(canvas: Canvas, points: Points, names: list[str], rng: torch.Generator) -> None:
    """A t-SNE of features, in the colors of the labels; -1 is a class that the run does not know."""
    places = measures.embed(points.features, rng)
    figures.scatter(canvas.figure("tsne"), places, points.labels, names)
    wrong = [""] * len(places) if points.wrong is None else [int(w) for w in points.wrong]
    rows = [
        [i, f"{x:.4f}", f"{y:.4f}", names[c] if c >= 0 else "", w]
        for i, (x, y), c, w in zip(points.ids, places, points.labels, wrong, strict=True)
    ]
    canvas.write_tsv("tsne", ["id", "x", "y", "label", "wrong"], rows)


def draw_curves(folder: Path, name: str, runs: dict[str, np.ndarray]) -> None:
    """A measure over the epochs of several runs, in percent."""
    file = "accuracy" if name == "test_accuracy" else name
    figures.curves(folder / "figures" / file, runs, f"{name.replace('_', ' ')} [%]")
    rows = [[run, e, _number(v)] for run, curve in runs.items() for e, v in enumerate(curve)]
    write_tsv(folder / "plots" / f"{file}.tsv", ["run", "epoch", name], rows)


def write_tsv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Tab-separated values; a tab or a line break in a name is a blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(" ".join(str(cell).split()) for cell in row) for row in (head, *rows))
    path.write_text("\n".join(lines) + "\n")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
