"""Judge runs: metrics, curves, figures, and samples.csv, the list of labels to look at.

What metrics.json and plots/ hold is told in docs/metrics.md. A key is there where the trace and the truth allow it.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import csv_files, files, store
from noisyctl.artifacts.kinds import FEATURES, NOISE, PATHS, TRACE, TRUTH, VERIFIED
from noisyctl.cli.stage import Option, Stage, one
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.session import Session


@dataclass(frozen=True)
class Inputs:
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


RESULTS = files.Folder("results of evaluate")
MOST_POINTS = 2000
ID, OOD = 1, 2  # verdicts of a trace
Curves = dict[str, np.ndarray]


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write metrics.json, plots/*.tsv, figures/*.png and samples/*.csv for every run found below the given folders."""
    from noisyctl.artifacts import metrics as metrics_json
    from noisyctl.evaluation import figures

    truth = store.read(inputs.truth, TRUTH) if inputs.truth else None
    verified = store.read(inputs.verified, VERIFIED) if inputs.verified else None
    facts = [store.read(p, NOISE) for p in inputs.noise]
    metrics: dict[str, Any] = {"runs": {}}
    curves: dict[str, Curves] = {"test_accuracy": {}}
    lists: dict[str, Sequence[Sequence[Any]]] = {}
    with files.publish(inputs.out, RESULTS) as partial:
        partial.mkdir()
        found_runs = sorted(_find(inputs.runs))
        report = session.progress("evaluate", "runs")
        for done, (name, trace) in enumerate(found_runs, start=1):
            _require_fresh(trace, inputs)
            metrics["runs"][name], found = _judge(name, trace, truth, facts, verified)
            for key, curve in found.items():
                curves.setdefault(key, {})[name] = curve
            warning = metrics["runs"][name]["list"]["warning"]
            lists[name] = _write_list(
                partial / _list_of(name), trace, _paths_of(trace, inputs.paths), warning
            )
            _draw(name.replace("/", "-"), trace, truth, inputs, session, partial)
            report(done, len(found_runs))
        if inputs.encoder and inputs.images and truth is not None:
            metrics["knn_probe"] = _probe(inputs.encoder, inputs.images, truth, session)
        if not inputs.runs and not metrics.get("knn_probe"):
            raise ParamsError(
                "--encoder without --run judges the encoder alone, which takes images and a truth with test labels; give "
                "--images and --truth, or a --run"
            )
        for key, runs in curves.items() if inputs.runs else ():
            file = "accuracy" if key == "test_accuracy" else key
            figures.curves(partial / "figures" / file, runs, f"{key.replace('_', ' ')} [%]")
            rows = [[name, e, _number(v)] for name, curve in runs.items() for e, v in enumerate(curve)]
            _write_tsv(partial / "plots" / f"{file}.tsv", ["run", "epoch", key], rows)
        metrics_json.write(partial / "metrics.json", metrics)
        RESULTS.seal(partial)
    about = {
        name: run["list"] | {"path": str(inputs.out / _list_of(name))}
        for name, run in metrics["runs"].items()
    }
    if not session.quiet:
        _show_lists(about, lists)
    probed = {k: v for k, v in metrics.get("knn_probe", {}).items() if isinstance(v, float)}
    summary = {"runs": len(metrics["runs"]), "out": str(inputs.out), **probed}
    return summary | ({"lists": about} if session.quiet else {})  # for --json


def _find(folders: tuple[Path, ...]) -> list[tuple[str, store.Artifact]]:
    from noisyctl.runs import training

    found = []
    for folder in folders:
        traces = sorted(folder.rglob("trace.zarr"))
        if not traces:
            raise ArtifactError(f"{folder} holds no run; make one with `noisyctl train-method NAME`")
        for path in traces:
            trace = store.read(path, TRACE)
            training.require_whole_run(trace, "noisyctl train-method NAME")
            found.append((f"{trace.attributes['method']}/{path.parent.name}", trace))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArtifactError(f"two runs are called {twice} (method and folder); evaluate them apart")
    return found


