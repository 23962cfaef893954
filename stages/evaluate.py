"""Judge runs: metrics, curves, figures, and samples.csv, the list of labels to look at.

What metrics.json and plots/ hold is told in docs/metrics.md. A key is there where the trace and the truth allow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import files, store
from noisyctl.artifacts.kinds import FEATURES, NOISE, PATHS, TRACE, TRUTH, VERIFIED
from noisyctl.errors import ArtifactError, ParamsError
from stages.common import Option, Session, Stage, one


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


RESULTS = files.Folder("results of evaluate")
MOST_POINTS = 2000
ID, OOD = 1, 2  # verdicts of a trace
Curves = dict[str, np.ndarray]


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write metrics.json, plots/*.tsv, figures/*.png and samples/*.csv for every run found below the given folders."""
    import json

    from noisyctl.evaluation import figures

    truth = store.read(inputs.truth, TRUTH) if inputs.truth else None
    verified = store.read(inputs.verified, VERIFIED) if inputs.verified else None
    facts = [store.read(p, NOISE) for p in inputs.noise]
    metrics: dict[str, Any] = {"runs": {}}
    curves: dict[str, Curves] = {"test_accuracy": {}}
    with files.publish(inputs.out, RESULTS) as partial:
        partial.mkdir()
        for name, trace in sorted(_find(inputs.runs)):
            metrics["runs"][name], found = _judge(name, trace, truth, facts, verified)
            for key, curve in found.items():
                curves.setdefault(key, {})[name] = curve
            _draw(name.replace("/", "-"), trace, truth, inputs, session, partial)
        if inputs.encoder and inputs.images and truth is not None:
            metrics["knn_probe"] = _probe(inputs.encoder, inputs.images, truth, session)
        for key, runs in curves.items():
            file = "accuracy" if key == "test_accuracy" else key
            figures.curves(partial / "figures" / file, runs, f"{key.replace('_', ' ')} [%]")
            rows = [[name, e, _number(v)] for name, curve in runs.items() for e, v in enumerate(curve)]
            _write_tsv(partial / "plots" / f"{file}.tsv", ["run", "epoch", key], rows)
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
        RESULTS.seal(partial)
    return {"runs": len(metrics["runs"]), "out": str(inputs.out), **metrics.get("knn_probe", {})}


def _find(folders: tuple[Path, ...]) -> list[tuple[str, store.Artifact]]:
    found = []
    for folder in folders:
        traces = sorted(folder.rglob("trace.zarr"))
        if not traces:
            raise ArtifactError(f"{folder} holds no run; make one with `noisyctl train-method NAME`")
        for path in traces:
            trace = store.read(path, TRACE)
            found.append((f"{trace.attributes['method']}/{path.parent.name}", trace))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArtifactError(f"two runs are called {twice} (method and folder); evaluate them apart")
    return found


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
    if truth is None:
        return result, {}
    names = list(trace.attributes["class_names"])
    measured, curves = _on_test_images(trace, truth, names)
    clean = _known(truth, "clean_labels", names)
    if clean is not None:
        result["measured_noise"] = float((given != clean).mean())
        on_training, more = _on_training_images(trace, given, clean, trained, curves.get("test_accuracy"))
        measured, curves = measured | on_training, curves | more
    elif verified is not None and "pseudo_labels" in trace:
        measured["label_accuracy"] = _on_verified(trace, given, verified)
    return result | measured, curves


def _on_verified(trace: store.Artifact, given: np.ndarray, verified: store.Artifact) -> dict[str, Any]:
    """Label accuracy of the samples whose labels were checked, where the right labels of the others are not known."""
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

    validation = None
    if "validation_predictions" in trace:
        held_out = trace.array("noisy_labels")[trace.array("validation")]
        validation = measures.accuracies(trace.array("validation_predictions"), held_out)
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
    by_split = {name: measures.selection_rules(curve, validation) for name, curve in curves.items()}
    for name, curve in curves.items():
        if "val_accuracy" in curves:  # clean labels that a user owns: Clothing1M's
            by_split[name]["best_on_clean_validation"] = float(curve[curves["val_accuracy"].argmax()])
    return by_split, curves


