"""Judge runs: metrics, curves, figures, and samples.csv, the list of labels to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES, NOISE, TRACE, TRUTH
from noisyctl.errors import ArtifactError
from stages.common import Option, Session, Stage


@dataclass(frozen=True)
class Inputs:
    runs: tuple[Path, ...]
    out: Path
    truth: Path | None = None
    noise: tuple[Path, ...] = ()
    encoder: Path | None = None
    images: Path | None = None


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Write metrics.json, plots/*.tsv, figures/*.png and samples/*.csv for every run found below the given folders."""
    import json

    from noisyctl.evaluation import figures

    truth = store.read(inputs.truth, TRUTH) if inputs.truth else None
    facts = [store.read(p, NOISE) for p in inputs.noise]
    metrics: dict[str, Any] = {"runs": {}}
    curves: dict[str, np.ndarray] = {}
    with store.publish(inputs.out) as partial:
        partial.mkdir()
        for name, trace in sorted(_find(inputs.runs)):
            metrics["runs"][name], curve = _judge(name, trace, truth, facts, partial)
            if curve is not None:
                curves[name] = curve
        if inputs.encoder and inputs.images and truth is not None:
            metrics["knn_probe"] = _probe(inputs.encoder, inputs.images, truth, session)
        figures.accuracy_curves(partial / "figures" / "accuracy.png", curves)
        _write_tsv(partial / "plots" / "accuracy.tsv", curves)
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
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
    return found


def _judge(
    name: str, trace: store.Artifact, truth: store.Artifact | None, facts: list[store.Artifact], out: Path
) -> tuple[dict[str, Any], np.ndarray | None]:
    import torch

    from noisyctl.evaluation import figures, measures
    from noisyctl.parts.mixture import fit_mixture
    from noisyctl.seeds import stream

    if truth is not None:
        store.require_input(trace, "images", truth.inputs["images"], truth.path)
    noise = next((f for f in facts if f.inputs["labels"] == trace.inputs["labels"]), None)
    given = trace.array("noisy_labels")
    result: dict[str, Any] = {
        "method": trace.attributes["method"],
        "seed": trace.attributes["params"]["seed"],
        "verified_labels": "verified" in trace.inputs,
        "hardware": trace.attributes.get("hardware"),
    }
    if noise is not None:
        result["nominal_noise"] = noise.attributes["nominal_rate"]
    names = list(trace.attributes["class_names"])
    clean_labels = _known(truth, "clean_labels", names)
    wrong = None if clean_labels is None else given != clean_labels
    if wrong is not None:
        result["measured_noise"] = float(wrong.mean())
    curve = None
    test_labels = _known(truth, "test_labels", names)
    if test_labels is not None and "test_predictions" in trace:
        judged = test_labels >= 0
        curve = measures.accuracies(trace.array("test_predictions")[:, judged], test_labels[judged])
        validation = None
        if "validation_predictions" in trace:
            held_out = given[trace.array("validation")]
            validation = measures.accuracies(trace.array("validation_predictions"), held_out)
        result["test_accuracy"] = measures.selection_rules(curve, validation)
    suggested, probability = opinion(trace)
    if wrong is not None and clean_labels is not None:
        called = (
            _over_networks(trace.array("selected")[-1]) < 0.5 if "selected" in trace else probability < 0.5
        )
        judged = ~trace.array("validation") if "validation" in trace else np.ones(len(given), bool)
        result["detection"] = measures.detection(probability[judged], wrong[judged], called[judged])
        known = clean_labels >= 0
        result["suggested_label_accuracy"] = float(100 * (suggested == clean_labels)[known].mean())
    if "train_predictions" in trace:
        result["given_labels_fitted"] = float(100 * (trace.array("train_predictions")[-1] == given).mean())
    stem = name.replace("/", "-")
    _write_samples(
        out / "samples" / f"{stem}.csv", trace.array("train_id"), given, suggested, probability, names
    )
    figures.confusion(out / "figures" / f"{stem}-confusion.png", given, suggested, names)
    if "losses" in trace:
        losses = _over_networks(trace.array("losses")[-1])
        mixture = fit_mixture(torch.as_tensor(losses), stream(0, "evaluate", name))
        components = list(zip(*mixture, strict=True))
        figures.loss_histogram(out / "figures" / f"{stem}-losses.png", losses, wrong, components)
    return result, curve


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
    given: np.ndarray,
    suggested: np.ndarray,
    probability: np.ndarray,
    names: list[str],
) -> None:
    """id, given, suggested, clean_probability, rank: 1 is the label that is most probably wrong."""
    import csv

    rank = np.empty(len(ids), int)
    rank[np.lexsort((np.arange(len(ids)), suggested == given, probability))] = np.arange(1, len(ids) + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "given_label", "suggested_label", "clean_probability", "rank"])
        for i in range(len(ids)):
            writer.writerow([ids[i], names[given[i]], names[suggested[i]], f"{probability[i]:.6f}", rank[i]])


def _write_tsv(path: Path, curves: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["run\tepoch\ttest_accuracy"]
    lines += [
        f"{name}\t{epoch}\t{value:.4f}" for name, curve in curves.items() for epoch, value in enumerate(curve)
    ]
    path.write_text("\n".join(lines) + "\n")


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
    test = truth.array("test_labels")

    def accuracy(train: torch.Tensor, queries: torch.Tensor) -> float:
        return float(
            100 * (knn_classify(queries.cpu(), train.cpu(), y, 20, task.num_classes).numpy() == test).mean()
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
    truth = given["truth"] or there(layout.home / "truth.zarr")
    return Inputs(
        runs,
        given["out"],
        truth,
        noise,
        probed if probed and (probed / "encoder.safetensors").exists() else None,
        there(layout.home / "images.zarr"),
    )


STAGE = Stage(
    name="evaluate",
    summary="Judge runs: metrics, curves, figures, and the list of labels to look at.",
    example="noisyctl evaluate --run data/digits/runs",
    run=run,
    inputs=_inputs,
    options=(
        Option("run", "folder of a run, or of several [data/SET/runs]", multiple=True),
        Option("truth", "truth.zarr [data/SET/truth.zarr where it exists]"),
        Option("noise_facts", "noise.zarr [those of the data set]", multiple=True),
        Option("encoder", "folder of a pretraining, probed with k-NN [without --run: data/SET/PRETRAIN]"),
        Option("out", "folder to write", lambda layout: layout.home / "results", output=True),
    ),
)