def _require_fresh(trace: store.Artifact, inputs: Inputs) -> None:
    """Refuse a run that was trained on other images or labels than those that lie there now.

    A run's labels are those with its digest, or else those of its cell, such as noise/sym60-s0. Raises ArtifactError that
    names the first thing to make again.
    """
    from noisyctl.artifacts.kinds import LABELS
    from noisyctl.runs import fresh

    if not inputs.labels:
        return
    cell, seed = trace.path.parent.name, trace.attributes["params"].get("seed")
    by_digest = {store.read(path, LABELS).digest: path for path in inputs.labels}
    by_cell = {
        f"given-s{seed}" if path.parent.parent.name != "noise" else path.parent.name: path
        for path in inputs.labels
    }
    labels = by_digest.get(trace.inputs["labels"]) or by_cell.get(cell)
    if labels is None:
        if not inputs.labels_given:
            return
        labels = inputs.labels[0]
    home = labels.parent.parent.parent if labels.parent.parent.name == "noise" else labels.parent
    images = home / "images.zarr"
    noise = cell.removesuffix(f"-s{seed}")
    options = f" --dataset {home.name} --noise {noise} --seed {seed}" if noise != cell else ""
    method = trace.attributes["method"]
    command = f"noisyctl {'warmup' if method == 'warmup' else f'train-method {method}'}{options}"
    chosen = fresh.labeled(images if images.exists() else None, labels)
    fresh.require([fresh.trained(chosen, trace.path.parent, command)])


def _judge(
    name: str,
    trace: store.Artifact,
    truth: store.Artifact | None,
    facts: list[store.Artifact],
    verified: store.Artifact | None,
) -> tuple[dict[str, Any], Curves]:
    """The run's block of metrics.json, and its curves over epochs."""
    if truth is not None:
        store.require_input(trace, "images", truth.inputs["images"], truth.path)
    noise = next((f for f in facts if f.inputs["labels"] == trace.inputs["labels"]), None)
    given, trained = trace.array("noisy_labels"), _trained(trace)
    result: dict[str, Any] = {
        "method": trace.attributes["method"],
        "seed": trace.attributes["params"]["seed"],
        "params": trace.attributes["params"],
        "inputs": dict(trace.inputs),
        "verified_labels": "verified" in trace.inputs,
        "hardware": trace.attributes.get("hardware"),
        "assumed": sorted(
            name
            for name, value in trace.attributes["params"].items()
            if name.startswith("assumed_") and value is not None
        ),
    }
    if noise is not None:
        result["nominal_noise"] = noise.attributes["nominal_rate"]
    if "train_predictions" in trace:
        fitted = trace.array("train_predictions")[-1] == given
        result["given_labels_fitted"] = float(100 * fitted[trained].mean())
    names = list(trace.attributes["class_names"])
    clean = _known(truth, "clean_labels", names)
    result["list"] = _trust(trace, None if clean is None else given != clean)
    if truth is None:
        return result, {}
    measured, curves = _on_test_images(trace, truth, names)
    measured |= _of_further_classifiers(trace, truth, names)
    if clean is not None:
        result["measured_noise"] = float((given != clean).mean())
        test, told = curves.get("test_accuracy"), _told(trace, verified)
        on_training, more = _on_training_images(trace, given, clean, trained, test, told)
        measured, curves = measured | on_training, curves | more
    elif verified is not None and "pseudo_labels" in trace and "verified" not in trace.inputs:
        measured["label_accuracy"] = _on_verified(trace, given, verified)
    return result | measured, curves


def _trust(trace: store.Artifact, wrong: np.ndarray | None) -> dict[str, Any]:
    """Whether the run's list can be trusted: docs/metrics.md, noisyctl/evaluation/trust.py."""
    from noisyctl.evaluation import trust

    suggested, probability = opinion(trace)
    given = trace.array("noisy_labels")
    judged_by, unseen = None, np.ones(len(given), bool)
    if "train_probabilities" in trace:
        if "validation" in trace:
            judged_by, unseen = trust.HELD_OUT, trace.array("validation")
    elif "neighbors" in trace.inputs:
        judged_by = trust.NEIGHBORS
    return trust.judge(given, suggested, probability, unseen=unseen, judged_by=judged_by, wrong=wrong)


