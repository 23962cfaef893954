"""Runs judged: from traces and what is known of the truth to metrics, figures and lists of labels to look at."""

import contextlib
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl.artifacts import files, store
from noisyctl.artifacts import metrics as metrics_json
from noisyctl.artifacts.kinds import FEATURES, LABELS, NOISE, PATHS, TRACE, TRUTH, VERIFIED
from noisyctl.errors import ArtifactError, ParamsError
from noisyctl.evaluation import drawing, judging, lists, measures
from noisyctl.evaluation.judging import Curves
from noisyctl.nn.inference import BATCH, evaluating, outputs
from noisyctl.nn.networks import build
from noisyctl.parts.neighbors import knn_classify
from noisyctl.runs import fresh
from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.runs.question import Question
from noisyctl.runs.reading import (
    first_classifier,
    read_label_free,
    read_run,
    require_whole_run,
)
from noisyctl.runs.samples import read_samples
from noisyctl.runs.tasks import make_task
from noisyctl.seeds import stream
from noisyctl.session import Session
from noisyctl.training.scratch import hold

TRAIN = "noisyctl train-method NAME"
PROBE_NEIGHBORS = 20

Keep = Callable[
    [str, store.Artifact, Callable[[], Tensors]], Tensors
]  # a run as it was kept, or judged now and kept


@dataclass(frozen=True, eq=False)
class Known:
    """What is known beside the runs: the truth, the noise's facts, and labels that a person has checked."""

    truth: store.Artifact | None
    facts: tuple[store.Artifact, ...]
    verified: store.Artifact | None


@dataclass(frozen=True)
class Listed:
    """A list of labels to look at: what metrics.json says of it, with its path, and its first rows by column."""

    about: dict[str, Any]
    first: list[dict[str, Any]]


def evaluate(
    question: Question, results: files.Folder, session: Session
) -> tuple[dict[str, Any], dict[str, Listed]]:
    """Write metrics.json, scores.json, plots, figures and samples/*.csv of all runs, as a folder of the form `results`.

    Of several runs each is kept when it has been judged, until all are published. Gives the metrics, and the list of each
    run by its name. Raises ArtifactError where a run is stale, of other images than the truth, or damaged.
    """
    known = Known(
        store.read(question.truth, TRUTH) if question.truth else None,
        tuple(store.read(path, NOISE) for path in question.noise),
        store.read(question.verified, VERIFIED) if question.verified else None,
    )
    metrics: dict[str, Any] = {"runs": {}}
    curves: dict[str, Curves] = {"test_accuracy": {}}
    listed: dict[str, Listed] = {}
    found = sorted(_find(question.runs))
    with (
        _kept(question, known, len(found), session) as keep,
        files.publish(question.out, results) as partial,
    ):
        partial.mkdir()
        report = session.progress("evaluate", "runs", kept=len(found) > 1)
        for done, (name, trace) in enumerate(found, start=1):
            _require_fresh(trace, question)
            judged = keep(name, trace, functools.partial(_judged, name, trace, known, question, session))
            for key, curve in _unpacked(judged, partial).items():
                curves.setdefault(key, {})[name] = curve
            metrics["runs"][name], first = json.loads(judged["told"].numpy().tobytes())
            place = question.out / "samples" / f"{_stem(name)}.csv"
            listed[name] = Listed(metrics["runs"][name]["list"] | {"path": str(place)}, first)
            report(done, len(found))
        if question.encoder and question.images and known.truth:
            metrics["knn_probe"] = _probe(question.encoder, question.images, known.truth, session)
        if not question.runs and not metrics.get("knn_probe"):
            raise ParamsError(
                "--encoder without --run judges the encoder alone, which takes images and a truth with test labels; give "
                "--images and --truth, or a --run"
            )
        for key, runs in curves.items() if question.runs else ():
            drawing.draw_curves(partial, key, runs)
        metrics_json.write(partial / "metrics.json", metrics)
        metrics_json.write_scores(partial / "scores.json", metrics)
        results.seal(partial)
    return metrics, listed