def _on_training_images(
    trace: store.Artifact, given: np.ndarray, clean: np.ndarray, trained: np.ndarray, test: np.ndarray | None
) -> tuple[dict[str, Any], Curves]:
    """How well wrong labels are found and corrected. Samples that are held out for validation do not count."""
    from noisyctl.evaluation import measures

    suggested, probability = opinion(trace)
    known = clean >= 0
    result: dict[str, Any] = {
        "suggested_label_accuracy": float(100 * (suggested == clean)[known].mean()),
    }
    given, clean, probability = given[trained], clean[trained], probability[trained]
    wrong, curves = given != clean, Curves()
    called = probability < 0.5
    if "selected" in trace:
        selected = trace.array("selected")[..., trained]
        selected = selected.reshape(
            len(selected), -1, len(given)
        )  # a network axis of one where there is none
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
    if "pseudo_labels" in trace:
        labels, right = trace.array("pseudo_labels")[:, trained], clean >= 0
        result["label_accuracy"] = measures.label_accuracy(labels, given, clean)
        curves["label_accuracy"] = measures.accuracies(labels[:, right], clean[right])
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
    """What shows one run: samples.csv, confusions, histograms of losses, t-SNE; numbers of the figures in plots/."""
    from noisyctl.evaluation import figures, measures

    given, names, trained = (
        trace.array("noisy_labels"),
        list(trace.attributes["class_names"]),
        _trained(trace),
    )
    suggested, probability = opinion(trace)
    ids = trace.array("train_id")
    paths = _paths_of(trace, inputs)
    _write_samples(out / "samples" / f"{stem}.csv", ids, paths, given, suggested, probability, names)
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
    from noisyctl.seeds import stream
    from stages import training

    if inputs.images is None:
        raise ParamsError("--tsne: the images are not in the default place; give --images")
    images, device = training.read_images(inputs.images), session.start()
    store.require_input(trace, "images", images.digest, images.path)
    built, _ = training.read_networks(
        trace.path.parent / "networks.safetensors", "noisyctl train-method NAME"
    )
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


def _write_samples(
    path: Path,
    ids: np.ndarray,
    paths: np.ndarray | None,
    given: np.ndarray,
    suggested: np.ndarray,
    probability: np.ndarray,
    names: list[str],
) -> None:
    """id, path, given, suggested, clean_probability, rank: 1 is the label that is most probably wrong."""
    import csv

    rank = np.empty(len(ids), int)
    rank[np.lexsort((np.arange(len(ids)), suggested == given, probability))] = np.arange(1, len(ids) + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "given_label", "suggested_label", "clean_probability", "rank"])
        for i in range(len(ids)):
            place = "" if paths is None else paths[i]
            labels = [names[given[i]], names[suggested[i]]]
            writer.writerow([ids[i], place, *labels, f"{probability[i]:.6f}", rank[i]])


def _paths_of(trace: store.Artifact, inputs: Inputs) -> np.ndarray | None:
    """Where the run's training images lie; None where they come from no files of their own."""
    if inputs.paths is None:
        return None
    paths = store.read(inputs.paths, PATHS)
    store.require_input(trace, "images", paths.inputs["images"], inputs.paths)
    return paths.array("train_path")


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
    from noisyctl.seeds import stream
    from stages import training

    device = session.start()
    features = store.read(encoder / "features.zarr", FEATURES)
    built, header = training.read_networks(encoder / "encoder.safetensors", "noisyctl pretrain-simclr")
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
    found = {"knn_accuracy": after, "knn_accuracy_untrained": before}
    if (encoder / "clusters.safetensors").exists():
        clusters, _ = training.read_networks(encoder / "clusters.safetensors", "noisyctl cluster-scan")
        network = clusters["network"].to(device)
        with evaluating(network):
            of_test = outputs(network, held_out["test"], plain).argmax(dim=1).cpu().numpy()
        found["clustering_accuracy"] = measures.clustering_accuracy(of_test, test)
    return found


def _inputs(given: Any, layout: Any, extra: Any) -> Inputs:
    def there(path: Path) -> Path | None:
        return path if path.exists() else None

    noise = tuple(given["noise_facts"]) or tuple(
        sorted([*layout.home.glob("noise/*/noise.zarr"), *layout.home.glob("noise.zarr")])
    )
    probed = given["encoder"] or (None if given["run"] else there(layout.encoder))
    runs = tuple(given["run"]) or (layout.home / "runs",)
    home = _home_of(runs[0])
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
    )


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
        Option("encoder", "folder of a pretraining, probed with k-NN [without --run: data/SET/PRETRAIN]"),
        Option("paths", "paths.zarr, for the lists of samples [beside the images, where the run lies below]"),
        Option("images", "images.zarr, for --tsne and the probe [data/SET/images.zarr where it exists]"),
        Option("loss_epochs", "epochs whose losses are drawn beside the last one's, from 0", metavar="0,10"),
        Option("tsne", f"draw the features of so many samples, at most {MOST_POINTS}", metavar="int"),
        Option("out", "folder to write", lambda layout: layout.home / "results", writes=one(RESULTS)),
    ),
)