def _told(trace: store.Artifact, verified: store.Artifact | None) -> np.ndarray | None:
    """The samples whose right labels the run was given; None where it was given some and they are not at hand."""
    told = np.zeros(len(trace.array("noisy_labels")), bool)
    digest = trace.inputs.get("verified")
    if digest is not None:
        if verified is None or verified.digest != digest:
            return None
        told[verified.array("index")] = True
    return told


def _on_verified(trace: store.Artifact, given: np.ndarray, verified: store.Artifact) -> dict[str, Any]:
    """Label accuracy of the samples whose labels were checked, where the right labels of the others are not known.

    Not of a run that was given checked labels: it corrected the others by these, and would be asked what it was told.
    """
    from noisyctl.evaluation import measures

    store.require_input(trace, "images", verified.inputs["images"], verified.path)
    checked = np.full(len(given), -1)
    checked[verified.array("index")] = verified.array("verified_labels")
    return measures.label_accuracy(trace.array("pseudo_labels"), given, checked)


def _on_test_images(
    trace: store.Artifact, truth: store.Artifact, names: list[str]
) -> tuple[dict[str, Any], Curves]:
    """Accuracies on every split whose labels are known, of its images whose class the run knows."""
    from noisyctl.evaluation import measures

    validation, stage = _on_validation(trace)
    curves: Curves = {}
    for name in truth.names:
        split = name.removesuffix("_labels")
        labels = _known(truth, name, names)
        if labels is None or f"{split}_predictions" not in trace:
            continue
        judged = labels >= 0
        predictions = trace.array(f"{split}_predictions")[:, judged]
        curves[f"{split}_accuracy"] = measures.accuracies(predictions, labels[judged])
        if f"{split}_top5" in trace:
            places = trace.array(f"{split}_top5")[:, judged]
            curves[f"{split}_top5_accuracy"] = measures.top_accuracies(places, labels[judged])
    by_split = {name: measures.selection_rules(curve, validation, stage) for name, curve in curves.items()}
    for name, curve in curves.items():
        if "val_accuracy" in curves:  # clean labels that a user owns: Clothing1M's
            by_split[name]["best_on_clean_validation"] = float(curve[curves["val_accuracy"].argmax()])
    return by_split, curves


def _of_further_classifiers(trace: store.Artifact, truth: store.Artifact, names: list[str]) -> dict[str, Any]:
    """Accuracies on every split of what a method has beside its own predictions: a second network, prototypes.

    `both_networks` is the mean of the accuracies of two networks, epoch by epoch, as JoCoR's tables have it.
    """
    from noisyctl.evaluation import measures

    found: dict[str, Any] = {}
    for name in truth.names:
        split = name.removesuffix("_labels")
        labels = _known(truth, name, names)
        head = f"{split}_predictions_of_"
        of_split = {array.removeprefix(head): array for array in trace.names if array.startswith(head)}
        if labels is None or not of_split:
            continue
        judged = labels >= 0
        curves = {
            who: measures.known_accuracies(trace.array(array)[:, judged], labels[judged])
            for who, array in of_split.items()
        }
        if "network2" in curves:
            first = measures.accuracies(trace.array(f"{split}_predictions")[:, judged], labels[judged])
            curves["both_networks"] = (first + curves["network2"]) / 2
        found[f"{split}_accuracy_of"] = {
            who: {"initial": float(curve[0])} | measures.selection_rules(curve)
            for who, curve in curves.items()
            if len(curve)
        }
    return found


def _on_validation(trace: store.Artifact) -> tuple[Curves, np.ndarray | None]:
    """By the name of a rule what it chooses an epoch by, and the method's stage in each epoch, if it has stages.

    Refined are the held-out labels that the method has selected in the end, as Two-Stage does.
    """
    from noisyctl.evaluation import measures

    found: Curves = {}
    if "validation_predictions" in trace:
        held_out, predictions = trace.array("validation"), trace.array("validation_predictions")
        given = trace.array("noisy_labels")[held_out]
        found["best_on_noisy_validation"] = measures.accuracies(predictions, given)
        if "scalar_validation_loss" in trace:
            found["least_noisy_validation_loss"] = -trace.array("scalar_validation_loss")
        refined = (
            trace.array("selected")[-1][..., held_out] if "selected" in trace else np.zeros(len(given), bool)
        )
        if refined.ndim == 1 and 0 < refined.sum() < len(refined):
            found["best_on_refined_validation"] = measures.accuracies(predictions[:, refined], given[refined])
    return found, trace.array("scalar_stage") if "scalar_stage" in trace else None