@contextlib.contextmanager
def _kept(question: Question, known: Known, runs: int, session: Session) -> Iterator[Keep]:
    """What keeps a judged run, as a block in the scratch folder; one run alone is judged and not kept."""
    if runs < 2:
        yield lambda name, trace, judge: judge()
        return
    paths = None if question.paths is None else store.read(question.paths, PATHS)
    facts: dict[str, Any] = {
        "known": [a.digest for a in (known.truth, *known.facts, known.verified, paths) if a is not None],
        "drawn": [list(question.loss_epochs), question.tsne, str(question.images)],
        "numerics": session.numerics(session.start(), "float32") if question.tsne else {},
    }
    with hold(session.scratch, "evaluate", facts, question.out) as scratch:

        def keep(name: str, trace: store.Artifact, judge: Callable[[], Tensors]) -> Tensors:
            about = json.dumps([name, str(trace.path.absolute()), trace.digest])
            return Blocks(scratch, hashlib.sha256(about.encode()).hexdigest()[:16]).kept(0, judge)

        yield keep


def _judged(name: str, trace: store.Artifact, known: Known, question: Question, session: Session) -> Tensors:
    """All that is found of a run, as bytes: its block of metrics.json with the first rows of its list, curves and files."""
    result, curves = _judge(trace, known)
    with tempfile.TemporaryDirectory(prefix="noisyctl-evaluate-") as folder:
        place = Path(folder)
        names, paths = list(trace.attributes["class_names"]), _paths_of(trace, question.paths)
        about = result["list"]
        first = lists.write_list(
            place / "samples" / f"{_stem(name)}.csv", trace, names, paths, about["warning"]
        )
        _draw(drawing.Canvas(place, _stem(name)), trace, known.truth, question, session)
        written = {
            f"file {path.relative_to(place)}": torch.from_numpy(np.fromfile(path, np.uint8))
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
    told = np.frombuffer(json.dumps([result, first]).encode(), np.uint8).copy()
    drawn = {f"curve {key}": torch.from_numpy(np.asarray(curve)) for key, curve in curves.items()}
    return {"told": torch.from_numpy(told)} | drawn | written


def _unpacked(judged: Tensors, place: Path) -> Curves:
    """The curves of a judged run, whose files are written below `place`."""
    for name, content in judged.items():
        if name.startswith("file "):
            file = place / name.removeprefix("file ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.numpy().tobytes())
    return {n.removeprefix("curve "): c.numpy() for n, c in judged.items() if n.startswith("curve ")}


def _stem(name: str) -> str:
    """The name of a run as its files have it."""
    return name.replace("/", "-")


def _find(folders: tuple[Path, ...]) -> list[tuple[str, store.Artifact]]:
    """The traces below the folders, each with the name of its run: method and folder."""
    found = []
    for folder in folders:
        traces = sorted(folder.rglob("trace.zarr"))
        if not traces:
            raise ArtifactError(f"{folder} holds no run; make one with `noisyctl train-method NAME`")
        for path in traces:
            trace = store.read(path, TRACE)
            require_whole_run(trace, TRAIN)
            found.append((f"{trace.attributes['method']}/{path.parent.name}", trace))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArtifactError(f"two runs are called {twice} (method and folder); evaluate them apart")
    return found


def _require_fresh(trace: store.Artifact, question: Question) -> None:
    """Refuse a run that was trained on other images or labels than those that lie there now.

    A run's labels are those with its digest, or else those of its cell, such as noise/sym60-s0. Raises ArtifactError that
    names the first thing to make again.
    """
    if not question.labels:
        return
    cell, seed = trace.path.parent.name, trace.attributes["params"].get("seed")
    by_digest = {store.read(path, LABELS).digest: path for path in question.labels}
    by_cell = {
        f"given-s{seed}" if path.parent.parent.name != "noise" else path.parent.name: path
        for path in question.labels
    }
    labels = by_digest.get(trace.inputs["labels"]) or by_cell.get(cell)
    if labels is None:
        if not question.labels_given:
            return
        labels = question.labels[0]
    home = labels.parent.parent.parent if labels.parent.parent.name == "noise" else labels.parent
    images = home / "images.zarr"
    noise = cell.removesuffix(f"-s{seed}")
    options = f" --dataset {home.name} --noise {noise} --seed {seed}" if noise != cell else ""
    method = trace.attributes["method"]
    command = f"noisyctl {'warmup' if method == 'warmup' else f'train-method {method}'}{options}"
    chosen = fresh.labeled(images if images.exists() else None, labels)
    fresh.require([fresh.trained(chosen, trace.path.parent, command)])


def _judge(trace: store.Artifact, known: Known) -> tuple[dict[str, Any], Curves]:
    """The run's block of metrics.json, and its curves over epochs."""
    truth = known.truth
    if truth is not None:
        store.require_input(trace, "images", truth.inputs["images"], truth.path)
    given = trace.array("noisy_labels")
    result = _about(trace, known.facts)
    if "train_predictions" in trace:
        fitted = trace.array("train_predictions")[-1] == given
        result["given_labels_fitted"] = float(100 * fitted[judging.trained_samples(trace)].mean())
    clean = _clean_labels(trace, truth)
    wrong = None if clean is None else given != clean
    result["list"] = judging.trusted(trace, wrong, by_neighbors="neighbors" in trace.inputs)
    if truth is None:
        return result, {}
    by_split = _labels_by_split(trace, truth)
    names = list(trace.attributes["class_names"])
    measured, curves = judging.on_test_images(trace, by_split, names)
    measured |= judging.of_further_classifiers(trace, by_split)
    if clean is not None:
        result["measured_noise"] = float((given != clean).mean())
        test, told = curves.get("test_accuracy"), _told(trace, known.verified)
        on_training, more = judging.on_training_images(trace, clean, class_names=names, test=test, told=told)
        measured, curves = measured | on_training, curves | more
    elif known.verified is not None and "pseudo_labels" in trace and "verified" not in trace.inputs:
        measured["label_accuracy"] = _on_verified(trace, given, known.verified)
    return result | measured, curves


def _about(trace: store.Artifact, facts: Sequence[store.Artifact]) -> dict[str, Any]:
    """What the trace says of its run, and the nominal rate of its noise."""
    params = trace.attributes["params"]
    result: dict[str, Any] = {
        "method": trace.attributes["method"],
        "seed": params["seed"],
        "params": params,
        "inputs": dict(trace.inputs),
        "verified_labels": "verified" in trace.inputs,
        "hardware": trace.attributes.get("hardware"),
        "assumed": sorted(
            name for name, value in params.items() if name.startswith("assumed_") and value is not None
        ),
    }
    noise = next((f for f in facts if f.inputs["labels"] == trace.inputs["labels"]), None)
    if noise is not None:
        result["nominal_noise"] = noise.attributes["nominal_rate"]
    return result


def _labels_by_split(trace: store.Artifact, truth: store.Artifact) -> dict[str, np.ndarray]:
    """The labels of the truth as the run numbers its classes, by split; -1 where the run knows no such class."""
    names, classes = trace.attributes["class_names"], truth.attributes["class_names"]
    return {
        name.removesuffix("_labels"): judging.known_labels(truth.array(name), classes, names)
        for name in truth.names
        if name != "clean_labels"
    }


def _clean_labels(trace: store.Artifact, truth: store.Artifact | None) -> np.ndarray | None:
    """The same of the training images; None where their clean labels are not known."""
    if truth is None or "clean_labels" not in truth:
        return None
    names, classes = trace.attributes["class_names"], truth.attributes["class_names"]
    return judging.known_labels(truth.array("clean_labels"), classes, names)


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
    store.require_input(trace, "images", verified.inputs["images"], verified.path)
    checked = np.full(len(given), -1)
    checked[verified.array("index")] = verified.array("verified_labels")
    return measures.label_accuracy(trace.array("pseudo_labels"), given, checked)


def _draw(
    canvas: drawing.Canvas,
    trace: store.Artifact,
    truth: store.Artifact | None,
    question: Question,
    session: Session,
) -> None:
    """The figures of one run, and their numbers."""
    clean, given = _clean_labels(trace, truth), trace.array("noisy_labels")
    names = list(trace.attributes["class_names"])
    drawing.draw_confusions(canvas, trace, names, clean)
    wrong = None if clean is None else given != clean
    if "losses" in trace:
        epochs = len(trace.array("losses"))
        beyond = [epoch for epoch in question.loss_epochs if epoch >= epochs]
        if beyond:
            raise ParamsError(
                f"--loss-epochs {beyond[0]}: {trace.path} has epochs 0 to {epochs - 1}; choose among these"
            )
        drawing.draw_losses(canvas, trace, wrong, question.loss_epochs)
    if question.tsne:
        rng = stream(0, "evaluate", "tsne", canvas.stem)
        index = torch.randperm(len(given), generator=rng)[: question.tsne].sort().values
        features = _features(trace, question.images, index, session)
        if features is not None:
            at = index.numpy()
            labels = given if clean is None else clean
            ids, off = trace.array("train_id")[at], None if wrong is None else wrong[at]
            drawing.draw_points(canvas, drawing.Points(features, ids, labels[at], off), names, rng)


def _features(
    trace: store.Artifact, place: Path | None, index: torch.Tensor, session: Session
) -> np.ndarray | None:
    """Features [m d] of the run's first network for some training images; None where it has no network."""
    if place is None:
        raise ParamsError("--tsne: the images are not in the default place; give --images")
    samples, device = read_samples(place, _vectors_of(trace)), session.start()
    for name, digest in samples.made_from.items():
        store.require_input(trace, name, digest, place if name == "images" else samples.artifact.path)
    built, _ = read_run(trace.path.parent, TRAIN)
    network = first_classifier(built)
    if network is None:
        return None
    network, (task, _) = network.to(device), make_task(samples, device)
    with evaluating(network):
        features = [network.features(task.plain(part.to(device))).float() for part in index.split(BATCH)]
    return torch.cat(features).cpu().numpy()


def _vectors_of(trace: store.Artifact) -> Path | None:
    """Where the vectors lie that the run was trained on, in the folder of their encoder; None of a run on images."""
    if "features" not in trace.inputs:
        return None
    place = trace.path.parents[3] / "features.zarr"
    if not place.exists():
        raise ParamsError(
            f"--tsne: {trace.path.parent} was trained on vectors that are not at {place}; leave out --tsne"
        )
    return place


def _paths_of(trace: store.Artifact, place: Path | None) -> np.ndarray | None:
    """Where the run's training images lie; None where they come from no files of their own."""
    if place is None:
        return None
    paths = store.read(place, PATHS)
    store.require_input(trace, "images", paths.inputs["images"], place)
    return paths.array("train_path")


def _probe(folder: Path, place: Path, truth: store.Artifact, session: Session) -> dict[str, Any]:
    """k-NN accuracy on the test split of the trained encoder's features, and of the same encoder untrained.

    Empty where there are no features or no labels of test images.
    """
    device = session.start()
    features = store.read(folder / "features.zarr", FEATURES)
    encoder, header = read_label_free(folder / "encoder.safetensors", "encoder", "noisyctl pretrain-simclr")
    store.require_input(features, "encoder", header.digest, folder / "encoder.safetensors")
    images = read_samples(place, None)
    if "test_labels" not in truth or "test_features" not in features:
        return {}
    task, held_out = make_task(images, device)
    assert task.images is not None and task.views is not None
    plain, test = task.views.plain, truth.array("test_labels")
    stage = f"pretrain-{folder.name}"  # as its folder
    untrained = build(encoder.spec, stream(header.params["seed"], stage, "init")).to(device)
    with evaluating(untrained):
        before = [outputs(untrained.features, x, plain) for x in (task.images, held_out["test"])]
    after = [torch.as_tensor(features.array(name)) for name in ("features", "test_features")]
    found: dict[str, Any] = {
        "knn_accuracy": _knn_accuracy(truth, *after),
        "knn_accuracy_untrained": _knn_accuracy(truth, *before),
        "encoder_params": header.params,
    }
    if (folder / "clusters.safetensors").exists():
        clusters, about = read_label_free(
            folder / "clusters.safetensors", "clusters", "noisyctl cluster-scan"
        )
        network = clusters.to(device)
        with evaluating(network):
            of_test = outputs(network, held_out["test"], plain).argmax(dim=1).cpu().numpy()
        found["clustering_accuracy"] = measures.clustering_accuracy(of_test, test)
        found["clusters_params"] = about.params
    return found


def _knn_accuracy(truth: store.Artifact, train: torch.Tensor, queries: torch.Tensor) -> float:
    """Percent of the test images whose nearest training images have their class, by the clean labels."""
    y, num_classes = torch.as_tensor(truth.array("clean_labels")), len(truth.attributes["class_names"])
    said = knn_classify(queries.cpu(), train.cpu(), y, PROBE_NEIGHBORS, num_classes).numpy()
    return float(100 * (said == truth.array("test_labels")).mean())