def _on_training_images(
    trace: store.Artifact,
    given: np.ndarray,
    clean: np.ndarray,
    trained: np.ndarray,
    test: np.ndarray | None,
    told: np.ndarray | None,
) -> tuple[dict[str, Any], Curves]:
    """How well wrong labels are found and corrected. Samples that are held out for validation do not count.

    Nor do those whose right label the run was `told` count among the corrected ones; unknown, there is no such number.
    """
    from noisyctl.evaluation import measures

    suggested, probability = opinion(trace)
    known = clean >= 0
    result: dict[str, Any] = {
        "suggested_label_accuracy": float(100 * (suggested == clean)[known].mean()),
    }
    given, clean, probability = given[trained], clean[trained], probability[trained]
    wrong, curves = given != clean, Curves()
    called = probability < 0.5
    used = next((name for name in ("selected", "learned_from") if name in trace), None)
    if used:
        selected = trace.array(used)[..., trained]
        selected = selected.reshape(
            len(selected), -1, len(given)
        )  # a network axis of one where there is none
        if used == "selected":  # else agreement, say, left a sample out, and not its label
            called = selected[-1].mean(axis=0) < 0.5
        precision, recall = measures.selection_quality(selected, ~wrong)
        curves |= {"selection_precision": precision, "selection_recall": recall}
        result["selection"] = {
            "precision": measures.over_epochs(precision, test),
            "recall": measures.over_epochs(recall, test),
        }
        result["labels_kept"] = measures.label_shares(selected[-1], ~wrong)
    result["labels_given"] = measures.label_shares(np.ones((1, len(given)), bool), ~wrong)
    result["detection"] = measures.detection(probability, wrong, called)
    if "verdict" in trace:
        verdict = trace.array("verdict")[:, trained]
        groups = {"id_precision": (ID, wrong & (clean >= 0)), "ood_precision": (OOD, clean < 0)}
        found = {
            n: measures.verdict_precision(verdict, v, true) for n, (v, true) in groups.items() if true.any()
        }
        curves |= found
        result["verdicts"] = {n: measures.over_epochs(curve, test) for n, curve in found.items()}
    if "pseudo_labels" in trace and told is not None:
        labels, asked = trace.array("pseudo_labels")[:, trained], (clean >= 0) & ~told[trained]
        if asked.any():
            result["label_accuracy"] = measures.label_accuracy(labels[:, asked], given[asked], clean[asked])
            curves["label_accuracy"] = measures.accuracies(labels[:, asked], clean[asked])
    if "train_predictions" in trace:
        fitted = measures.group_accuracies(trace.array("train_predictions")[:, trained], given, clean)
        curves |= fitted
        result["groups"] = {n: store.finite_or_none(curve[-1]) for n, curve in fitted.items()}
    return result, curves


def _draw(
    stem: str,
    trace: store.Artifact,
    truth: store.Artifact | None,
    inputs: Inputs,
    session: Session,
    out: Path,
) -> None:
    """What shows one run: confusions, histograms of losses, t-SNE; numbers of the figures in plots/."""
    from noisyctl.evaluation import figures, measures

    given, names, trained = (
        trace.array("noisy_labels"),
        list(trace.attributes["class_names"]),
        _trained(trace),
    )
    suggested, _ = opinion(trace)
    counts = measures.confusion_counts(given, suggested, len(names))
    figures.confusion(out / "figures" / f"{stem}-confusion", counts, names, "given", "suggested")
    clean = _known(truth, "clean_labels", names)
    if clean is not None and "pseudo_labels" in trace:
        judged = trained & (clean >= 0)
        corrected = trace.array("pseudo_labels")[-1]
        counts = measures.confusion_counts(clean[judged], corrected[judged], len(names))
        figures.confusion(out / "figures" / f"{stem}-correction", counts, names, "clean", "corrected")
        rows = [[names[i], names[j], counts[i, j]] for i, j in np.ndindex(*counts.shape) if counts[i, j]]
        _write_tsv(out / "plots" / f"{stem}-correction.tsv", ["clean", "corrected", "samples"], rows)
    wrong = None if clean is None else given != clean
    if "losses" in trace:
        _draw_losses(stem, trace, trained, wrong, inputs.loss_epochs, out)
    if inputs.tsne:
        _draw_points(stem, trace, given if clean is None else clean, wrong, inputs, session, out)


def _draw_losses(
    stem: str,
    trace: store.Artifact,
    trained: np.ndarray,
    wrong: np.ndarray | None,
    chosen: Sequence[int],
    out: Path,
) -> None:
    """The losses of the last epoch and of the chosen ones (ScanMix Fig. 3 shows early ones), and their mixtures."""
    import torch

    from noisyctl.evaluation import figures
    from noisyctl.parts.mixture import fit_mixture
    from noisyctl.seeds import stream

    every = trace.array("losses")
    beyond = [epoch for epoch in chosen if epoch >= len(every)]
    if beyond:
        raise ParamsError(
            f"--loss-epochs {beyond[0]}: {trace.path} has epochs 0 to {len(every) - 1}; choose among these"
        )
    wrong = None if wrong is None else wrong[trained]
    for name, epoch in [(stem, len(every) - 1), *((f"{stem}-epoch{e}", e) for e in chosen)]:
        losses = _over_networks(every[epoch])[trained]
        mixture = fit_mixture(torch.as_tensor(losses), stream(0, "evaluate", name))
        figures.loss_histogram(
            out / "figures" / f"{name}-losses", losses, wrong, list(zip(*mixture, strict=True))
        )
        bins = figures.loss_bins(losses)
        groups = {"all": np.ones(len(losses), bool)} if wrong is None else {"right": ~wrong, "wrong": wrong}
        bars = [np.histogram(losses[of], bins)[0] for of in groups.values()]
        rows = [[f"{x:.6g}", *row] for x, *row in zip((bins[:-1] + bins[1:]) / 2, *bars, strict=True)]
        _write_tsv(out / "plots" / f"{name}-losses.tsv", ["loss", *groups], rows)


def _draw_points(
    stem: str,
    trace: store.Artifact,
    labels: np.ndarray,
    wrong: np.ndarray | None,
    inputs: Inputs,
    session: Session,
    out: Path,
) -> None:
    """t-SNE of the run's features of some training images, in the colors of the clean classes where they are known."""
    import torch

    from noisyctl.evaluation import figures, measures
    from noisyctl.nn.inference import BATCH, evaluating
    from noisyctl.runs import training
    from noisyctl.seeds import stream

    if inputs.images is None:
        raise ParamsError("--tsne: the images are not in the default place; give --images")
    images, device = training.read_images(inputs.images), session.start()
    store.require_input(trace, "images", images.digest, images.path)
    built, _ = training.read_run(trace.path.parent, "noisyctl train-method NAME")
    if not built:
        return
    network = built[min(built)].to(device)  # of two networks the first, of student and teacher the student
    task, _ = training.make_task(images, device)
    rng = stream(0, "evaluate", "tsne", stem)
    index = torch.randperm(len(labels), generator=rng)[: inputs.tsne].sort().values
    with evaluating(network):
        features = [network.features(task.plain(part.to(device))).float() for part in index.split(BATCH)]
    points = measures.embed(torch.cat(features).cpu().numpy(), rng)
    names, chosen = list(trace.attributes["class_names"]), index.numpy()
    figures.scatter(out / "figures" / f"{stem}-tsne", points, labels[chosen], names)
    ids = trace.array("train_id")[chosen]
    rows = [
        [ids[i], f"{x:.4f}", f"{y:.4f}", names[c] if c >= 0 else "", "" if wrong is None else int(wrong[j])]
        for i, ((x, y), c, j) in enumerate(zip(points, labels[chosen], chosen, strict=True))
    ]
    _write_tsv(out / "plots" / f"{stem}-tsne.tsv", ["id", "x", "y", "label", "wrong"], rows)


def _trained(trace: store.Artifact) -> np.ndarray:
    """The samples that are not held out for validation."""
    size = len(trace.array("noisy_labels"))
    return ~trace.array("validation") if "validation" in trace else np.ones(size, bool)


def _known(truth: store.Artifact | None, name: str, names: list[str]) -> np.ndarray | None:
    """Labels of the truth as positions in `names`; -1 where the run knows no such class (open set)."""
    if truth is None or name not in truth:
        return None
    place = {label: i for i, label in enumerate(names)}
    return np.array([place.get(label, -1) for label in truth.attributes["class_names"]])[truth.array(name)]


def opinion(trace: store.Artifact) -> tuple[np.ndarray, np.ndarray]:
    """The run's last word on every training sample: suggested label, and probability that the given one is right.

    The method's own where it has them; else the network's prediction and its probability of the given label.
    """
    given = trace.array("noisy_labels")
    if "clean_probability" in trace:
        probability = _over_networks(trace.array("clean_probability")[-1])
        if (
            "validation" in trace and "train_probabilities" in trace
        ):  # held out: the method has no opinion on these
            held_out = trace.array("validation")
            probability[held_out] = trace.array("train_probabilities")[held_out, given[held_out]]
    elif "train_probabilities" in trace:
        probability = trace.array("train_probabilities")[np.arange(len(given)), given].astype(np.float64)
    else:
        raise ArtifactError(
            f"{trace.path} has neither clean probabilities nor predictions: the run trained no epoch; raise --epochs"
        )
    if "train_probabilities" in trace:
        return trace.array("train_probabilities").argmax(axis=1), probability
    return trace.array("pseudo_labels")[-1], probability


def _over_networks(values: np.ndarray) -> np.ndarray:
    """One value a sample: the mean where there are two networks."""
    return values.astype(np.float64).mean(axis=tuple(range(values.ndim - 1)))


LIST = csv_files.SAMPLES
SHOWN = ("rank", "id", "given", "suggested", "clean_probability", "verdict")
UNTRUSTWORTHY = "untrustworthy"  # in every row of a list that has a warning: sorting and filtering keep it
NUM_SHOWN = 10
MOST_RUNS_SHOWN = 3  # of more runs the paths and counts are printed, and no rows


def _list_of(name: str) -> Path:
    return Path("samples", f"{name.replace('/', '-')}.csv")


def _write_list(
    path: Path, trace: store.Artifact, paths: np.ndarray | None, warning: str | None
) -> list[list[Any]]:
    """The labels to look at, the most probably wrong first, and the first rows of it.

    The whole warning of a list that cannot be trusted lies beside it in NAME-WARNING.txt.
    """
    suggested, probability = opinion(trace)
    given, names = trace.array("noisy_labels"), np.array(trace.attributes["class_names"])
    order = ranking(trace, given, suggested, probability)
    verdicts = np.where(probability >= 0.5, "keep", np.where(suggested == given, "look", "relabel"))
    if warning is not None:
        verdicts[verdicts == "relabel"] = "look"  # a script that applies the list changes nothing
    columns = (
        trace.array("train_id")[order],
        itertools.repeat("") if paths is None else paths[order],
        names[given[order]],
        names[suggested[order]],
        (f"{p:.6f}" for p in probability[order]),
        verdicts[order],
        range(1, len(order) + 1),
        itertools.repeat("" if warning is None else UNTRUSTWORTHY),
    )
    rows = zip(*columns, strict=False)
    first = [list(row) for row in itertools.islice(rows, NUM_SHOWN)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv_files.write(file, itertools.chain([LIST], first, rows))
    if warning is not None:
        path.with_name(f"{path.stem}-WARNING.txt").write_text(f"{warning}.\n")
    return first


def _paths_of(trace: store.Artifact, place: Path | None) -> np.ndarray | None:
    """Where the run's training images lie; None where they come from no files of their own."""
    if place is None:
        return None
    paths = store.read(place, PATHS)
    store.require_input(trace, "images", paths.inputs["images"], place)
    return paths.array("train_path")


def ranking(
    trace: store.Artifact, given: np.ndarray, suggested: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    """Positions of the training samples, the label that is most probably wrong first.

    Of equal probabilities those come first whose suggestion is another label, of these the surer suggestion where the run
    has probabilities of classes; what is still equal is in an order drawn once and for all, so that no class or folder
    comes before another.
    """
    from noisyctl.seeds import numpy_stream

    sureness = np.zeros(len(given))
    if "train_probabilities" in trace:
        sureness = trace.array("train_probabilities").max(axis=1)
    drawn = numpy_stream(0, "evaluate", "ties").permutation(len(given))
    return np.lexsort((drawn, -sureness, suggested == given, probability))


def _show_lists(about: dict[str, dict[str, Any]], lists: dict[str, Sequence[Sequence[Any]]]) -> None:
    """On stderr: where each list lies, how many labels look wrong, whether to trust it, and its first rows."""
    for name, run in about.items():
        print(
            f"{name}: {run['called_wrong']} of {run['samples']} labels look wrong; the list, by rank: {run['path']}",
            file=sys.stderr,
        )
        if run["warning"] is not None:
            print(f"  WARNING: this list is untrustworthy: {run['warning']}.", file=sys.stderr)
        if len(about) <= MOST_RUNS_SHOWN:
            has_paths = any(row[LIST.index("path")] for row in lists[name])
            shown = ["path" if column == "id" and has_paths else column for column in SHOWN]
            rows = [shown, *([_printable(str(row[LIST.index(c)])) for c in shown] for row in lists[name])]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                print(f"  {'  '.join(cells)}".rstrip(), file=sys.stderr)


def _printable(text: str) -> str:
    """Names come from data: what would steer a terminal is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _write_tsv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Tab-separated values; a tab or a line break in a name is a blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(" ".join(str(cell).split()) for cell in row) for row in (head, *rows))
    path.write_text("\n".join(lines) + "\n")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def _probe(encoder: Path, images_path: Path, truth: store.Artifact, session: Session) -> dict[str, Any]:
    """k-NN accuracy on the test split of the trained encoder's features, and of the same encoder untrained."""
    import torch

    from noisyctl.evaluation import measures
    from noisyctl.nn.inference import evaluating, outputs
    from noisyctl.nn.networks import build
    from noisyctl.parts.neighbors import knn_classify
    from noisyctl.runs import training
    from noisyctl.seeds import stream

    device = session.start()
    features = store.read(encoder / "features.zarr", FEATURES)
    built, header = training.read_networks(encoder / "encoder.safetensors", "noisyctl pretrain-simclr")
    store.require_input(features, "encoder", header["digest"], encoder / "encoder.safetensors")
    images = training.read_images(images_path)
    if "test_labels" not in truth or "test_features" not in features:
        return {}
    task, held_out = training.make_task(images, device)
    assert task.images is not None and task.views is not None
    plain = task.views.plain
    y = torch.as_tensor(truth.array("clean_labels"))
    test, num_classes = truth.array("test_labels"), len(truth.attributes["class_names"])

    def accuracy(train: torch.Tensor, queries: torch.Tensor) -> float:
        return float(
            100 * (knn_classify(queries.cpu(), train.cpu(), y, 20, num_classes).numpy() == test).mean()
        )

    name = f"pretrain-{encoder.name}"  # the stage's, as its folder
    untrained = build(built["network"].spec, stream(header["params"]["seed"], name, "init")).to(device)
    with evaluating(untrained):
        before = accuracy(
            outputs(untrained.features, task.images, plain),
            outputs(untrained.features, held_out["test"], plain),
        )
    after = accuracy(
        torch.as_tensor(features.array("features")), torch.as_tensor(features.array("test_features"))
    )
    found: dict[str, Any] = {"knn_accuracy": after, "knn_accuracy_untrained": before}
    found["encoder_params"] = header["params"]
    if (encoder / "clusters.safetensors").exists():
        clusters, about = training.read_networks(encoder / "clusters.safetensors", "noisyctl cluster-scan")
        network = clusters["network"].to(device)
        with evaluating(network):
            of_test = outputs(network, held_out["test"], plain).argmax(dim=1).cpu().numpy()
        found["clustering_accuracy"] = measures.clustering_accuracy(of_test, test)
        found["clusters_params"] = about["params"]
    return found


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    def there(path: Path) -> Path | None:
        return path if path.exists() else None

    noise = tuple(given["noise_facts"]) or tuple(
        sorted([*layout.home.glob("noise/*/noise.zarr"), *layout.home.glob("noise.zarr")])
    )
    probed = given["encoder"] or (None if given["run"] else there(layout.encoder))
    if given["encoder"] and not (given["encoder"] / "encoder.safetensors").exists():
        raise ArtifactError(
            f"--encoder {given['encoder']} holds no encoder.safetensors; give the folder that "
            "`noisyctl pretrain-simclr` wrote"
        )
    runs = tuple(given["run"]) or (() if given["encoder"] else (layout.home / "runs",))
    home = _home_of((*runs, given["out"])[0])
    return Inputs(
        runs,
        given["out"],
        given["truth"] or there(layout.home / "truth.zarr"),
        noise,
        probed if probed and (probed / "encoder.safetensors").exists() else None,
        given["images"] or there(layout.home / "images.zarr"),
        _numbers("loss-epochs", given["loss_epochs"]),
        _points(given["tsne"]),
        given["verified"] or there(layout.home / "verified.zarr"),
        given["paths"] or (home and there(home / "paths.zarr")),
        tuple(given["labels"]) or (_labels_of(home) if home else ()),
        bool(given["labels"]),
    )


def _labels_of(home: Path) -> tuple[Path, ...]:
    """The given labels of a data set, and those with noise."""
    return tuple(sorted([*home.glob("labels.zarr"), *home.glob("noise/*/labels.zarr")]))


def _home_of(run: Path) -> Path | None:
    """The data set's folder that a run lies in; None where it lies in none."""
    return next((folder for folder in run.absolute().parents if (folder / "images.zarr").exists()), None)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() for word in words):
        raise ParamsError(f"--{option} is {text!r}; write whole numbers from 0 on, such as 0,10")
    return tuple(map(int, words))


def _points(text: str | None) -> int:
    number = _numbers("tsne", text)
    if text and (len(number) != 1 or not 4 <= number[0] <= MOST_POINTS):
        raise ParamsError(f"--tsne is {text!r}; write the number of samples, 4 to {MOST_POINTS}")
    return number[0] if number else 0


STAGE = Stage(
    name="evaluate",
    summary="Judge runs: metrics, curves, figures, and the list of labels to look at.",
    example="noisyctl evaluate --run data/digits/runs",
    run=run,
    inputs=_inputs,
    options=(
        Option("run", "folder of a run, or of several [data/SET/runs]", multiple=True),
        Option("truth", "truth.zarr [data/SET/truth.zarr where it exists]"),
        Option("verified", "verified.zarr: label accuracy on these where truth has no clean labels"),
        Option("noise_facts", "noise.zarr [those of the data set]", multiple=True),
        Option(
            "encoder",
            "folder of a pretraining, probed with k-NN; without --run it alone is judged [without both: data/SET/PRETRAIN]",
        ),
        Option(
            "labels",
            "labels.zarr that the runs must have been trained on [those of the data set that the run lies in]",
            multiple=True,
        ),
        Option("paths", "paths.zarr, for the lists of samples [beside the images, where the run lies below]"),
        Option("images", "images.zarr, for --tsne and the probe [data/SET/images.zarr where it exists]"),
        Option("loss_epochs", "epochs whose losses are drawn beside the last one's, from 0", metavar="0,10"),
        Option("tsne", f"draw the features of so many samples, at most {MOST_POINTS}", metavar="int"),
        Option("out", "folder to write", lambda layout: layout.home / "results", writes=one(RESULTS)),
    ),
)
